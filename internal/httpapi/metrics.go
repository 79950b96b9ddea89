package httpapi

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/adamantdb/adamant"
)

// collector turns a host's status and counters into Prometheus metrics when it is scraped; it keeps nothing between
// scrapes.
type collector struct {
	host    Host
	version string
	host_   hostDescs
	part    partitionDescs
	op      operationDescs
	engine  engineDescs
	raft    raftDescs
	link    linkDescs
	repair  repairDescs
}

type desc = *prometheus.Desc

func newDesc(name, help string, labels ...string) desc {
	return prometheus.NewDesc("adamant_"+name, help, labels, nil)
}

type hostDescs struct {
	info, failed, draining, configVersion, configRejected, peersAlive, peerRoundTrip, members, leading, serving, sick, leaderless, safeMode desc
	leaderships, candidacies, lostWith, catastrophes, alreadyThere, markers, divergences, configChanges, forwarded, forwardServed           desc
}

func newHostDescs() hostDescs {
	return hostDescs{
		info:           newDesc("info", "1, labelled with what this host is.", "host", "incarnation", "cluster", "version"),
		failed:         newDesc("failed", "1 once a durable step failed and the host stopped."),
		draining:       newDesc("draining", "1 while leaderships are given away for good."),
		configVersion:  newDesc("config_version", "Version of the cluster configuration in force."),
		configRejected: newDesc("config_rejected_total", "Cluster files refused."),
		peersAlive:     newDesc("peer_alive", "1 if the other host is believed to be alive.", "peer"),
		peerRoundTrip:  newDesc("peer_round_trip_seconds", "Newest round trip to the other host.", "peer"),
		members:        newDesc("members", "Partitions this host is a member of."),
		leading:        newDesc("members_leading", "Members that lead."),
		serving:        newDesc("members_serving", "Members that lead and serve."),
		sick:           newDesc("members_sick", "Members with holes."),
		leaderless:     newDesc("members_leaderless", "Members that know no leader."),
		safeMode:       newDesc("members_safe_mode", "Members in safe mode."),
		leaderships:    newDesc("leaderships_total", "Terms in which a member of this host began to serve."),
		candidacies:    newDesc("candidacies_total", "Attempts to be elected, those that were refused included and hand-overs not."),
		lostWith:       newDesc("leaderships_lost_with_writes_total", "Leaderships that ended with writes in flight."),
		catastrophes:   newDesc("catastrophic_failures_total", "Documents whose writes in flight have an unknown outcome."),
		alreadyThere:   newDesc("appends_repeated_total", "Appends acknowledged because they had taken effect before."),
		markers:        newDesc("markers_taken_total", "Markers received in place of log entries."),
		divergences:    newDesc("divergences_total", "Documents that differ between members that cover the same indexes."),
		configChanges:  newDesc("config_changes_total", "Cluster configurations taken over."),
		forwarded:      newDesc("forwarded_total", "Operations on documents that were sent to the hosts that lead."),
		forwardServed:  newDesc("forward_served_total", "Operations of other hosts' callers that were done here."),
	}
}

func (d *hostDescs) list() []desc {
	return []desc{d.info, d.failed, d.draining, d.configVersion, d.configRejected, d.peersAlive, d.peerRoundTrip, d.members, d.leading,
		d.serving, d.sick, d.leaderless, d.safeMode, d.leaderships, d.candidacies, d.lostWith, d.catastrophes, d.alreadyThere, d.markers, d.divergences, d.configChanges, d.forwarded, d.forwardServed}
}

type partitionDescs struct {
	leader, serving, complete, safeMode, term, commit, applied, lag, documents, bytes, repairDone, repairTotal desc
}

func newPartitionDescs() partitionDescs {
	p := func(name, help string) desc { return newDesc("partition_"+name, help, "partition") }
	return partitionDescs{
		leader:      p("leader", "1 if this host's member leads."),
		serving:     p("serving", "1 if it leads and serves."),
		complete:    p("complete", "1 if it has no holes."),
		safeMode:    p("safe_mode", "1 if it is in safe mode."),
		term:        p("term", "Raft term."),
		commit:      p("commit_index", "Newest Raft index known to be committed."),
		applied:     p("applied_index", "Newest Raft index applied to the documents."),
		lag:         p("lag_entries", "Entries committed and not yet applied."),
		documents:   p("documents", "Documents."),
		bytes:       p("bytes", "Bytes of bases and deltas."),
		repairDone:  p("repair_buckets_done", "Buckets healed of the repair that is going on; absent without one."),
		repairTotal: p("repair_buckets", "Buckets of the repair that is going on; absent without one."),
	}
}

func (d *partitionDescs) list() []desc {
	return []desc{d.leader, d.serving, d.complete, d.safeMode, d.term, d.commit, d.applied, d.lag, d.documents, d.bytes, d.repairDone, d.repairTotal}
}

type operationDescs struct{ seconds, errors desc }

type engineDescs struct{ syncs, written, tables, entries, disk, hits, misses, late desc }

type raftDescs struct{ appendBytes, commandBytes, snapshotBytes desc }

type linkDescs struct{ bytes, frames, gossip, connects, refused, full desc }

type repairDescs struct{ requests, served, differences, different, documents, entries, imported, bytes, spent, again, holes, errors, scrubbed, scrubbedBytes, damage desc }

func newCollector(host Host, version string) *collector {
	return &collector{host: host, version: version, host_: newHostDescs(), part: newPartitionDescs(),
		op: operationDescs{
			seconds: newDesc("operation_seconds", "Duration of operations as their callers saw it.", "operation"),
			errors:  newDesc("operation_errors_total", "Operations that ended in an error, by its number (0: it has none).", "operation", "code"),
		},
		engine: engineDescs{
			syncs:   newDesc("engine_syncs_total", "Fsyncs of a storage engine's WAL.", "engine"),
			written: newDesc("engine_written_bytes_total", "Bytes handed to the WAL.", "engine"),
			tables:  newDesc("engine_table_bytes_total", "Bytes written into tables, by flushes and compactions.", "engine"),
			entries: newDesc("engine_entries_total", "Raft entries, or mutations, written.", "engine"),
			disk:    newDesc("engine_disk_bytes", "Bytes on disk.", "engine"),
			hits:    newDesc("engine_cache_hits_total", "Reads answered from memory.", "engine"),
			misses:  newDesc("engine_cache_misses_total", "Reads not answered from memory.", "engine"),
			late:    newDesc("engine_late_reads_total", "Reads that commands waited for while they were applied.", "engine"),
		},
		raft: raftDescs{
			appendBytes:   newDesc("raft_append_bytes_total", "Bytes of AppendEntries requests.", "direction"),
			commandBytes:  newDesc("raft_command_bytes_total", "Bytes of the commands in entries received."),
			snapshotBytes: newDesc("raft_snapshot_bytes_total", "Bytes of markers; documents never travel through Raft.", "direction"),
		},
		link: linkDescs{
			bytes:    newDesc("link_bytes_total", "Bytes on the links to other hosts.", "direction"),
			frames:   newDesc("link_frames_total", "Frames on the links to other hosts.", "direction"),
			gossip:   newDesc("gossip_bytes_total", "Bytes of the membership protocol.", "direction"),
			connects: newDesc("link_connects_total", "Links made."),
			refused:  newDesc("link_refused_total", "Links and frames refused."),
			full:     newDesc("link_queue_full_total", "Requests that found no room in a link's queue."),
		},
		repair: repairDescs{
			requests:      newDesc("repair_requests_total", "Anti-entropy requests sent.", "call"),
			served:        newDesc("repair_served_total", "Anti-entropy requests answered."),
			differences:   newDesc("repair_differences_total", "Comparisons at one index that found a difference."),
			different:     newDesc("repair_buckets_different_total", "Buckets that differed between members that cover the same indexes, in each comparison."),
			documents:     newDesc("repair_documents_total", "Documents imported."),
			entries:       newDesc("repair_entries_total", "Deltas imported."),
			imported:      newDesc("repair_imported_bytes_total", "Bytes of the bases and deltas that repair brought."),
			bytes:         newDesc("repair_bytes_total", "Bytes on the wire of anti-entropy's requests and answers.", "direction"),
			spent:         newDesc("repair_call_bytes_total", "Bytes of this host's anti-entropy requests and of the answers to them.", "call"),
			again:         newDesc("repair_already_had_total", "Deltas that came although they were here."),
			holes:         newDesc("repair_holes_closed_total", "Holes closed."),
			scrubbed:      newDesc("scrub_buckets_total", "Buckets read and verified."),
			scrubbedBytes: newDesc("scrub_bytes_total", "Bytes read and verified."),
			damage:        newDesc("scrub_damaged_buckets_total", "Buckets found damaged, and healed since.", "what"),
			errors:        newDesc("repair_errors_total", "Anti-entropy requests that failed."),
		},
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	all := append(c.host_.list(), c.part.list()...)
	all = append(all, c.op.seconds, c.op.errors, c.engine.syncs, c.engine.written, c.engine.tables, c.engine.entries, c.engine.disk, c.engine.hits, c.engine.misses, c.engine.late,
		c.raft.appendBytes, c.raft.commandBytes, c.raft.snapshotBytes, c.link.bytes, c.link.frames, c.link.gossip, c.link.connects, c.link.refused, c.link.full,
		c.repair.requests, c.repair.served, c.repair.differences, c.repair.different, c.repair.documents, c.repair.entries, c.repair.imported, c.repair.bytes, c.repair.spent, c.repair.again, c.repair.holes, c.repair.errors, c.repair.scrubbed, c.repair.scrubbedBytes, c.repair.damage)
	for _, d := range all {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s, m := c.host.Status(), c.host.Metrics()
	e := emitter{ch}
	c.collectHost(e, &s, &m)
	for i := range s.Partitions {
		c.collectPartition(e, &s.Partitions[i])
	}
	for name, op := range m.Operations {
		e.histogram(c.op.seconds, op.Latency, name)
		for code, n := range op.Errors {
			e.counter(c.op.errors, n, name, strconv.Itoa(code))
		}
	}
	c.collectEngine(e, "log", m.Log)
	c.collectEngine(e, "documents", m.Documents)
	e.both(c.raft.appendBytes, m.Raft.AppendEntriesBytesIn, m.Raft.AppendEntriesBytesOut)
	e.counter(c.raft.commandBytes, m.Raft.CommandBytesIn)
	e.both(c.raft.snapshotBytes, m.Raft.SnapshotBytesIn, m.Raft.SnapshotBytesOut)
	e.both(c.link.bytes, m.Links.BytesIn, m.Links.BytesOut)
	e.both(c.link.frames, m.Links.FramesIn, m.Links.FramesOut)
	e.both(c.link.gossip, m.Links.GossipIn, m.Links.GossipOut)
	e.counter(c.link.connects, m.Links.Connects)
	e.counter(c.link.refused, m.Links.Refused)
	e.counter(c.link.full, m.Links.QueueFull)
	c.collectRepair(e, &m.Repair)
}

func (c *collector) collectHost(e emitter, s *adamant.Status, m *adamant.Metrics) {
	t := s.Totals()
	d := &c.host_
	e.gauge(d.info, 1, s.Host, s.Incarnation, s.Cluster, c.version)
	e.flag(d.failed, s.Failed != "")
	e.flag(d.draining, s.Draining)
	e.gauge(d.configVersion, float64(s.ConfigVersion))
	e.counter(d.configRejected, s.ConfigRejected)
	for i := range s.Peers {
		p := &s.Peers[i]
		e.flag(d.peersAlive, p.Alive, p.Host)
		if p.RoundTrip > 0 {
			e.gauge(d.peerRoundTrip, p.RoundTrip.Seconds(), p.Host)
		}
	}
	e.gauge(d.members, float64(t.Members))
	e.gauge(d.leading, float64(t.Leading))
	e.gauge(d.serving, float64(t.Serving))
	e.gauge(d.sick, float64(t.Sick))
	e.gauge(d.leaderless, float64(t.Leaderless))
	e.gauge(d.safeMode, float64(t.SafeMode))
	e.counter(d.leaderships, m.Leaderships)
	e.counter(d.candidacies, m.Candidacies)
	e.counter(d.lostWith, m.LostWith)
	e.counter(d.catastrophes, m.Catastrophes)
	e.counter(d.alreadyThere, m.AlreadyThere)
	e.counter(d.markers, m.MarkersTaken)
	e.counter(d.divergences, m.Divergences)
	e.counter(d.configChanges, m.ConfigChanges)
	e.counter(d.forwarded, m.Forwarded)
	e.counter(d.forwardServed, m.ForwardServed)
}

func (c *collector) collectPartition(e emitter, p *adamant.PartitionStatus) {
	d, id := &c.part, strconv.FormatUint(uint64(p.ID), 10)
	e.flag(d.leader, p.Role == adamant.RoleLeader, id)
	e.flag(d.serving, p.Serving, id)
	e.flag(d.complete, p.Complete, id)
	e.flag(d.safeMode, p.SafeMode != "", id)
	e.gauge(d.term, float64(p.Term), id)
	e.gauge(d.commit, float64(p.Commit), id)
	e.gauge(d.applied, float64(p.Applied), id)
	e.gauge(d.lag, float64(p.Lag), id)
	e.gauge(d.documents, float64(p.Documents), id)
	e.gauge(d.bytes, float64(p.Bytes), id)
	if p.Repair != nil {
		e.gauge(d.repairDone, float64(p.Repair.BucketsDone), id)
		e.gauge(d.repairTotal, float64(p.Repair.BucketsTotal), id)
	}
}

func (c *collector) collectEngine(e emitter, name string, m adamant.EngineMetrics) {
	e.counter(c.engine.syncs, m.Syncs, name)
	e.counter(c.engine.written, m.Written, name)
	e.counter(c.engine.tables, m.Tables, name)
	e.counter(c.engine.entries, m.Entries, name)
	e.gauge(c.engine.disk, float64(m.DiskBytes), name)
	e.counter(c.engine.hits, m.CacheHits, name)
	e.counter(c.engine.misses, m.CacheMiss, name)
	e.counter(c.engine.late, m.LateReads, name)
}

func (c *collector) collectRepair(e emitter, m *adamant.RepairMetrics) {
	d := &c.repair
	e.counter(d.requests, m.Compares, "compare")
	e.counter(d.requests, m.Lists, "list")
	e.counter(d.requests, m.Pulls, "pull")
	e.counter(d.served, m.Served)
	e.counter(d.differences, m.Differences)
	e.counter(d.different, m.BucketsDifferent)
	e.counter(d.documents, m.DocumentsIn)
	e.counter(d.entries, m.EntriesIn)
	e.counter(d.imported, m.ImportedBytes)
	e.both(d.bytes, m.BytesIn, m.BytesOut)
	e.counter(d.spent, m.CompareBytes, "compare")
	e.counter(d.spent, m.ListBytes, "list")
	e.counter(d.spent, m.PullBytes, "pull")
	e.counter(d.again, m.AlreadyHad)
	e.counter(d.holes, m.HolesClosed)
	e.counter(d.errors, m.Errors)
	e.counter(d.scrubbed, m.ScrubbedBuckets)
	e.counter(d.scrubbedBytes, m.ScrubbedBytes)
	e.counter(d.damage, m.DamageFound, "found")
	e.counter(d.damage, m.DamageHealed, "healed")
}

// emitter sends metrics of one scrape.
type emitter struct{ ch chan<- prometheus.Metric }

func (e emitter) counter(d desc, v uint64, labels ...string) {
	e.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (e emitter) gauge(d desc, v float64, labels ...string) {
	e.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (e emitter) flag(d desc, on bool, labels ...string) {
	v := 0.0
	if on {
		v = 1
	}
	e.gauge(d, v, labels...)
}

// both sends a pair of counters labelled with their direction.
func (e emitter) both(d desc, in, out uint64) {
	e.counter(d, in, "in")
	e.counter(d, out, "out")
}

func (e emitter) histogram(d desc, h adamant.Histogram, labels ...string) {
	cumulative := make(map[float64]uint64, adamant.LatencyBuckets-1)
	sum := uint64(0)
	for i := range adamant.LatencyBuckets - 1 { // the last one has no bound: the count stands for it
		sum += h.Buckets[i]
		cumulative[adamant.LatencyBound(i).Seconds()] = sum
	}
	e.ch <- prometheus.MustNewConstHistogram(d, h.Count, h.Sum.Seconds(), cumulative, labels...)
}
