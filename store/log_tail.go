package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"
)

// Pebble's write-ahead log is blocks of 32 KiB, each holding chunks with this header, all numbers little-endian:
//
//	checksum u32 | length u16 | type u8 | log number u32 | [types 9 to 12: synced offset u64]
//
// The checksum is CRC-32C, rotated and shifted, of what follows the length. What is left of a block and too short for
// a header is zero. A batch is one chunk or more; the first one begins with the batch's sequence number u64 and count u32, and
// for a batch of this engine then comes its logPromise. The first file of a new directory has chunks of types 5 to 8.
const (
	walBlock  = 32 << 10
	walHeader = 11
	walOffset = 8
	walBatch  = 12
)

// walTypes are the types of chunks, by whether a batch begins with them and whether their header has a synced offset.
var walTypes = [13]struct{ known, first, offset bool }{
	5: {true, true, false}, 6: {true, true, false}, 7: {true, false, false}, 8: {true, false, false},
	9: {true, true, true}, 10: {true, true, true}, 11: {true, false, true}, 12: {true, false, true},
}

var walTable = crc32.MakeTable(crc32.Castagnoli)

// logPromise is at the front of each round's batch: what number the round has, and up to which one fsyncs had covered all
// of them when it was written. Rounds are numbered from 1 each time the engine is opened, which starts a new file.
type logPromise struct{ round, synced uint64 }

var promiseMagic = [4]byte{'p', 'r', 'o', 'm'}

func (p logPromise) encode() []byte {
	b := binary.BigEndian.AppendUint64(promiseMagic[:len(promiseMagic):len(promiseMagic)], p.round)
	return binary.BigEndian.AppendUint64(b, p.synced)
}

// promiseFront is what precedes a promise in a batch: Pebble's kind of a record that is only logged, and its length.
var promiseFront = append([]byte{3, 4 + 8 + 8}, promiseMagic[:]...)

// decodeLogPromise finds the promise of the batch that a chunk's payload begins with.
func decodeLogPromise(payload []byte) (p logPromise, ok bool) {
	if len(payload) < walBatch {
		return p, false
	}
	b, ok := bytes.CutPrefix(payload[walBatch:], promiseFront)
	if !ok || len(b) < 16 {
		return p, false
	}
	return logPromise{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, true
}

// checkLogTails refuses a directory in whose write-ahead log something is damaged that an fsync had covered.
//
// The rounds behind a bad chunk tell what it is: when they promise that the one before the first of them was synced, it is
// damage; otherwise, and with no round behind it, it is the end that a crash left. Pebble decides the same by the chunks' synced offsets.
// But it looks only into the blocks after the bad chunk's, the offsets lag behind by what filled blocks hold, and the first
// file has none (v2.1.7): of a small log anything could go missing unnoticed, votes and acknowledged entries too.
func checkLogTails(files vfs.FS, dir string) (err error) {
	lock, err := pebble.LockDirectory(dir, files)
	if err != nil {
		return nil // in use, or not to be written into: opening it will say so
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	names, err := files.List(dir)
	if err != nil {
		return openError(dir, err)
	}
	for _, name := range names {
		number, _, ok := wal.ParseLogFilename(name)
		if !ok {
			continue
		}
		path := files.PathJoin(dir, name)
		at, damaged, err := checkLogTail(files, path, uint32(number))
		if err != nil {
			return openError(dir, fmt.Errorf("%s: %w", path, err))
		}
		if damaged {
			return &CorruptionError{Partition: hostPartition, Kind: "log", Err: fmt.Errorf(
				"%s is damaged at byte %d, and later rounds say that it was on the disk", path, at)}
		}
	}
	return nil
}

// checkLogTail returns where the file's first bad chunk is, and whether what follows says that it was synced.
func checkLogTail(files vfs.FS, path string, number uint32) (at int64, damaged bool, err error) {
	f, err := files.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var behind logPromise // of the rounds behind the bad chunk: the lowest round, the highest synced
	block, bad := make([]byte, walBlock), false
	for start := int64(0); ; start += walBlock {
		n, err := io.ReadFull(f, block)
		if err == io.EOF {
			return at, behind.round > 0 && behind.synced >= behind.round-1, nil
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return 0, false, err
		}
		pos := 0
		for !bad && n-pos >= walHeader && !walFiller(block[pos:n]) {
			if _, size, ok := walChunk(block[pos:n], number); ok {
				pos += size
			} else {
				bad, at = true, start+int64(pos)
			}
		}
		if bad {
			walPromises(block[pos:n], number, &behind)
		}
	}
}

// walFiller reports whether b is what is left of a block, too short for a chunk with a synced offset.
func walFiller(b []byte) bool {
	return len(b) < walHeader+walOffset && len(bytes.Trim(b, "\x00")) == 0
}

// walChunk verifies the chunk that b begins with. It returns the chunk's size, and its payload when a batch begins with it.
func walChunk(b []byte, number uint32) (batch []byte, size int, ok bool) {
	if len(b) < walHeader || int(b[6]) >= len(walTypes) || binary.LittleEndian.Uint32(b[7:]) != number {
		return nil, 0, false
	}
	kind, header := walTypes[b[6]], walHeader
	if kind.offset {
		header += walOffset
	}
	size = header + int(binary.LittleEndian.Uint16(b[4:]))
	if !kind.known || size > len(b) {
		return nil, 0, false
	}
	sum := crc32.Checksum(b[6:size], walTable)
	sum = sum>>15 | sum<<17
	if sum+0xa282ead8 != binary.LittleEndian.Uint32(b) {
		return nil, 0, false
	}
	if kind.first {
		batch = b[header:size]
	}
	return batch, size, true
}

// walPromises collects the promises of all good chunks in b, wherever they begin: the length of a bad one cannot be believed.
func walPromises(b []byte, number uint32, behind *logPromise) {
	mark := binary.LittleEndian.AppendUint32(nil, number)
	const before = 7 // bytes of the header before the number
	for pos := 0; pos+before < len(b); pos++ {
		next := bytes.Index(b[pos+before:], mark)
		if next < 0 {
			return
		}
		pos += next
		batch, _, ok := walChunk(b[pos:], number)
		if !ok {
			continue
		}
		if p, ok := decodeLogPromise(batch); ok {
			if behind.round == 0 || p.round < behind.round {
				behind.round = p.round
			}
			behind.synced = max(behind.synced, p.synced)
		}
	}
}
