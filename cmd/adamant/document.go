package main

import (
	"github.com/spf13/cobra"
)

func newDoc() *cobra.Command {
	return group("doc", "Read and write documents of a running cluster", `  adamant doc create games/g1 --redo '{"turn":"white"}' --undo '{"turn":null}'
  adamant doc append games/g1 --redo '{"turn":"black"}' --undo '{"turn":"white"}'
  adamant doc get games/g1
  adamant doc log games/g1
  adamant doc list --space games`,
		newDocGet(), newDocHeadPatch(), newDocRewind(), newDocLog(), newDocList(),
		newDocCreate(), newDocAppend(), newDocCompact(), newDocReplace(), newDocDelete())
}
