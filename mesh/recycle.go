package mesh

import "sync"

// Payloads of repair are half a megabyte each, and nobody needs one for long. Taken anew every time, and cleared, they would have the
// garbage collector go through the process of a host that is rebuilt twenty times a second.
const (
	leastRecycled = 64 << 10
	mostRecycled  = readStep
)

var recycled sync.Pool // of *[]byte

// Recycle takes a payload that Call returned, for those that come later. The caller owns it, and neither it nor anything that it
// handed a part of the payload to looks at it any more.
func Recycle(payload []byte) {
	if n := cap(payload); n >= leastRecycled && n <= mostRecycled {
		payload = payload[:0]
		recycled.Put(&payload)
	}
}

// payloadRoom returns n bytes, of any content, to be read into.
func payloadRoom(n int) []byte {
	if n < leastRecycled || n > mostRecycled {
		return make([]byte, n)
	}
	if b, ok := recycled.Get().(*[]byte); ok && cap(*b) >= n {
		return (*b)[:n]
	}
	return make([]byte, n, (n+leastRecycled-1)&^(leastRecycled-1)) // so that it fits most of those that come
}
