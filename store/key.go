package store

import (
	"fmt"
	"math"
	"math/bits"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Limits of the two parts of a key, in characters.
const (
	MinSpace = 3
	MaxSpace = 127
	MaxKey   = 511
)

// Key names a document. Both parts consist of [A-Za-z0-9._-], so "space/key" is unambiguous.
type Key struct {
	Space string
	Key   string
}

// ParseKey splits "space/key" and validates the parts.
func ParseKey(s string) (Key, error) {
	space, key, found := strings.Cut(s, "/")
	k := Key{Space: space, Key: key}
	if !found {
		return Key{}, &KeyError{Key: k, Reason: "no slash between space and key"}
	}
	if err := k.Validate(); err != nil {
		return Key{}, err
	}
	return k, nil
}

// Validate returns a *KeyError unless the space has 3–127 and the key 1–511 permitted characters.
func (k Key) Validate() error {
	if err := validatePart(k.Space, MinSpace, MaxSpace); err != "" {
		return &KeyError{Key: k, Reason: "space " + err}
	}
	if err := validatePart(k.Key, 1, MaxKey); err != "" {
		return &KeyError{Key: k, Reason: "key " + err}
	}
	return nil
}

func validatePart(s string, shortest, longest int) string {
	if len(s) < shortest || len(s) > longest {
		return fmt.Sprintf("has %d bytes, not %d to %d", len(s), shortest, longest)
	}
	for i := range len(s) {
		c := s[i]
		ok := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
		if !ok {
			return fmt.Sprintf("has the byte %q at position %d", c, i)
		}
	}
	return ""
}

// String returns "space/key".
func (k Key) String() string { return k.Space + "/" + k.Key }

// Hash is the document's place in the hash space that the partitions divide among themselves: xxhash64 of "space/key".
func (k Key) Hash() uint64 { return hashOf(k.Space, k.Key) }

// hashOf is Hash for the parts of a key.
func hashOf[T string | []byte](space, key T) uint64 {
	// The concatenation of a valid key fits a stack buffer; longer ones never get this far.
	var buf [MaxSpace + 1 + MaxKey]byte
	b := append(buf[:0], space...)
	b = append(b, '/')
	b = append(b, key...)
	return xxhash.Sum64(b)
}

// Range is the closed range of hashes that one partition owns.
type Range struct{ First, Last uint64 }

// FullRange is the whole hash space: the range of a cluster's only partition.
func FullRange() Range { return Range{First: 0, Last: math.MaxUint64} }

// Validate returns an error when the range is empty.
func (r Range) Validate() error {
	if r.First > r.Last {
		return fmt.Errorf("store: hash range %s is empty", r)
	}
	return nil
}

func (r Range) String() string { return fmt.Sprintf("[%016x, %016x]", r.First, r.Last) }

// Contains reports whether a hash lies in the range.
func (r Range) Contains(hash uint64) bool { return r.First <= hash && hash <= r.Last }

// width returns the number of hashes as hi·2^64 + lo; hi is 1 for the whole space only.
func (r Range) width() (hi, lo uint64) {
	lo, carry := bits.Add64(r.Last-r.First, 1, 0)
	return carry, lo
}

// Bucket returns which of the 256 equal sub-ranges, in hash order, holds a hash of the range: ⌊(hash − First)·256 / width⌋.
// A hash outside of the range is counted to the nearest bucket; the engine refuses such documents before asking.
func (r Range) Bucket(hash uint64) uint8 {
	if hash <= r.First {
		return 0
	}
	if hash >= r.Last {
		hash = r.Last
	}
	whole, width := r.width()
	offset := hash - r.First
	if whole == 1 {
		return uint8(offset >> 56)
	}
	hi, lo := bits.Mul64(offset, 256)
	bucket, _ := bits.Div64(hi, lo, width) // offset < width, so hi < 256 and, when width ≤ 255, hi = 0 < width
	return uint8(bucket)
}
