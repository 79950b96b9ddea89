package antientropy

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/adamantdb/adamant/internal/interval"
	"github.com/adamantdb/adamant/merkle"
)

// decoder takes values off the front of b. After the first failure it returns zero values, and end says what it was.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrMessage, what)
	}
	d.b = nil
}

// version comes before everything else, the checksum too: another version may have none.
func (d *decoder) version() {
	if v := d.byte(); d.err == nil && v != messageVersion {
		d.err, d.b = errors.Join(ErrMessage, &VersionError{Version: v}), nil
	}
}

// verified takes the kind off the front and the checksum of the whole message off the end; the message of one kind has a
// small one.
func (d *decoder) verified(message []byte, small kind) kind {
	k := kind(d.byte())
	length := checksumLen
	if k == small {
		length = smallSumLen
	}
	if d.err != nil {
		return k
	}
	if len(d.b) < length {
		d.fail("truncated")
		return k
	}
	n := len(message) - length
	sum := xxhash.Sum64(message[:n])
	if k == small && uint32(sum) != binary.BigEndian.Uint32(message[n:]) || k != small && sum != binary.BigEndian.Uint64(message[n:]) {
		d.fail("checksum")
		return k
	}
	d.b = d.b[:len(d.b)-length]
	return k
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("bytes left over")
	}
	return d.err
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.b) {
		d.fail("truncated")
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if v := d.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 {
		d.fail("number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v := d.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (d *decoder) atMost(most uint64) int {
	v := d.uvarint()
	if v > most {
		d.fail("number out of bounds")
		return 0
	}
	return int(v)
}

// count reads how many things follow, each of which takes at least so many bytes.
func (d *decoder) count(most, least int) int {
	n := d.atMost(uint64(most))
	if n > len(d.b)/least {
		d.fail("more things than bytes")
		return 0
	}
	return n
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail("truncated")
		return nil
	}
	return d.take(int(n))
}

func (d *decoder) list() [][]byte {
	var list [][]byte
	for range d.count(maxItems, 1) {
		list = append(list, d.bytes())
	}
	return list
}

func (d *decoder) sum() merkle.Sum { return merkle.Sum{A: d.u64(), B: d.u64()} }

func (d *decoder) summary() merkle.Summary {
	if d.err != nil {
		return merkle.Summary{}
	}
	s, rest, err := merkle.DecodeCompact(d.b)
	if err != nil {
		d.fail(err.Error())
		return merkle.Summary{}
	}
	d.b = rest
	return s
}

func (d *decoder) intervals() interval.Set {
	if d.err != nil {
		return nil
	}
	s, rest, err := interval.Decode(d.b)
	if err != nil {
		d.fail(err.Error())
		return nil
	}
	d.b = rest
	return s
}
