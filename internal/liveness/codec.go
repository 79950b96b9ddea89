package liveness

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Beat is what a leading host tells a following one.
type Beat struct {
	Version uint64 // of the set
	Digest  uint64 // of the set, and of the sender's process
	Listed  bool
	Pairs   []Pair // the set, by partition, when Listed
}

// Answer is what the other says. Without Yes nothing is promised; with it, everything of the list but what is refused.
type Answer struct {
	Yes      bool
	Unlisted bool     // it has another list: send yours
	Refused  []uint32 // what of the list it does not follow
}

const (
	codecVersion = 1
	// maxPairs bounds a list before anything is allocated for it.
	maxPairs = 1 << 16
)

var errMalformed = errors.New("malformed beat")

// AppendBinary encodes: codec u8 | version uvarint | digest 8 bytes | listed u8 | if listed: count uvarint | count ×
// (partition difference, term) uvarint.
func (b Beat) AppendBinary(out []byte) []byte {
	out = append(out, codecVersion)
	out = binary.AppendUvarint(out, b.Version)
	out = binary.BigEndian.AppendUint64(out, b.Digest)
	if !b.Listed {
		return append(out, 0)
	}
	out = append(out, 1)
	out = binary.AppendUvarint(out, uint64(len(b.Pairs)))
	last := uint32(0)
	for _, p := range b.Pairs {
		out = binary.AppendUvarint(out, uint64(p.Partition-last))
		out = binary.AppendUvarint(out, p.Term)
		last = p.Partition
	}
	return out
}

// DecodeBeat is the inverse of AppendBinary.
func DecodeBeat(in []byte) (Beat, error) {
	d := decoder{b: in}
	if v := d.byte(); d.err == nil && v != codecVersion {
		return Beat{}, fmt.Errorf("%w: version %d", errMalformed, v)
	}
	b := Beat{Version: d.uvarint()}
	if digest := d.take(8); len(digest) == 8 {
		b.Digest = binary.BigEndian.Uint64(digest)
	}
	b.Listed = d.byte() != 0
	if b.Listed {
		n := d.count()
		last := uint64(0)
		for i := range n {
			diff := d.uvarint()
			if i > 0 && diff == 0 || last+diff > 1<<32-1 || diff > 1<<32-1 {
				return Beat{}, fmt.Errorf("%w: partitions out of order", errMalformed)
			}
			last += diff
			b.Pairs = append(b.Pairs, Pair{uint32(last), d.uvarint()})
			if d.err != nil {
				break
			}
		}
	}
	return b, d.end()
}

// AppendBinary encodes: codec u8 | flags u8 (1 yes, 2 unlisted) | count uvarint | count × partition uvarint.
func (a Answer) AppendBinary(out []byte) []byte {
	flags := byte(0)
	if a.Yes {
		flags |= 1
	}
	if a.Unlisted {
		flags |= 2
	}
	out = append(out, codecVersion, flags)
	out = binary.AppendUvarint(out, uint64(len(a.Refused)))
	for _, p := range a.Refused {
		out = binary.AppendUvarint(out, uint64(p))
	}
	return out
}

// DecodeAnswer is the inverse of AppendBinary.
func DecodeAnswer(in []byte) (Answer, error) {
	d := decoder{b: in}
	if v := d.byte(); d.err == nil && v != codecVersion {
		return Answer{}, fmt.Errorf("%w: version %d", errMalformed, v)
	}
	flags := d.byte()
	a := Answer{Yes: flags&1 != 0, Unlisted: flags&2 != 0}
	for range d.count() {
		p := d.uvarint()
		if p > 1<<32-1 {
			return Answer{}, fmt.Errorf("%w: partition %d", errMalformed, p)
		}
		a.Refused = append(a.Refused, uint32(p))
	}
	if a.Yes && a.Unlisted {
		return Answer{}, fmt.Errorf("%w: yes and no", errMalformed)
	}
	return a, d.end()
}

// decoder takes fields off the front; the first failure sticks.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n > len(d.b) {
		d.err, d.b = fmt.Errorf("%w: truncated", errMalformed), nil
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); len(v) == 1 {
		return v[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || d.err != nil {
		d.err, d.b = fmt.Errorf("%w: truncated", errMalformed), nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads a number of elements, each of at least one byte.
func (d *decoder) count() uint64 {
	n := d.uvarint()
	if n > maxPairs || n > uint64(len(d.b)) {
		d.err, d.b = fmt.Errorf("%w: %d elements in %d bytes", errMalformed, n, len(d.b)), nil
		return 0
	}
	return n
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		return fmt.Errorf("%w: %d bytes too many", errMalformed, len(d.b))
	}
	return d.err
}
