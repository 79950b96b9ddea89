package mesh

import "sync/atomic"

// counters are the live figures behind Stats.
type counters struct {
	framesIn, framesOut, bytesIn, bytesOut, writes  atomic.Uint64
	dials, dialFailures, linkBreaks                 atomic.Uint64
	accepted, refused, badFrames, badHandshakes     atomic.Uint64
	queueFull, overloaded, timeouts, handshakeDrops atomic.Uint64
	conflicts, gossipDropped, gossipRefused         atomic.Uint64
	gossipIn, gossipOut                             atomic.Uint64
}

// Stats counts since the start.
type Stats struct {
	FramesIn, FramesOut uint64
	BytesIn, BytesOut   uint64 // on links, payload and headers, before TLS
	GossipIn, GossipOut uint64 // bytes of gossip, packets and streams, before TLS
	Writes              uint64 // write calls; frames per write show how well they gather
	Dials, DialFailures uint64
	LinkBreaks          uint64 // links that stood and broke, by either side
	Accepted, Refused   uint64 // inbound links
	BadFrames           uint64 // links closed because what came was not the protocol
	BadHandshakes       uint64 // connections that never became a link: garbage, timeouts, foreign certificates
	HandshakeDrops      uint64 // connections closed because too many were unfinished or open
	QueueFull           uint64 // requests failed because the send queue was full
	Overloaded          uint64 // requests of peers refused because too many were being served
	Timeouts            uint64 // requests without a reply in time
	Conflicts           uint64 // duplicate host names reported
	GossipDropped       uint64 // gossip streams turned away
	GossipRefused       uint64 // packets and streams of gossip that were not what a member sends
}

// Stats returns the counters.
func (m *Mesh) Stats() Stats {
	c := &m.stats
	return Stats{
		FramesIn: c.framesIn.Load(), FramesOut: c.framesOut.Load(),
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(), Writes: c.writes.Load(),
		GossipIn: c.gossipIn.Load(), GossipOut: c.gossipOut.Load(),
		Dials: c.dials.Load(), DialFailures: c.dialFailures.Load(), LinkBreaks: c.linkBreaks.Load(),
		Accepted: c.accepted.Load(), Refused: c.refused.Load(),
		BadFrames: c.badFrames.Load(), BadHandshakes: c.badHandshakes.Load(), HandshakeDrops: c.handshakeDrops.Load(),
		QueueFull: c.queueFull.Load(), Overloaded: c.overloaded.Load(), Timeouts: c.timeouts.Load(),
		Conflicts: c.conflicts.Load(), GossipDropped: c.gossipDropped.Load(), GossipRefused: c.gossipRefused.Load(),
	}
}
