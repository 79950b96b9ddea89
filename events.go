package adamant

// Events tell the application what happens. Every function may be nil. They are called one at a time, in the order in
// which things happened, from a goroutine of the host: a slow one delays the ones after it but nothing else, and it may
// call the host, except for Close and Kill, which wait for it. While one is slow, newer news of the same thing takes the
// place of older: of a partition's leader, of a host, of a document.
type Events struct {
	// LeaderChanged: this host learned of another leader of a partition, or that there is none, or it began or ceased to
	// serve itself.
	LeaderChanged func(LeaderChange)
	// CatastrophicFailure: leadership ended with writes to a document in flight, whose outcome is mostly unknown. The
	// application drops its in-memory copy and loads the document again from the new leader (design §9).
	CatastrophicFailure func(Catastrophe)
	// HealthChanged: this host's member of a partition got a hole, or has closed its last one.
	HealthChanged func(HealthChange)
	// SafeModeChanged: a partition entered or left safe mode (design §10).
	SafeModeChanged func(SafeModeChange)
	// PeerChanged: another host came or went, as far as this one can tell. A hint, not a verdict.
	PeerChanged func(PeerChange)
	// ConfigChanged: another version of the cluster configuration is in force.
	ConfigChanged func(version uint64)
	// ConfigRejected: a cluster file was refused; the last good one stays. The error is a *ConfigError.
	ConfigRejected func(err error)
	// Failed: a write or fsync failed for good. The host serves nothing but stale reads any more, until it is closed and opened
	// again.
	Failed func(err error)
	// MemberFailed: one partition's member on this host can not go on, while the others do. One that could not read its
	// documents is started anew by itself.
	MemberFailed func(MemberFailure)
}

// LeaderChange is the news that a partition has another leader.
type LeaderChange struct {
	Partition uint32
	Leader    string // host name; "" when unknown
	Epoch     uint64 // the term
	Local     bool   // this host leads
	Serving   bool   // this host leads and serves
	Reason    string // why it does not serve, "" when it does or does not lead
}

// Catastrophe is a document whose writes were in flight when leadership ended.
type Catastrophe struct {
	Key       Key
	Partition uint32
	Epoch     uint64 // of the leadership that ended
	LastSeq   int64  // newest seq known to be committed; −1 when the document was being created
	Unknown   bool   // writes beyond LastSeq may or may not take effect; false: none is beyond it, and all were acknowledged
	Reason    string
}

// HealthChange is the news that a member became sick or complete.
type HealthChange struct {
	Partition uint32
	Complete  bool
	Holes     string // index ranges, as in "[5,9] [12,12]"; "" when complete
}

// SafeModeChange is the news that a partition entered or left safe mode.
type SafeModeChange struct {
	Partition uint32
	On        bool
	Reason    string
}

// MemberFailure is the news that a partition's member here serves nothing but stale reads any more.
type MemberFailure struct {
	Partition uint32
	Err       error
}

// PeerChange is the news that another host came or went.
type PeerChange struct {
	Host        string
	Incarnation string
	Alive       bool
}

// withDefaults replaces missing functions by ones that do nothing.
func (e Events) withDefaults() Events {
	if e.LeaderChanged == nil {
		e.LeaderChanged = func(LeaderChange) {}
	}
	if e.CatastrophicFailure == nil {
		e.CatastrophicFailure = func(Catastrophe) {}
	}
	if e.HealthChanged == nil {
		e.HealthChanged = func(HealthChange) {}
	}
	if e.SafeModeChanged == nil {
		e.SafeModeChanged = func(SafeModeChange) {}
	}
	if e.PeerChanged == nil {
		e.PeerChanged = func(PeerChange) {}
	}
	if e.ConfigChanged == nil {
		e.ConfigChanged = func(uint64) {}
	}
	if e.ConfigRejected == nil {
		e.ConfigRejected = func(error) {}
	}
	if e.Failed == nil {
		e.Failed = func(error) {}
	}
	if e.MemberFailed == nil {
		e.MemberFailed = func(MemberFailure) {}
	}
	return e
}
