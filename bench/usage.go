package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/adamantdb/adamant"
)

// usage are counters that only grow: of the process, and of the hosts it runs.
type usage struct {
	At          time.Time
	Measured    bool          // the system tells CPU time
	CPU         time.Duration // user and system
	DiskBytes   int64         // handed to the block layer; 0 where the system does not tell
	Mallocs     uint64
	MallocBytes uint64

	LogSyncs, LogBytes           uint64 // of Raft logs
	DocumentSyncs, DocumentBytes uint64 // of the document engine's WAL
	TableBytes                   uint64 // of both engines: flushed and compacted
	RaftBytes                    uint64 // of AppendEntries requests sent
	LinkBytes, LinkFrames        uint64 // sent
	GossipBytes                  uint64 // sent
	Leaderships, Candidacies     uint64
}

// memory is what a crew holds right after a garbage collection.
type memory struct {
	Bytes      uint64 // heap and stacks
	Goroutines int
}

func (s *site) usage() usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := s.retired
	u.At, u.Mallocs, u.MallocBytes = time.Now(), m.Mallocs, m.TotalAlloc
	for _, h := range s.hosts {
		u.count(h.Metrics())
	}
	u.CPU, u.DiskBytes, u.Measured = processUsage()
	return u
}

func (u *usage) count(m adamant.Metrics) {
	u.LogSyncs += m.Log.Syncs
	u.LogBytes += m.Log.Written
	u.DocumentSyncs += m.Documents.Syncs
	u.DocumentBytes += m.Documents.Written
	u.TableBytes += m.Log.Tables + m.Documents.Tables
	u.RaftBytes += m.Raft.AppendEntriesBytesOut + m.Raft.SnapshotBytesOut
	u.LinkBytes += m.Links.BytesOut
	u.LinkFrames += m.Links.FramesOut
	u.GossipBytes += m.Links.GossipOut
	u.Leaderships += m.Leaderships
	u.Candidacies += m.Candidacies
}

// add sums the usage of two crews.
func (u usage) add(v usage) usage {
	u.Measured = u.Measured && v.Measured
	u.CPU += v.CPU
	u.DiskBytes += v.DiskBytes
	u.Mallocs += v.Mallocs
	u.MallocBytes += v.MallocBytes
	u.LogSyncs += v.LogSyncs
	u.LogBytes += v.LogBytes
	u.DocumentSyncs += v.DocumentSyncs
	u.DocumentBytes += v.DocumentBytes
	u.TableBytes += v.TableBytes
	u.RaftBytes += v.RaftBytes
	u.LinkBytes += v.LinkBytes
	u.LinkFrames += v.LinkFrames
	u.GossipBytes += v.GossipBytes
	u.Leaderships += v.Leaderships
	u.Candidacies += v.Candidacies
	return u
}

// since is what was used after v.
func (u usage) since(v usage) usage {
	u.CPU -= v.CPU
	u.DiskBytes -= v.DiskBytes
	u.Mallocs -= v.Mallocs
	u.MallocBytes -= v.MallocBytes
	u.LogSyncs -= v.LogSyncs
	u.LogBytes -= v.LogBytes
	u.DocumentSyncs -= v.DocumentSyncs
	u.DocumentBytes -= v.DocumentBytes
	u.TableBytes -= v.TableBytes
	u.RaftBytes -= v.RaftBytes
	u.LinkBytes -= v.LinkBytes
	u.LinkFrames -= v.LinkFrames
	u.GossipBytes -= v.GossipBytes
	u.Leaderships -= v.Leaderships
	u.Candidacies -= v.Candidacies
	return u
}

// measureMemory collects twice: what finalizers release goes in the second collection.
func measureMemory() memory {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return memory{Bytes: m.HeapAlloc + m.StackInuse, Goroutines: runtime.NumGoroutine()}
}

// held is memory of this process in bytes: of Go's heap and stacks, garbage included, which is memory until it is collected; and of all
// that the system has given it and that is no file's, in which are the storage engines' blocks and what the collector holds back, too (0 where
// the system does not tell).
type held struct{ Heap, Resident uint64 }

var memorySamples = [...]string{"/memory/classes/heap/objects:bytes", "/memory/classes/heap/stacks:bytes"}

func memoryNow() (h held) {
	list := make([]metrics.Sample, len(memorySamples))
	for i := range list {
		list[i].Name = memorySamples[i]
	}
	metrics.Read(list)
	for _, s := range list {
		h.Heap += s.Value.Uint64()
	}
	h.Resident = residentBytes()
	return h
}

// residentBytes is what Linux says of this process.
func residentBytes() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident, shared uint64 // pages
	if _, err := fmt.Sscan(string(b), &size, &resident, &shared); err != nil || shared > resident {
		return 0
	}
	return (resident - shared) * uint64(os.Getpagesize())
}

// most is the larger of each.
func (h held) most(o held) held {
	return held{max(h.Heap, o.Heap), max(h.Resident, o.Resident)}
}

// memoryPoll is how often memory is looked at.
const memoryPoll = 10 * time.Millisecond

// watchMemory looks at this process' memory again and again. The function that it returns ends that and says by how much the most
// exceeded what there was at first.
func watchMemory() (stop func() held) {
	first := memoryNow()
	end, most := make(chan struct{}), make(chan held)
	go func() {
		tick := time.NewTicker(memoryPoll)
		defer tick.Stop()
		peak := first
		for {
			select {
			case <-tick.C:
				peak = peak.most(memoryNow())
			case <-end:
				peak = peak.most(memoryNow())
				most <- held{peak.Heap - first.Heap, peak.Resident - first.Resident}
				return
			}
		}
	}()
	return func() held {
		close(end)
		return <-most
	}
}
