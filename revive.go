package adamant

import (
	"errors"
	"time"

	"github.com/adamantdb/adamant/store"
)

// revivals is how often a stopped member was started anew.
type revivals struct {
	count int
	next  time.Time // not before
}

// A member that was stopped by what it read is started again after reviveAfter, and after twice as long each time that this did
// not help, up to maxRevivals doublings.
const (
	reviveAfter = time.Second
	maxRevivals = 6
)

// revive starts a member anew that stopped because documents could not be read while a command was applied: everything is on
// disk as it was, the command is still in the log, and what is damaged there the scrub takes out, so that the command can be
// applied and the rest be healed. Whatever else stopped a member stays until somebody has looked at it.
func (m *member) revive(failure error) error {
	if !errors.As(failure, new(*store.CorruptionError)) && !errors.As(failure, new(*store.ReadError)) {
		return nil
	}
	if err := m.docs.Retry(); err != nil {
		return err
	}
	m.host.suspect(failure) // can be looked at now
	now := time.Now()
	if m.revivals.next.IsZero() || now.Before(m.revivals.next) {
		if m.revivals.next.IsZero() {
			m.revivals.next = now.Add(reviveAfter)
		}
		return nil
	}
	m.revivals.count = min(m.revivals.count+1, maxRevivals)
	m.revivals.next = now.Add(reviveAfter << m.revivals.count)
	m.host.note(&m.id, "failure", "started anew after: "+failure.Error())
	if err := m.stop(); err != nil {
		m.host.log.Warn("a stopped member does not close", "partition", m.id, "error", err)
	}
	m.mu.Lock()
	m.failure = nil
	m.mu.Unlock()
	if err := m.start(); err != nil {
		return err
	}
	m.host.suspect(failure) // who was not running was not scrubbed, and what was to be is forgotten
	return nil
}
