package mesh

import (
	"encoding/binary"
	"fmt"
)

// appendBytes appends b behind its length.
func appendBytes(dst, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

// appendString appends s behind its length.
func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// appendBool appends one byte, 0 or 1.
func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// decoder reads a payload field by field. After the first fault it yields
// zero values only, so callers check once, at the end. Nothing it returns is
// longer than what is left of the input, so it never allocates beyond it.
type decoder struct {
	b   []byte
	err error
}

// fail records the first fault and drops the rest of the input.
func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
	}
	d.b = nil
}

func (d *decoder) u8(what string) uint8 {
	if len(d.b) < 1 {
		d.fail("%s is cut off", what)
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) u32(what string) uint32 {
	if len(d.b) < 4 {
		d.fail("%s is cut off", what)
		return 0
	}
	v := binary.BigEndian.Uint32(d.b)
	d.b = d.b[4:]
	return v
}

func (d *decoder) u64(what string) uint64 {
	if len(d.b) < 8 {
		d.fail("%s is cut off", what)
		return 0
	}
	v := binary.BigEndian.Uint64(d.b)
	d.b = d.b[8:]
	return v
}

func (d *decoder) uvarint(what string) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("%s is not a number", what)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint(what string) int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("%s is not a number", what)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) boolean(what string) bool {
	v := d.u8(what)
	if v > 1 {
		d.fail("%s is %d, neither 0 nor 1", what, v)
	}
	return v == 1
}

// bytes returns a field of at most max bytes, aliasing the input; nil when
// the field is empty.
func (d *decoder) bytes(what string, max int) []byte {
	n := d.uvarint(what)
	if d.err != nil {
		return nil
	}
	if n > uint64(max) || n > uint64(len(d.b)) {
		d.fail("%s has length %d", what, n)
		return nil
	}
	if n == 0 {
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) str(what string, max int) string { return string(d.bytes(what, max)) }

// finish reports the first fault; bytes left over are one.
func (d *decoder) finish() error {
	if d.err == nil && len(d.b) != 0 {
		d.fail("%d bytes left over", len(d.b))
	}
	return d.err
}
