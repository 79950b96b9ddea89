package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// The layout of keys in the document engine:
//
//	partition u32 | section u8 | bucket u8 | kind u8 | hash u64 | "space/key" 00 | generation u64 | seqEnd u64
//	└──────── member ────────┘
//	└────────────── bucket ──────────────┘
//	└─────────────── kind of a bucket ──────────┘
//	└──────────────────────── document ─────────────────────────┘ heads and delete records end here
//	└──────────────────────────────── generation ────────────────────────────┘ bases end here
//
// All numbers are big-endian. Kind comes before the document, so the heads of a bucket are contiguous and listing it
// reads nothing else; within a kind documents are in hash order. The NUL ends the key before the numbers: no key
// character sorts below it, so a document's records are one range even when another key starts with its name.

// The sections of a partition's range.
const (
	sectionMeta      byte = 0
	sectionDocuments byte = 1
)

// recordKind says what a record in the documents section is.
type recordKind byte

const (
	kindHead   recordKind = 1
	kindBase   recordKind = 2
	kindEntry  recordKind = 3
	kindDelete recordKind = 4
)

func (k recordKind) String() string {
	switch k {
	case kindHead:
		return "head"
	case kindBase:
		return "base"
	case kindEntry:
		return "entry"
	case kindDelete:
		return "delete record"
	}
	return fmt.Sprintf("kind %d", byte(k))
}

// hostPartition is the partition number under which host-wide records live; no real partition may have it.
const hostPartition = math.MaxUint32

const (
	kindPrefixLen = 4 + 1 + 1 + 1
	hashOffset    = kindPrefixLen
	nameOffset    = kindPrefixLen + 8
)

// place is where a document lives within its partition: computed once per operation.
type place struct {
	key    Key
	hash   uint64
	bucket uint8
}

// appendPartition appends the prefix of everything a member has.
func appendPartition(b []byte, partition uint32) []byte {
	return binary.BigEndian.AppendUint32(b, partition)
}

// appendBucket appends the prefix of a bucket.
func appendBucket(b []byte, partition uint32, bucket uint8) []byte {
	return append(appendPartition(b, partition), sectionDocuments, bucket)
}

// appendKind appends the prefix of all records of a kind in a bucket.
func appendKind(b []byte, partition uint32, bucket uint8, kind recordKind) []byte {
	return append(appendBucket(b, partition, bucket), byte(kind))
}

// appendDocument appends the whole key of a head or delete record, and the prefix of a document's bases or entries.
func appendDocument(b []byte, partition uint32, p place, kind recordKind) []byte {
	b = appendKind(b, partition, p.bucket, kind)
	b = binary.BigEndian.AppendUint64(b, p.hash)
	b = append(b, p.key.Space...)
	b = append(b, '/')
	b = append(b, p.key.Key...)
	return append(b, 0)
}

// appendGeneration appends the whole key of a base, and the prefix of a generation's entries.
func appendGeneration(b []byte, partition uint32, p place, kind recordKind, generation uint64) []byte {
	return binary.BigEndian.AppendUint64(appendDocument(b, partition, p, kind), generation)
}

// appendEntry appends the key of an entry.
func appendEntry(b []byte, partition uint32, p place, generation uint64, seqEnd int64) []byte {
	return appendSeq(appendGeneration(b, partition, p, kindEntry, generation), seqEnd)
}

// appendSeq appends a seq so that bytes compare like numbers, negative ones included.
func appendSeq(b []byte, seq int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(seq)^1<<63)
}

func decodeSeq(b []byte) int64 { return int64(binary.BigEndian.Uint64(b) ^ 1<<63) }

// successor returns the lowest key above everything with the prefix: the exclusive end of its range. It modifies prefix.
func successor(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != math.MaxUint8 {
			prefix[i]++
			return prefix[:i+1]
		}
	}
	return nil // all ones: no upper bound
}

// prefixRange returns the bounds of everything with the prefix.
func prefixRange(prefix []byte) (lower, upper []byte) {
	return prefix, successor(bytes.Clone(prefix))
}

// recordKey is a decoded key of the documents section.
type recordKey struct {
	partition  uint32
	bucket     uint8
	kind       recordKind
	hash       uint64
	key        Key
	generation uint64 // bases and entries
	seqEnd     int64  // entries
}

// decodeRecordKey is the inverse of the append functions for the documents section.
func decodeRecordKey(b []byte) (recordKey, error) {
	var k recordKey
	if len(b) < nameOffset || b[4] != sectionDocuments {
		return k, fmt.Errorf("%w: key of %d bytes", ErrEncoding, len(b))
	}
	k.partition = binary.BigEndian.Uint32(b)
	k.bucket = b[5]
	k.kind = recordKind(b[6])
	k.hash = binary.BigEndian.Uint64(b[hashOffset:])
	name, tail, found := bytes.Cut(b[nameOffset:], []byte{0})
	if !found {
		return k, fmt.Errorf("%w: key without an end of its name", ErrEncoding)
	}
	key, err := ParseKey(string(name))
	if err != nil {
		return k, fmt.Errorf("%w: %w", ErrEncoding, err)
	}
	k.key = key
	want := 0
	switch k.kind {
	case kindHead, kindDelete:
	case kindBase:
		want = 8
	case kindEntry:
		want = 16
	default:
		return k, fmt.Errorf("%w: key of %s", ErrEncoding, k.kind)
	}
	if len(tail) != want {
		return k, fmt.Errorf("%w: key of %s with %d bytes after its name", ErrEncoding, k.kind, len(tail))
	}
	if want >= 8 {
		k.generation = binary.BigEndian.Uint64(tail)
	}
	if want == 16 {
		k.seqEnd = decodeSeq(tail[8:])
	}
	return k, nil
}

// place returns where the key's document lives.
func (k *recordKey) place() place { return place{key: k.key, hash: k.hash, bucket: k.bucket} }
