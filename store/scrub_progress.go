package store

import (
	"encoding/binary"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// ScrubProgress is how far a member's scrub is.
type ScrubProgress struct {
	Done     int       // buckets of the present pass that were read, 0 to 255
	Began    time.Time // the present pass, by the plan; zero before the first
	Finished time.Time // the newest whole pass; zero when there was none
}

// ScrubProgress returns what SetScrubProgress stored. A record that cannot be read is none: then a pass begins anew.
func (d *Documents) ScrubProgress() (ScrubProgress, error) {
	if err := d.acquire(); err != nil {
		return ScrubProgress{}, err
	}
	defer d.engine.release()
	v, ok, err := get(d.engine.db, appendMeta(nil, d.partition, metaScrub))
	if err != nil {
		return ScrubProgress{}, metaError(d.partition, err)
	}
	if !ok {
		return ScrubProgress{}, nil
	}
	p, err := decodeScrubProgress(v)
	if err != nil {
		d.engine.opts.Logger.Warn("the scrub's progress cannot be read", "partition", d.partition, "err", err)
		return ScrubProgress{}, nil
	}
	return p, nil
}

// SetScrubProgress stores a scrub's progress, without fsync: what a crash loses is read once more.
func (d *Documents) SetScrubProgress(p ScrubProgress) error {
	unlock, err := d.enter()
	if err != nil {
		return err
	}
	defer unlock()
	value := appendScrubProgress(nil, p)
	return d.engine.stop.guard(func() error {
		return d.engine.db.Set(appendMeta(nil, d.partition, metaScrub), value, pebble.NoSync)
	})
}

// appendScrubProgress appends done uvarint | began u64 | finished u64; times in Unix nanoseconds, 0 for none.
func appendScrubProgress(b []byte, p ScrubProgress) []byte {
	b = binary.AppendUvarint(b, uint64(p.Done))
	for _, t := range []time.Time{p.Began, p.Finished} {
		nanos := int64(0)
		if !t.IsZero() {
			nanos = t.UnixNano()
		}
		b = binary.BigEndian.AppendUint64(b, uint64(nanos))
	}
	return seal(b)
}

func decodeScrubProgress(v []byte) (ScrubProgress, error) {
	body, err := unseal(v)
	if err != nil {
		return ScrubProgress{}, err
	}
	r := reader{b: body}
	p := ScrubProgress{Done: int(min(r.uvarint(), 255))}
	for _, t := range []*time.Time{&p.Began, &p.Finished} {
		if nanos := int64(r.u64()); nanos != 0 {
			*t = time.Unix(0, nanos)
		}
	}
	return p, r.end()
}
