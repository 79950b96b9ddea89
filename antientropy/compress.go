package antientropy

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// replyHeader is what stays outside of the compressed part: version, kind, compression.
const replyHeader = 3

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

// decompress returns the plain form of a reply, which may not take more than limit bytes. It does not look at anything
// else: the checksum of the plain form does that.
func decompress(b []byte, limit int) ([]byte, error) {
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
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return nil, fmt.Errorf("antientropy: zstd: %w", err)
	}
	defer d.Close()
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
