// Package spoil damages an engine's tables, for tests of what notices and heals that.
package spoil

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Tables damages the block in the middle of each table of at least so many bytes in a directory. It is an error that there is none.
func Tables(files vfs.FS, dir string, least int64) error {
	names, err := files.List(dir)
	if err != nil {
		return err
	}
	hit := 0
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		path := files.PathJoin(dir, name)
		info, err := files.Stat(path)
		if err != nil {
			return err
		}
		if info.Size() < least {
			continue
		}
		at, err := Block(files, path, info.Size()/2)
		if err != nil {
			return err
		}
		if err := Flip(files, path, at); err != nil {
			return err
		}
		hit++
	}
	if hit == 0 {
		return fmt.Errorf("no table of %d bytes among %v", least, names)
	}
	return nil
}

// Block returns where the data block begins that holds a byte of a table, or the last one before it. A bit that flips there is
// as bad as any other of the block, and cheap: at each read of a damaged block Pebble looks for the one bit whose flip would
// explain the damage, from the beginning, with a checksum of the whole block for every bit.
func Block(files vfs.FS, path string, at int64) (begin int64, err error) {
	f, err := files.Open(path)
	if err != nil {
		return 0, err
	}
	source, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	options := &pebble.Options{}
	options.EnsureDefaults()
	table, err := sstable.NewReader(context.Background(), source, options.MakeReaderOptions())
	if err != nil {
		return 0, errors.Join(err, source.Close())
	}
	layout, err := table.Layout()
	if err == nil {
		begin, err = holding(layout.Data, at)
	}
	return begin, errors.Join(err, table.Close())
}

// holding returns where the last of the blocks begins that begins at a byte or before it; they are in order.
func holding(blocks []block.HandleWithProperties, at int64) (int64, error) {
	begin := int64(-1)
	for _, b := range blocks {
		if int64(b.Offset) > at {
			break
		}
		begin = int64(b.Offset)
	}
	if begin < 0 {
		return 0, fmt.Errorf("none of %d blocks begins before byte %d", len(blocks), at)
	}
	return begin, nil
}

// Flip inverts a bit of a file, for good.
func Flip(files vfs.FS, path string, at int64) error {
	f, err := files.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	if _, err = f.ReadAt(b, at); err == nil {
		b[0] ^= 0x20
		_, err = f.WriteAt(b, at)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
