package lincheck

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Redo is the patch that brings entries to a document that shows them all: each is a member, its id by its seq.
func Redo(seq int64, ids ...string) []byte {
	m := map[string]string{}
	for i, id := range ids {
		m[strconv.FormatInt(seq+int64(i), 10)] = id
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // plain data
	}
	return b
}

// Entries reads such a document: its first seq, and the ids from there to its head. It is an error when one is missing.
func Entries(doc []byte, head int64) (int64, []string, error) {
	var m map[string]string
	if err := json.Unmarshal(doc, &m); err != nil {
		return 0, nil, err
	}
	var seqs []int64
	for k := range maps.Keys(m) {
		n, err := strconv.ParseInt(k, 10, 64)
		if err != nil {
			return 0, nil, err
		}
		seqs = append(seqs, n)
	}
	slices.Sort(seqs)
	var ids []string
	for i, n := range seqs {
		if n != seqs[0]+int64(i) {
			return 0, nil, fmt.Errorf("there is nothing at seq %d: %v", seqs[0]+int64(i), seqs)
		}
		ids = append(ids, m[strconv.FormatInt(n, 10)])
	}
	if len(seqs) == 0 || seqs[len(seqs)-1] != head {
		return 0, nil, fmt.Errorf("head is %d, but the entries are %v", head, seqs)
	}
	return seqs[0], ids, nil
}
