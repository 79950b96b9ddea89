package antientropy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
)

// replyHeader is what stays outside of the compressed part: version, kind, compression.
const replyHeader = 3

// maxWindow is what a decoder looks back at most; newEncoder's stay far below.
const maxWindow = 1 << 20

const (
	plain      = 0
	compressed = 1
)

// minCompress is the size below which a reply with documents is not worth compressing. Others never are: hashes and sums
// do not get smaller.
const minCompress = 1 << 10

// newEncoder makes an encoder for EncodeAll. It allocates about 300 KB when it is used first, so a Server keeps a few. The
// window is small because a reply is compressed alone, and soon forgotten.
func newEncoder() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
}

// compress returns the compressed form of a reply if that saves at least an eighth, or b.
func compress(e *zstd.Encoder, b []byte) []byte {
	rest := b[replyHeader:]
	out := make([]byte, 0, len(b)-len(b)/8)
	out = append(out, b[0], b[1], compressed)
	out = binary.AppendUvarint(out, uint64(len(rest)))
	out = e.EncodeAll(rest, out)
	if len(out) > len(b)-len(b)/8 {
		return b
	}
	return out
}

// unpacker decompresses. It keeps decoders for reuse, which have no goroutine of their own and hold nothing but memory. The zero
// value is ready; safe for concurrent use.
type unpacker struct{ decoders sync.Pool }

func (u *unpacker) take() (*zstd.Decoder, error) {
	if d, ok := u.decoders.Get().(*zstd.Decoder); ok {
		return d, nil
	}
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(maxWindow))
}

// provenAbove is the size from which on nothing is allocated for a reply before its checksum is known to be right. Usual
// replies are smaller, and not worth being decompressed twice.
const provenAbove = 2 * maxBudget

// decompress returns the plain form of a reply, which may not take more than limit bytes: what the asker asked for. The
// checksum of the plain form is for decodeReply to verify, but for that of a large reply, which is verified first: what a
// damaged one claims to be, or unpacks to, is then not allocated.
func (u *unpacker) decompress(b []byte, limit int) ([]byte, error) {
	if len(b) > limit {
		return nil, fmt.Errorf("%w: reply of %d bytes, over the limit of %d", ErrMessage, len(b), limit)
	}
	if len(b) < replyHeader || b[0] != messageVersion || b[2] != compressed {
		return b, nil
	}
	size, n := binary.Uvarint(b[replyHeader:])
	if n <= 0 || size > uint64(limit) {
		return nil, fmt.Errorf("%w: reply of %d bytes when uncompressed, over the limit of %d", ErrMessage, size, limit)
	}
	d, err := u.take()
	if err != nil {
		return nil, fmt.Errorf("antientropy: zstd: %w", err)
	}
	defer func() {
		_ = d.Reset(nil) // it holds on to nothing; without a reader that can not fail
		u.decoders.Put(d)
	}()
	if size > provenAbove {
		if err := prove(d, b, n, size); err != nil {
			return nil, fmt.Errorf("%w: large reply: %w", ErrMessage, err)
		}
	}
	out := make([]byte, replyHeader, replyHeader+int(size))
	out[0], out[1], out[2] = b[0], b[1], plain
	out, err = d.DecodeAll(b[replyHeader+n:], out)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if len(out) != replyHeader+int(size) {
		return nil, fmt.Errorf("%w: %d bytes uncompressed instead of %d", ErrMessage, len(out)-replyHeader, size)
	}
	return out, nil
}

// prove reads through a compressed reply, n bytes of whose body are its size, without keeping what comes out.
func prove(d *zstd.Decoder, b []byte, n int, size uint64) error {
	if err := d.Reset(bytes.NewReader(b[replyHeader+n:])); err != nil {
		return err
	}
	sum := xxhash.New()
	_, _ = sum.Write([]byte{b[0], b[1], plain}) // never fails
	if _, err := io.CopyN(sum, d, int64(size-checksumLen)); err != nil {
		return err
	}
	var rest [checksumLen + 1]byte
	switch got, err := io.ReadFull(d, rest[:]); {
	case got != checksumLen || !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("not of %d bytes: %w", size, err)
	case binary.BigEndian.Uint64(rest[:]) != sum.Sum64():
		return errors.New("checksum")
	}
	return nil
}
