package mesh_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/mesh"
)

// benchPair is two hosts over loopback; the second one echoes.
func benchPair(b *testing.B) (*mesh.Mesh, *mesh.Mesh) {
	addrs := map[string]string{}
	var mu sync.Mutex
	resolve := func(host string) (string, bool) {
		mu.Lock()
		defer mu.Unlock()
		a, ok := addrs[host]
		return a, ok
	}
	var all []*mesh.Mesh
	for _, name := range []string{"a", "b"} {
		m, err := mesh.Listen(mesh.Options{Identity: mesh.Identity{Cluster: "c", Host: name, Incarnation: "1"}, Addr: "127.0.0.1:0", Resolve: resolve})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(m.Kill)
		mu.Lock()
		addrs[name] = m.Addr()
		mu.Unlock()
		all = append(all, m)
	}
	all[1].Handle(mesh.ServiceHost, mesh.HandlerFunc(func(_ mesh.Identity, r mesh.Request, reply func([]byte, error)) {
		reply(r.Payload[:min(len(r.Payload), 64)], nil)
	}))
	return all[0], all[1]
}

// BenchmarkRequests is round trips per second of n callers, each with one
// request at a time.
func BenchmarkRequests(b *testing.B) {
	for _, callers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			m, _ := benchPair(b)
			payload := make([]byte, 128)
			req := mesh.Request{Service: mesh.ServiceHost, Payload: payload}
			if _, err := m.Call(b.Context(), mesh.Target{Host: "b"}, req); err != nil {
				b.Fatal(err)
			}
			before := m.Stats()
			b.ReportAllocs()
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := m.Call(context.Background(), mesh.Target{Host: "b"}, req); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			after := m.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
			b.ReportMetric(float64(after.FramesOut-before.FramesOut)/float64(max(after.Writes-before.Writes, 1)), "frames/write")
		})
	}
}

// BenchmarkBytes is the throughput of requests of a size, eight under way.
func BenchmarkBytes(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("size=%dK", size>>10), func(b *testing.B) {
			m, _ := benchPair(b)
			req := mesh.Request{Service: mesh.ServiceHost, Class: mesh.Bulk, Payload: make([]byte, size)}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			flying := make(chan *mesh.Pending, 8)
			finish := func() {
				if _, err := (<-flying).Result(); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if len(flying) == cap(flying) {
					finish()
				}
				flying <- m.Start(mesh.Target{Host: "b"}, req)
			}
			for len(flying) > 0 {
				finish()
			}
		})
	}
}

// BenchmarkAppendEntries is raft's pipeline over the transport, entries of
// 256 bytes, from many partitions at once.
func BenchmarkAppendEntries(b *testing.B) {
	const partitions = 64
	m, n := benchPair(b)
	mux := mesh.NewRaftMux()
	n.Handle(mesh.ServiceRaft, mux)
	stop := make(chan struct{})
	var servers sync.WaitGroup
	var transports []*mesh.RaftTransport
	for i := range uint32(partitions) {
		tr := mesh.NewRaftTransport(n, i, "b@1", mesh.RaftOptions{})
		if err := mux.Add(tr); err != nil {
			b.Fatal(err)
		}
		servers.Go(func() {
			for {
				select {
				case rpc := <-tr.Consumer():
					rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: header, Success: true}, nil)
				case <-stop:
					return
				}
			}
		})
		transports = append(transports, mesh.NewRaftTransport(m, i, "a@1", mesh.RaftOptions{}))
	}
	defer func() { close(stop); servers.Wait() }()
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for _, tr := range transports {
		wg.Go(func() {
			p, err := tr.AppendEntriesPipeline("b@1", "b@1")
			if err != nil {
				b.Error(err)
				return
			}
			defer p.Close()
			entry := &raft.Log{Index: 1, Term: 1, Data: make([]byte, 256), AppendedAt: time.Now()}
			flying := 0
			for left.Add(-1) >= 0 {
				if flying == 2 {
					<-p.Consumer()
					flying--
				}
				if _, err := p.AppendEntries(&raft.AppendEntriesRequest{RPCHeader: header, Term: 1, Entries: []*raft.Log{entry}}, &raft.AppendEntriesResponse{}); err != nil {
					b.Error(err)
					return
				}
				flying++
			}
			for ; flying > 0; flying-- {
				<-p.Consumer()
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
}
