package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
	pebblerecord "github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble takes a bad chunk of a manifest for the end that a crash left, wherever it is, and opens with the tables that it knew before. What
// was flushed since then is missing, what was written after that comes out of the log, and nothing says that there is a hole between the two.
// So a file beside each manifest, its witness, says up to which byte an fsync has covered it:
//
//	size u64 | xxhash64 of the size u64
//
// It is written and synced after each fsync of the manifest, in place: it may be behind, or torn, and is then believed less or not
// at all.
const (
	manifestPrefix   = "MANIFEST-"
	manifestCategory = "pebble-manifest" // how Pebble calls what it writes there
	witnessPrefix    = "synced-"
	witnessSize      = 16
)

// manifestFile is a manifest that keeps its witness up to date.
type manifestFile struct {
	vfs.File
	witness vfs.File
	size    int64
}

// createManifest creates a manifest and its witness. Their names become durable before the manifest's marker does.
func createManifest(f vfs.FS, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	witness, err := f.Create(witnessOf(f, name), category)
	if err != nil {
		return nil, err
	}
	file, err := f.Create(name, category)
	if err != nil {
		return nil, errors.Join(err, witness.Close())
	}
	return &manifestFile{File: file, witness: witness}, nil
}

func witnessOf(f vfs.FS, manifest string) string {
	return f.PathJoin(f.PathDir(manifest), witnessPrefix+f.PathBase(manifest))
}

// Write appends to the manifest.
func (f *manifestFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	f.size += int64(n)
	return n, err
}

// Sync makes the manifest durable, and then its size.
func (f *manifestFile) Sync() error {
	if err := f.File.Sync(); err != nil {
		return err
	}
	if _, err := f.witness.WriteAt(encodeWitness(f.size), 0); err != nil {
		return err
	}
	return f.witness.Sync()
}

// SyncData is Sync: what an edit says counts only as a whole.
func (f *manifestFile) SyncData() error { return f.Sync() }

// Close closes both files.
func (f *manifestFile) Close() error { return errors.Join(f.File.Close(), f.witness.Close()) }

func encodeWitness(size int64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, witnessSize), uint64(size))
	return binary.BigEndian.AppendUint64(b, xxhash.Sum64(b))
}

// decodeWitness returns 0 for what can not be believed.
func decodeWitness(b []byte) int64 {
	if len(b) != witnessSize || binary.BigEndian.Uint64(b[8:]) != xxhash.Sum64(b[:8]) {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b))
}

// checkManifest refuses a directory whose manifest is damaged where an fsync had covered it, and removes witnesses that a crash has left of other
// manifests. The caller holds the directory's lock.
func checkManifest(files vfs.FS, dir string) error {
	desc, err := pebble.Peek(dir, files)
	if err != nil || !desc.Exists {
		return nil // opening it will say so
	}
	path := desc.ManifestFilename
	synced, err := readWitness(files, witnessOf(files, path))
	if err != nil {
		return openError(dir, err)
	}
	if synced > 0 {
		if at, err := checkEdits(files, path, synced); err != nil {
			if !errors.Is(err, errBadEdit) {
				return openError(dir, fmt.Errorf("%s: %w", path, err))
			}
			return &CorruptionError{Partition: hostPartition, Kind: "manifest", Err: fmt.Errorf(
				"%s is damaged at or behind byte %d, and %d bytes of it were on the disk: %w", path, at, synced, err)}
		}
	}
	return removeWitnesses(files, dir, files.PathBase(path))
}

func readWitness(files vfs.FS, path string) (int64, error) {
	f, err := files.Open(path)
	if errors.Is(err, os.ErrNotExist) { // an older program's, or a crash came first
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	b, err := io.ReadAll(io.LimitReader(f, witnessSize+1))
	return decodeWitness(b), errors.Join(err, f.Close())
}

var errBadEdit = errors.New("an edit is not what was written")

// checkEdits reads the edits in the first synced bytes of a manifest. What is wrong with them is errBadEdit; at is where the bad one begins, at
// most.
func checkEdits(files vfs.FS, path string, synced int64) (at int64, err error) {
	f, err := files.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err := f.Stat(); err != nil || info.Size() < synced {
		if err == nil {
			at, err = info.Size(), fmt.Errorf("%w: it ends there", errBadEdit)
		}
		return at, err
	}
	edits := pebblerecord.NewReader(io.LimitReader(f, synced), 0)
	for {
		edit, err := edits.Next()
		if err == io.EOF {
			return at, nil
		}
		if err == nil {
			_, err = io.Copy(io.Discard, edit)
		}
		if pebblerecord.IsInvalidRecord(err) {
			return at, fmt.Errorf("%w: %w", errBadEdit, err)
		}
		if err != nil {
			return at, err
		}
		at = edits.Offset()
	}
}

func removeWitnesses(files vfs.FS, dir, but string) error {
	names, err := files.List(dir)
	if err != nil {
		return openError(dir, err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, witnessPrefix+manifestPrefix) && name != witnessPrefix+but {
			if err := files.Remove(files.PathJoin(dir, name)); err != nil {
				return openError(dir, err)
			}
		}
	}
	return nil
}
