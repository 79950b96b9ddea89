package sim

import (
	"time"

	"github.com/adamantdb/adamant/internal/lincheck"
)

// linearizable checks one document's operations.
func linearizable(ops []op, patience time.Duration) lincheck.Result {
	var list []lincheck.Op
	for _, o := range ops {
		list = append(list, lincheck.Op{Client: o.client, Kind: o.kind, Seq: o.seq, IDs: o.ids, Known: o.known, Found: o.found, Head: o.head, Call: o.call, Ret: o.ret})
	}
	return lincheck.Check(list, patience)
}
