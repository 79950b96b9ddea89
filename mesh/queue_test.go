package mesh

import (
	"reflect"
	"testing"
)

func testQueue() *sendQueue {
	return newSendQueue([3]laneLimits{{10, 10_000}, {10, 10_000}, {1000, 1 << 20}})
}

func (q *sendQueue) put(class Class, id uint64, size int) error {
	return q.push(outFrame{header: header{typ: frameRequest, class: class, id: id}, payload: make([]byte, size)})
}

func ids(batch []outFrame) (ids []uint64) {
	for _, f := range batch {
		ids = append(ids, f.header.id)
	}
	return ids
}

func TestSendQueueOrder(t *testing.T) {
	q := testQueue()
	for i, class := range []Class{Bulk, Normal, Urgent, Bulk, Normal, Urgent} {
		if err := q.put(class, uint64(i), 100); err != nil {
			t.Fatal(err)
		}
	}
	batch, more := q.take(nil, 3*132)
	if got := ids(batch); !more || !reflect.DeepEqual(got, []uint64{2, 5, 1}) {
		t.Fatalf("urgent first, then normal: %v", got)
	}
	batch, _ = q.take(batch[:0], 1)
	if got := ids(batch); !reflect.DeepEqual(got, []uint64{4}) {
		t.Fatalf("one frame at least: %v", got)
	}
	batch, _ = q.take(batch[:0], 1<<20)
	if got := ids(batch); !reflect.DeepEqual(got, []uint64{0, 3}) {
		t.Fatalf("bulk last: %v", got)
	}
}

// Numbers and bytes are bounded, per class.
func TestSendQueueBounds(t *testing.T) {
	q := testQueue()
	if err := q.put(Normal, 1, 20_000); err != nil {
		t.Fatalf("an empty lane takes any frame: %v", err)
	}
	if err := q.put(Normal, 2, 1); err != ErrQueueFull {
		t.Fatalf("over the bytes: %v", err)
	}
	for i := range uint64(10) {
		if err := q.put(Urgent, i, 0); err != nil {
			t.Fatalf("another class: %v", err)
		}
	}
	if err := q.put(Urgent, 10, 0); err != ErrQueueFull {
		t.Fatalf("over the frames: %v", err)
	}
}

// A lane that never drains keeps its order and does not grow.
func TestSendQueueThatNeverDrains(t *testing.T) {
	q := testQueue()
	var batch []outFrame
	next := uint64(0)
	for i := range uint64(10_000) {
		if err := q.put(Bulk, i, 10); err != nil {
			t.Fatal(err)
		}
		if i < 100 {
			continue
		}
		batch, _ = q.take(batch[:0], 1)
		if batch[0].header.id != next {
			t.Fatalf("got %d, expected %d", batch[0].header.id, next)
		}
		next++
	}
	if n := cap(q.lanes[2].frames); n > 1024 {
		t.Fatalf("a lane of 100 frames holds %d", n)
	}
	if frames, size := q.waiting(); frames != 100 || size != 100*42 {
		t.Fatalf("%d frames of %d bytes", frames, size)
	}
}

func TestSendQueueEnd(t *testing.T) {
	q := testQueue()
	if err := q.put(Normal, 1, 1); err != nil {
		t.Fatal(err)
	}
	q.finish(outFrame{header: header{typ: frameGoodbye, class: Urgent, id: 5}})
	if err := q.put(Normal, 1, 1); err != ErrClosed {
		t.Fatalf("after the last frame: %v", err)
	}
	batch, more := q.take(nil, 1<<20)
	if !more || len(batch) != 1 || batch[0].header.id != 5 {
		t.Fatalf("the last frame: %v, %v", ids(batch), more)
	}
	if batch, more = q.take(nil, 1<<20); more || len(batch) != 0 {
		t.Fatalf("after the last frame was taken: %v, %v", ids(batch), more)
	}
}
