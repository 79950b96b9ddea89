package mesh_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/adamantdb/adamant/mesh"
)

// pair is two transports of a partition on two hosts.
func pair(t *testing.T, f fabric, opts mesh.RaftOptions) (a, b *mesh.RaftTransport) {
	t.Helper()
	make := func(name string) *mesh.RaftTransport {
		n := f.start(t, name, "1")
		mux := mesh.NewRaftMux()
		n.Handle(mesh.ServiceRaft, mux)
		tr := mesh.NewRaftTransport(n, 1, raft.ServerID(n.Self().ID()), opts)
		if err := mux.Add(tr); err != nil {
			t.Fatal(err)
		}
		if err := mux.Add(tr); err == nil {
			t.Fatal("a second transport for a partition was taken")
		}
		t.Cleanup(func() { _ = tr.Close() })
		return tr
	}
	return make("a"), make("b")
}

// answer replies to what a transport consumes until the test ends.
func answer(t *testing.T, tr *mesh.RaftTransport, how func(raft.RPC)) {
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case rpc := <-tr.Consumer():
				how(rpc)
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
}

var header = raft.RPCHeader{ProtocolVersion: 3, ID: []byte("a@1"), Addr: []byte("a@1")}

func onFabrics(t *testing.T, run func(t *testing.T, f fabric)) {
	for _, f := range fabrics {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			run(t, f.make(t))
		})
	}
}

func TestRaftCalls(t *testing.T) {
	onFabrics(t, func(t *testing.T, f fabric) {
		a, b := pair(t, f, mesh.RaftOptions{})
		answer(t, b, func(rpc raft.RPC) {
			switch c := rpc.Command.(type) {
			case *raft.RequestVoteRequest:
				rpc.Respond(&raft.RequestVoteResponse{RPCHeader: header, Term: c.Term, Granted: c.LeadershipTransfer}, nil)
			case *raft.RequestPreVoteRequest:
				rpc.Respond(&raft.RequestPreVoteResponse{Term: c.Term + 1}, nil)
			case *raft.TimeoutNowRequest:
				rpc.Respond(&raft.TimeoutNowResponse{RPCHeader: header}, nil)
			case *raft.AppendEntriesRequest:
				rpc.Respond(nil, errors.New("raft says no"))
			case *raft.InstallSnapshotRequest:
				data, err := io.ReadAll(rpc.Reader)
				rpc.Respond(&raft.InstallSnapshotResponse{Term: c.Term, Success: err == nil && string(data) == "marker" && c.Size == 6}, nil)
			}
		})
		var vote raft.RequestVoteResponse
		if err := a.RequestVote("b@1", "b@1", &raft.RequestVoteRequest{RPCHeader: header, Term: 3, LeadershipTransfer: true}, &vote); err != nil || !vote.Granted || vote.Term != 3 {
			t.Errorf("vote: %+v, %v", vote, err)
		}
		var pre raft.RequestPreVoteResponse
		if err := a.RequestPreVote("b@1", "b@1", &raft.RequestPreVoteRequest{RPCHeader: header, Term: 3}, &pre); err != nil || pre.Granted || pre.Term != 4 {
			t.Errorf("pre-vote: %+v, %v", pre, err)
		}
		var now raft.TimeoutNowResponse
		if err := a.TimeoutNow("b@1", "b@1", &raft.TimeoutNowRequest{RPCHeader: header}, &now); err != nil || string(now.ID) != "a@1" {
			t.Errorf("timeout now: %+v, %v", now, err)
		}
		err := a.AppendEntries("b@1", "b@1", &raft.AppendEntriesRequest{RPCHeader: header}, &raft.AppendEntriesResponse{})
		var remote *mesh.RemoteError
		if !errors.As(err, &remote) || remote.Num != mesh.CodeRaft || remote.Text != "raft says no" {
			t.Errorf("an error of raft: %v", err)
		}
		var snap raft.InstallSnapshotResponse
		configuration := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "a@1", Address: "a@1"}}})
		install := func(size int64, data string) error {
			return a.InstallSnapshot("b@1", "b@1", &raft.InstallSnapshotRequest{RPCHeader: header, SnapshotVersion: 1, Configuration: configuration, Size: size}, &snap, strings.NewReader(data))
		}
		if err := install(6, "marker"); err != nil || !snap.Success {
			t.Errorf("snapshot: %+v, %v", snap, err)
		}
		var big *mesh.TooLargeError
		if err := install(1<<20+1, strings.Repeat("x", 1<<20+1)); !errors.As(err, &big) {
			t.Errorf("a snapshot that is no marker: %v", err)
		}
		if install(6, "short") == nil || install(6, "too long") == nil {
			t.Error("a snapshot of another size than announced was sent")
		}

	})
}

// What must not get through to Raft, or to another server, does not.
func TestRaftMisdirectedCalls(t *testing.T) {
	onFabrics(t, func(t *testing.T, f fabric) {
		a, b := pair(t, f, mesh.RaftOptions{})
		var vote raft.RequestVoteResponse
		// Whom a call is for.
		var wrong *mesh.WrongIncarnationError
		if err := a.RequestVote("b@9", "b@9", &raft.RequestVoteRequest{RPCHeader: header}, &vote); !errors.As(err, &wrong) {
			t.Errorf("another incarnation: %v", err)
		}
		for _, address := range []raft.ServerAddress{"", "b", "@1", "b@"} {
			if err := a.RequestVote("b", address, &raft.RequestVoteRequest{RPCHeader: header}, &vote); err == nil {
				t.Errorf("address %q was taken", address)
			}
		}
		if got := a.DecodePeer(a.EncodePeer("b@1", "b@1")); got != "b@1" || a.LocalAddr() != "a@1" {
			t.Errorf("addresses: %q, %q", got, a.LocalAddr())
		}
		// Nobody speaks for another server, and nobody makes raft panic.
		forged := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("c@1"), Addr: []byte("c@1")}
		if err := a.RequestVote("b@1", "b@1", &raft.RequestVoteRequest{RPCHeader: forged}, &vote); !errors.Is(err, mesh.ErrMalformed) {
			t.Errorf("in another server's name: %v", err)
		}
		poison := []*raft.Log{{Index: 1, Type: raft.LogConfiguration, Data: []byte("poison")}}
		if err := a.AppendEntries("b@1", "b@1", &raft.AppendEntriesRequest{RPCHeader: header, Entries: poison}, &raft.AppendEntriesResponse{}); !errors.Is(err, mesh.ErrMalformed) {
			t.Errorf("a configuration that cannot be decoded: %v", err)
		}
		poison = []*raft.Log{{Index: 1, Type: raft.LogConfiguration + 1}}
		if err := a.AppendEntries("b@1", "b@1", &raft.AppendEntriesRequest{RPCHeader: header, Entries: poison}, &raft.AppendEntriesResponse{}); !errors.Is(err, mesh.ErrMalformed) {
			t.Errorf("an entry of no known type: %v", err)
		}
		if n := b.Stats().Refused; n != 3 {
			t.Errorf("%d requests were refused", n)
		}

		_ = b.Close()
		if err := a.RequestVote("b@1", "b@1", &raft.RequestVoteRequest{RPCHeader: header}, &vote); !errors.Is(err, mesh.ErrUnknownPartition) {
			t.Errorf("to a closed partition: %v", err)
		}
		_ = a.Close()
		if err := a.RequestVote("b@1", "b@1", &raft.RequestVoteRequest{RPCHeader: header}, &vote); err != raft.ErrTransportShutdown {
			t.Errorf("from a closed partition: %v", err)
		}
	})
}

// A Raft that does not take its requests is told apart from one that does: the
// callers get an error each, and other partitions go on.
func TestRaftThatDoesNotRead(t *testing.T) {
	onFabrics(t, func(t *testing.T, f fabric) {
		a, b := pair(t, f, mesh.RaftOptions{Queue: 4, HeartbeatTimeout: 5 * time.Second})
		var wg sync.WaitGroup
		var mu sync.Mutex
		overloaded := 0
		for range 12 {
			wg.Go(func() {
				err := a.RequestVote("b@1", "b@1", &raft.RequestVoteRequest{RPCHeader: header}, &raft.RequestVoteResponse{})
				mu.Lock()
				defer mu.Unlock()
				if errors.Is(err, mesh.ErrOverloaded) {
					overloaded++
				} else if err != nil && !errors.Is(err, mesh.ErrUnknownPartition) {
					t.Error(err)
				}
			})
		}
		eventually(t, "eight of twelve are refused", func() bool { return b.Stats().Overflows == 8 })
		_ = b.Close() // fails the four that wait
		wg.Wait()
		if overloaded != 8 {
			t.Errorf("%d callers were told", overloaded)
		}
	})
}

// What a wrapper of the transport drops without an answer is answered in time.
func TestRaftDroppedRequest(t *testing.T) {
	onFabrics(t, func(t *testing.T, f fabric) {
		a, b := pair(t, f, mesh.RaftOptions{ServeTimeout: 50 * time.Millisecond})
		answer(t, b, func(raft.RPC) {})
		err := a.TimeoutNow("b@1", "b@1", &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{})
		var remote *mesh.RemoteError
		if !errors.As(err, &remote) {
			t.Error(err)
		}
	})
}

// pipelined sends request i.
func pipelined(t *testing.T, p raft.AppendPipeline, i uint64) raft.AppendFuture {
	t.Helper()
	f, err := p.AppendEntries(&raft.AppendEntriesRequest{RPCHeader: header, PrevLogEntry: i}, &raft.AppendEntriesResponse{})
	if err != nil {
		t.Error(err)
	}
	return f
}

func TestRaftPipeline(t *testing.T) {
	onFabrics(t, func(t *testing.T, f fabric) {
		a, b := pair(t, f, mesh.RaftOptions{InFlight: 4})
		requests := make(chan raft.RPC, 100)
		answer(t, b, func(rpc raft.RPC) { requests <- rpc })
		p, err := a.AppendEntriesPipeline("b@1", "b@1")
		if err != nil {
			t.Fatal(err)
		}
		send := func(i uint64) raft.AppendFuture {
			t.Helper()
			return pipelined(t, p, i)
		}
		before := time.Now()
		var futures []raft.AppendFuture
		for i := range uint64(4) {
			futures = append(futures, send(i))
		}
		// A fifth has to wait.
		fifth := make(chan raft.AppendFuture)
		go func() { fifth <- send(4) }()
		var rpcs []raft.RPC
		for i := range uint64(4) {
			rpc := <-requests
			if got := rpc.Command.(*raft.AppendEntriesRequest).PrevLogEntry; got != i {
				t.Fatalf("request %d arrived as number %d", got, i)
			}
			rpcs = append(rpcs, rpc)
		}
		select {
		case <-fifth:
			t.Fatal("five requests are under way in a pipeline of four")
		case <-time.After(20 * time.Millisecond):
		}
		// Answers out of order; the futures come in order.
		for _, i := range []uint64{2, 0, 1, 3} {
			rpcs[i].Respond(&raft.AppendEntriesResponse{LastLog: i, Success: true}, nil)
		}
		for i := range uint64(4) {
			got := <-p.Consumer()
			if got != futures[i] || got.Error() != nil || got.Response().LastLog != i || got.Request().PrevLogEntry != i {
				t.Fatalf("future %d: %+v", i, got.Response())
			}
			if got.Start().Before(before) || got.Start().After(time.Now()) {
				t.Fatal("Start is not when the request was sent")
			}
		}
		futures = append(futures, <-fifth)
		rpc := <-requests

		// A refusal of raft's is an answer like any other.
		rpc.Respond(&raft.AppendEntriesResponse{}, nil)
		if got := <-p.Consumer(); got != futures[4] || got.Response().Success {
			t.Fatal("a refusal is an answer")
		}

	})
}

// After a failure nothing more comes out of Consumer, and the next request is
// refused.
func TestRaftPipelineFailure(t *testing.T) {
	onFabrics(t, func(t *testing.T, f fabric) {
		a, b := pair(t, f, mesh.RaftOptions{InFlight: 4})
		requests := make(chan raft.RPC, 100)
		answer(t, b, func(rpc raft.RPC) { requests <- rpc })
		p, err := a.AppendEntriesPipeline("b@1", "b@1")
		if err != nil {
			t.Fatal(err)
		}
		send := func(i uint64) raft.AppendFuture {
			t.Helper()
			return pipelined(t, p, i)
		}
		first, second := send(5), send(6)
		rpc := <-requests
		rpc.Respond(nil, errors.New("no"))
		rpc = <-requests
		if err := first.Error(); err == nil || !strings.Contains(err.Error(), "no") {
			t.Fatalf("failed: %v", err)
		}
		rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
		if err := second.Error(); err == nil {
			t.Fatal("a request behind a failed one succeeded")
		}
		if _, err := p.AppendEntries(&raft.AppendEntriesRequest{RPCHeader: header}, &raft.AppendEntriesResponse{}); err == nil || !strings.Contains(err.Error(), "no") {
			t.Fatalf("after a failure: %v", err)
		}
		select {
		case <-p.Consumer():
			t.Fatal("a failed future came out of Consumer")
		default:
		}
		_ = p.Close()

		// Closing ends what is under way.
		p, _ = a.AppendEntriesPipeline("b@1", "b@1")
		future := send(7)
		<-requests
		_ = p.Close()
		_ = p.Close()
		if err := future.Error(); err == nil {
			t.Fatal("a request outlived its pipeline")
		}
		if _, err := p.AppendEntries(&raft.AppendEntriesRequest{RPCHeader: header}, &raft.AppendEntriesResponse{}); err != raft.ErrPipelineShutdown {
			t.Fatalf("after Close: %v", err)
		}
	})
}

// Whoever takes the futures leaves with the first answer that says no, or is of
// a later term. Nobody may wait then for a place behind it.
func TestRaftPipelineAfterARefusal(t *testing.T) {
	for name, no := range map[string]raft.AppendEntriesResponse{"no": {}, "a later term": {Term: 1, Success: true}} {
		t.Run(name, func(t *testing.T) {
			onFabrics(t, func(t *testing.T, f fabric) {
				a, b := pair(t, f, mesh.RaftOptions{InFlight: 2})
				requests := make(chan raft.RPC, 100)
				answer(t, b, func(rpc raft.RPC) { requests <- rpc })
				p, err := a.AppendEntriesPipeline("b@1", "b@1")
				if err != nil {
					t.Fatal(err)
				}
				first, second := pipelined(t, p, 5), pipelined(t, p, 6)
				defer p.Close()
				waits := make(chan error, 1)
				go func() {
					for {
						if _, err := p.AppendEntries(&raft.AppendEntriesRequest{RPCHeader: header}, &raft.AppendEntriesResponse{}); err != nil {
							waits <- err
							return
						}
					}
				}()
				refuse := func() { rpc := <-requests; rpc.Respond(&no, nil) }
				refuse()
				if got := <-p.Consumer(); got != first || got.Error() != nil || got.Response().Success != no.Success || got.Response().Term != no.Term {
					t.Fatalf("%v: %+v", got.Error(), got.Response())
				}
				refuse()
				if err := second.Error(); err == nil {
					t.Fatal("an answer behind a refusal was taken for one that somebody waits for")
				}
				for stop := time.After(patience); ; {
					select {
					case <-waits:
						return
					case rpc := <-requests: // one may have had its place when the answer came
						rpc.Respond(&no, nil)
					case <-stop:
						t.Fatal("a request waits for its place after a refusal")
					}
				}
			})
		})
	}
}

// A pipeline rests while nothing is under way: an answer that says no, which
// nobody was asked for and which is no acknowledgement, has Raft leave it.
func TestRaftPipelineRests(t *testing.T) {
	type restful interface{ Rest() bool }
	onFabrics(t, func(t *testing.T, f fabric) {
		a, b := pair(t, f, mesh.RaftOptions{InFlight: 4})
		requests := make(chan raft.RPC, 100)
		answer(t, b, func(rpc raft.RPC) { requests <- rpc })
		p, err := a.AppendEntriesPipeline("b@1", "b@1")
		if err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		future := pipelined(t, p, 5)
		rpc := <-requests
		if p.(restful).Rest() {
			t.Fatal("a pipeline rests whose request is not answered")
		}
		rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
		if err := future.Error(); err != nil {
			t.Fatal(err)
		}
		if p.(restful).Rest() {
			t.Fatal("a pipeline rests whose answer was not taken")
		}
		<-p.Consumer()
		if !p.(restful).Rest() {
			t.Fatal("a quiet pipeline does not rest")
		}
		no := <-p.Consumer()
		if no.Error() != nil || no.Response().Success || no.Response().Term >= no.Request().Term || len(no.Request().Entries) > 0 {
			t.Fatalf("what Raft leaves a pipeline by: %v, %+v to %+v", no.Error(), no.Response(), no.Request())
		}
		if no.Start().Before(before) || no.Start().After(time.Now()) {
			t.Fatal("Start is not when it was given")
		}
		if p.(restful).Rest() {
			t.Fatal("a pipeline rests twice")
		}
		if _, err := p.AppendEntries(&raft.AppendEntriesRequest{RPCHeader: header}, &raft.AppendEntriesResponse{}); err == nil {
			t.Fatal("a pipeline that rests took a request")
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if p.(restful).Rest() {
			t.Fatal("a closed pipeline rests")
		}
	})
}

// Entries beyond a frame are cut from the request, where raft finds out.
func TestRaftLongAppend(t *testing.T) {
	onFabrics(t, func(t *testing.T, f fabric) {
		a, b := pair(t, f, mesh.RaftOptions{})
		var arrived atomic.Int64
		answer(t, b, func(rpc raft.RPC) {
			arrived.Store(int64(len(rpc.Command.(*raft.AppendEntriesRequest).Entries)))
			rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
		})
		entries := func(n, size int) (list []*raft.Log) {
			for i := range n {
				list = append(list, &raft.Log{Index: uint64(i + 1), Data: bytes.Repeat([]byte{1}, size)})
			}
			return list
		}
		for _, c := range []struct{ n, size, want int }{{30, 100 << 10, 10}, {2, 2 << 20, 1}, {1, 7 << 20, 1}, {1024, 100, 1024}, {5000, 1, 4096}} {
			req := &raft.AppendEntriesRequest{RPCHeader: header, Entries: entries(c.n, c.size)}
			if err := a.AppendEntries("b@1", "b@1", req, &raft.AppendEntriesResponse{}); err != nil {
				t.Fatal(err)
			}
			if got := int(arrived.Load()); got != c.want || len(req.Entries) != got {
				t.Errorf("%d entries of %d bytes: %d arrived, %d left in the request", c.n, c.size, got, len(req.Entries))
			}
		}
		var big *mesh.TooLargeError
		req := &raft.AppendEntriesRequest{RPCHeader: header, Entries: entries(1, 9<<20)}
		if err := a.AppendEntries("b@1", "b@1", req, &raft.AppendEntriesResponse{}); !errors.As(err, &big) {
			t.Errorf("an entry over the frame limit: %v", err)
		}
	})
}

// In a pipeline they follow at once, and raft's request stays whole: it counts
// all of it as sent.
func TestRaftLongPipelined(t *testing.T) {
	onFabrics(t, func(t *testing.T, f fabric) {
		a, b := pair(t, f, mesh.RaftOptions{AppendBytes: 2000})
		requests := make(chan raft.RPC, 100)
		answer(t, b, func(rpc raft.RPC) { requests <- rpc })
		p, err := a.AppendEntriesPipeline("b@1", "b@1")
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		const n = 20
		req := &raft.AppendEntriesRequest{RPCHeader: header, Term: 9, PrevLogEntry: 5, PrevLogTerm: 2, LeaderCommitIndex: 7}
		for i := range uint64(n) {
			req.Entries = append(req.Entries, &raft.Log{Index: 6 + i, Term: 3 + i/10, Data: bytes.Repeat([]byte{1}, 400)})
		}
		sent := make(chan raft.AppendFuture, 1)
		go func() {
			f, err := p.AppendEntries(req, &raft.AppendEntriesResponse{})
			if err != nil {
				t.Error(err)
			}
			sent <- f
		}()
		prev, term, pieces := uint64(5), uint64(2), 0
		for ; prev < 5+n; pieces++ {
			rpc := <-requests
			got := rpc.Command.(*raft.AppendEntriesRequest)
			if got.Term != 9 || got.LeaderCommitIndex != 7 || got.PrevLogEntry != prev || got.PrevLogTerm != term || len(got.Entries) == 0 || len(got.Entries) > 5 {
				t.Fatalf("piece %d: %d entries after %d of term %d, want those after %d of %d", pieces, len(got.Entries), got.PrevLogEntry, got.PrevLogTerm, prev, term)
			}
			last := got.Entries[len(got.Entries)-1]
			prev, term = last.Index, last.Term
			rpc.Respond(&raft.AppendEntriesResponse{Term: 9, Success: true}, nil)
			answered := <-p.Consumer()
			if entries := answered.Request().Entries; entries[len(entries)-1].Index != prev || !answered.Response().Success {
				t.Fatalf("piece %d: the answer is to entries up to %d", pieces, entries[len(entries)-1].Index)
			}
		}
		if pieces < 4 || len(req.Entries) != n || req.PrevLogEntry != 5 {
			t.Errorf("%d pieces; %d entries are left in the request, after %d", pieces, len(req.Entries), req.PrevLogEntry)
		}
		if f := <-sent; f == nil || f.Error() != nil {
			t.Error("the request has no answer")
		}
	})
}

// Closing a transport ends the calls it has under way, so that Raft's own
// shutdown, which waits for them, is not held up.
func TestRaftCloseEndsCalls(t *testing.T) {
	onFabrics(t, func(t *testing.T, f fabric) {
		a, b := pair(t, f, mesh.RaftOptions{HeartbeatTimeout: time.Hour, AppendTimeout: time.Hour})
		ended := make(chan error, 2)
		go func() {
			ended <- a.RequestVote("b@1", "b@1", &raft.RequestVoteRequest{RPCHeader: header}, &raft.RequestVoteResponse{})
		}()
		p, err := a.AppendEntriesPipeline("b@1", "b@1")
		if err != nil {
			t.Fatal(err)
		}
		future, err := p.AppendEntries(&raft.AppendEntriesRequest{RPCHeader: header}, &raft.AppendEntriesResponse{})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "both have arrived", func() bool { return b.Stats().RPCsIn == 2 })
		_ = a.Close()
		if err := <-ended; err != raft.ErrTransportShutdown {
			t.Errorf("call: %v", err)
		}
		if err := future.Error(); err == nil {
			t.Error("a pipelined request outlived its transport")
		}
	})
}
