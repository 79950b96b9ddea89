package antientropy

import "github.com/adamantdb/adamant/store"

// Stats returns what has happened so far.
func (l *Loop) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

func (l *Loop) count(f func(*Stats)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.stats)
}

// countRequest counts requests as they leave, and their bytes once they are answered, or will not be.
func (l *Loop) countRequest(r request, requests, bytes int64) {
	l.count(func(s *Stats) {
		switch r.kind() {
		case kindCompare:
			s.Compares += requests
			s.CompareBytes += bytes
		case kindList:
			s.Listings += requests
			s.ListingBytes += bytes
		case kindPull:
			s.Pulls += requests
			s.PulledBytes += bytes
		}
	})
}

func (l *Loop) countFailure(f failure) {
	l.count(func(s *Stats) {
		switch f {
		case unreachable:
			s.Unreachable++
		case refused:
			s.Refused++
		case liar:
			s.Liars++
		}
	})
}

// countImport takes over what a transfer has imported since its last report.
func (l *Loop) countImport(t *transfer) {
	l.count(func(s *Stats) {
		s.ImportedDocuments += int64(t.counts.documents)
		s.ImportedEntries += int64(t.counts.entries)
		s.ImportedBytes += t.counts.bytes
		s.AlreadyHad += int64(t.counts.alreadyHad)
		for _, f := range t.failed {
			if f.Failure == diverged {
				s.Divergences++
			}
		}
	})
}

func (l *Loop) countFetch(c *store.Chunk, r *store.ImportReport) {
	l.count(func(s *Stats) {
		s.ImportedDocuments += int64(r.Documents)
		s.ImportedEntries += int64(r.Entries)
		s.ImportedBytes += r.Bytes
		s.AlreadyHad += int64(sentEntries(c) - r.Entries)
	})
}

func (l *Loop) hold(bytes int) {
	l.count(func(s *Stats) {
		s.InFlight += int64(bytes)
		s.MostInFlight = max(s.MostInFlight, s.InFlight)
	})
}

// let ends the use of what exchange returned: bytes of memory, and the reply, which is the Caller's again.
func (l *Loop) let(bytes int, reply []byte) {
	l.count(func(s *Stats) { s.InFlight -= int64(bytes) })
	if c, ok := l.o.Caller.(Recycler); ok && reply != nil {
		c.Recycle(reply)
	}
}
