package store

import (
	"encoding/binary"
	"math/bits"
)

// The step of a chain is taken for every delta that is written, pulled or scrubbed, and most deltas are small. xxhash's Digest is
// made for long inputs in pieces; here both lanes go over the input together, which is in one piece but for the chain before it.

const (
	xxPrime1 uint64 = 11400714785074694791
	xxPrime2 uint64 = 14029467366897019727
	xxPrime3 uint64 = 1609587929392839161
	xxPrime4 uint64 = 9650029242287828579
	xxPrime5 uint64 = 2870177450012600261

	xxStripe = 32
)

// xxLane is the state of one xxhash64.
type xxLane struct{ v1, v2, v3, v4 uint64 }

func newLane(seed uint64) xxLane {
	return xxLane{v1: seed + xxPrime1 + xxPrime2, v2: seed + xxPrime2, v3: seed, v4: seed - xxPrime1}
}

// xxMixed is round for an input that was multiplied already: both lanes need that product.
func xxMixed(v, product uint64) uint64 { return bits.RotateLeft64(v+product, 31) * xxPrime1 }

// laneSums returns the xxhash64 with two seeds of prefix and b in one piece; the prefix is shorter than a stripe.
func laneSums(seedA, seedB uint64, prefix, b []byte) (sumA, sumB uint64) {
	n := uint64(len(prefix) + len(b))
	var first [xxStripe]byte
	at := copy(first[:], prefix)
	taken := copy(first[at:], b)
	if n < xxStripe {
		return xxTail(seedA+xxPrime5+n, first[:n]), xxTail(seedB+xxPrime5+n, first[:n])
	}
	x, y := newLane(seedA), newLane(seedB)
	xxStripes(&x, &y, first[:])
	b = b[taken:]
	whole := len(b) &^ (xxStripe - 1)
	xxStripes(&x, &y, b[:whole])
	return xxTail(x.merged()+n, b[whole:]), xxTail(y.merged()+n, b[whole:])
}

// xxStripes takes whole stripes into both lanes.
func xxStripes(x, y *xxLane, b []byte) {
	x1, x2, x3, x4 := x.v1, x.v2, x.v3, x.v4
	y1, y2, y3, y4 := y.v1, y.v2, y.v3, y.v4
	for len(b) >= xxStripe {
		p := binary.LittleEndian.Uint64(b) * xxPrime2
		x1, y1 = xxMixed(x1, p), xxMixed(y1, p)
		p = binary.LittleEndian.Uint64(b[8:]) * xxPrime2
		x2, y2 = xxMixed(x2, p), xxMixed(y2, p)
		p = binary.LittleEndian.Uint64(b[16:]) * xxPrime2
		x3, y3 = xxMixed(x3, p), xxMixed(y3, p)
		p = binary.LittleEndian.Uint64(b[24:]) * xxPrime2
		x4, y4 = xxMixed(x4, p), xxMixed(y4, p)
		b = b[xxStripe:]
	}
	*x, *y = xxLane{x1, x2, x3, x4}, xxLane{y1, y2, y3, y4}
}

// merged is what a lane's four parts come to.
func (l *xxLane) merged() uint64 {
	h := bits.RotateLeft64(l.v1, 1) + bits.RotateLeft64(l.v2, 7) + bits.RotateLeft64(l.v3, 12) + bits.RotateLeft64(l.v4, 18)
	for _, v := range [4]uint64{l.v1, l.v2, l.v3, l.v4} {
		h = (h^xxMixed(0, v*xxPrime2))*xxPrime1 + xxPrime4
	}
	return h
}

// xxTail takes in less than a stripe, and is the end.
func xxTail(h uint64, b []byte) uint64 {
	for ; len(b) >= 8; b = b[8:] {
		h = bits.RotateLeft64(h^xxMixed(0, binary.LittleEndian.Uint64(b)*xxPrime2), 27)*xxPrime1 + xxPrime4
	}
	if len(b) >= 4 {
		h = bits.RotateLeft64(h^uint64(binary.LittleEndian.Uint32(b))*xxPrime1, 23)*xxPrime2 + xxPrime3
		b = b[4:]
	}
	for _, c := range b {
		h = bits.RotateLeft64(h^uint64(c)*xxPrime5, 11) * xxPrime1
	}
	h = (h ^ h>>33) * xxPrime2
	h = (h ^ h>>29) * xxPrime3
	return h ^ h>>32
}
