package adamant

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/adamantdb/adamant/partition"
	"github.com/adamantdb/adamant/store"
)

// The numbers an Adama server publishes must never change; and only a sequence mismatch may answer 621580, because a
// server retries after it and treats everything else as catastrophic.
func TestNumbers(t *testing.T) {
	key := Key{Space: "games", Key: "g1"}
	published := map[error]int{
		&ExistsError{Key: key}:                         667658,
		&SeqMismatchError{Key: key, Head: 1}:           621580,
		&NotFoundError{Key: key}:                       625676,
		&FutureError{Key: key, Op: store.OpCompact}:    729311,
		&HistoryError{Key: key}:                        734263,
		&FutureError{Key: key, Op: store.OpHeadPatch}:  787507,
		&HorizonError{Key: key, Op: store.OpHeadPatch}: 787507,
		&FutureError{Key: key, Op: store.OpRewind}:     791602,
		&HorizonError{Key: key, Op: store.OpRewind}:    791602,
	}
	for err, code := range published {
		if got := Code(fmt.Errorf("wrapped: %w", err)); got != code {
			t.Errorf("%T: %d, want %d", err, got, code)
		}
	}
	own := []error{&KeyError{}, &TooLargeError{}, &InvalidError{}, &NotJSONError{}, &NotLeaderError{}, &AmbiguousError{}, &UnavailableError{},
		&SafeModeError{}, &ClosedError{}, &OptionsError{}, &ConfigError{Err: io.EOF}, &CorruptionError{Err: io.EOF}, &EngineFailedError{Err: io.EOF},
		&WrongOwnerError{}, &OpenError{Err: io.EOF}}
	seen := map[int]error{}
	for _, code := range published {
		seen[code] = errors.New("a published number")
	}
	for _, err := range own {
		code := Code(err)
		if code < 662000 || code > 662999 || seen[code] != nil {
			t.Errorf("%T: %d, taken by %v", err, code, seen[code])
		}
		seen[code] = err
	}
	if Code(io.EOF) != 0 || Code(nil) != 0 {
		t.Error("errors without a number must answer 0")
	}
}

// What wraps a sequence mismatch by accident must not answer its number.
func TestLostLeadershipIsNoSequenceMismatch(t *testing.T) {
	cause := &SeqMismatchError{Head: 4}
	for _, err := range []error{&AmbiguousError{Err: cause}, &UnavailableError{Err: cause}, &NotLeaderError{}, &ClosedError{}, &SafeModeError{}, &EpochError{}} {
		if Code(err) == CodeSeqMismatch {
			t.Errorf("%T answers 621580", err)
		}
	}
}

func TestErrorsUnwrap(t *testing.T) {
	for _, err := range []error{&AmbiguousError{Err: io.EOF}, &UnavailableError{Err: io.EOF}, &NotJSONError{Err: io.EOF}, &ConfigError{Err: io.EOF}} {
		if !errors.Is(err, io.EOF) || err.Error() == "" {
			t.Errorf("%T does not unwrap: %v", err, err)
		}
	}
}

// TestStoppedMemberIsNotAClosedHost: a member that was stopped, to go or to be opened again, is unavailable; its host is not closed.
func TestStoppedMemberIsNotAClosedHost(t *testing.T) {
	c := newTestCluster(t, 1, 1, 1, nil)
	c.ready()
	h := c.host("h1")
	err := h.translate(0, partition.ErrClosed)
	if !errors.As(err, new(*UnavailableError)) || errors.As(err, new(*ClosedError)) || !errors.Is(err, partition.ErrClosed) {
		t.Errorf("of a stopped member of a host that is open: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.translate(0, partition.ErrClosed); !errors.As(err, new(*ClosedError)) {
		t.Errorf("of a host that is closed: %v", err)
	}
}
