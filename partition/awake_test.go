package partition

import "testing"

// TestWokenDuringALook: what a member is woken for while it is looked at is not slept over. A leader whose last command is applied just
// then would leave its followers without that commit index until its turn comes again, four heartbeats later.
func TestWokenDuringALook(t *testing.T) {
	told := 0
	a := alertness{roused: func() { told++ }}
	is := func(when string, on bool, roused int) {
		t.Helper()
		if a.Load() != on || told != roused {
			t.Errorf("%s: awake %t, told %d times", when, a.Load(), told)
		}
	}
	is("new", false, 0)
	a.wake()
	is("woken", true, 1)
	a.settle(false, a.look())
	is("nothing to see", false, 1)

	a.wake()
	since := a.look()
	a.wake()
	a.settle(false, since)
	is("woken while it was looked at", true, 2)
	a.settle(false, a.look())
	is("looked at again", false, 2)

	since = a.look()
	a.settle(true, since)
	is("something was seen", true, 3)
	a.settle(false, since)
	is("settled by an older look", true, 3)
}
