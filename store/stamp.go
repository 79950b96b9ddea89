package store

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Host-wide records: hostPartition u32 | kind u8 | name.
const (
	hostStamp byte = 0
	hostMeta  byte = 1
)

func hostKey(kind byte, name string) []byte {
	return append(append(appendPartition(nil, hostPartition), kind), name...)
}

// stamp verifies whose directory this is, or writes it into a new one.
func (e *DocEngine) stamp() error {
	key := hostKey(hostStamp, "")
	v, ok, err := get(e.db, key)
	if err != nil {
		return metaError(hostPartition, err)
	}
	if !ok {
		empty, err := e.empty()
		if err != nil {
			return err
		}
		if !empty {
			return &CorruptionError{Partition: hostPartition, Kind: "meta", Err: fmt.Errorf("directory %s has data but no stamp", e.opts.Dir)}
		}
		value := encodeStamp(e.opts.Cluster, e.opts.Host, e.opts.Incarnation)
		return e.stop.guard(func() error { return e.db.Set(key, value, pebble.Sync) })
	}
	cluster, host, incarnation, err := decodeStamp(v)
	if err != nil {
		return &CorruptionError{Partition: hostPartition, Kind: "meta", Err: fmt.Errorf("stamp: %w", err)}
	}
	return checkOwner(e.opts.Dir, [3]string{cluster, host, incarnation}, [3]string{e.opts.Cluster, e.opts.Host, e.opts.Incarnation})
}

func (e *DocEngine) empty() (bool, error) {
	it, err := e.db.NewIter(nil)
	if err != nil {
		return false, metaError(hostPartition, err)
	}
	found := it.First()
	if err := it.Close(); err != nil {
		return false, metaError(hostPartition, err)
	}
	return !found, nil
}

// formatVersion is that of everything in a directory. Most records carry none of their own, so a program that does not
// know a directory's version must not touch it.
const formatVersion = 1

// encodeStamp returns the version, then cluster, host and incarnation, each with its length, and a checksum.
func encodeStamp(cluster, host, incarnation string) []byte {
	b := appendLengthed([]byte{formatVersion}, []byte(cluster))
	b = appendLengthed(b, []byte(host))
	return seal(appendLengthed(b, []byte(incarnation)))
}

func decodeStamp(v []byte) (cluster, host, incarnation string, err error) {
	body, err := unseal(v)
	if err != nil {
		return "", "", "", err
	}
	const limit = 1 << 10
	r := reader{b: body}
	if v := r.byte(); r.err == nil && v != formatVersion {
		r.fail(fmt.Sprintf("format version %d, this program knows %d", v, formatVersion))
	}
	cluster, host, incarnation = string(r.lengthed(limit)), string(r.lengthed(limit)), string(r.lengthed(limit))
	return cluster, host, incarnation, r.end()
}

// checkOwner compares {cluster, host, incarnation}.
func checkOwner(dir string, have, want [3]string) error {
	for i, what := range [3]string{"cluster", "host", "incarnation"} {
		if have[i] != want[i] {
			return &WrongOwnerError{Dir: dir, What: what, Have: have[i], Want: want[i]}
		}
	}
	return nil
}
