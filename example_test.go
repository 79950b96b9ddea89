package adamant_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/loopback"
)

// open starts a single-host cluster in a temporary directory for the examples.
func open() (*adamant.Host, context.Context, func()) {
	dir, err := os.MkdirTemp("", "adamant-example")
	if err != nil {
		log.Fatal(err)
	}
	host, err := adamant.Open(adamant.Options{Dir: dir})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	if err := host.WaitReady(ctx); err != nil {
		log.Fatal(err)
	}
	return host, ctx, func() {
		cancel()
		if err := host.Close(); err != nil {
			log.Print(err)
		}
		os.RemoveAll(dir)
	}
}

func delta(seq int64, redo, undo string) adamant.Delta {
	return adamant.Delta{SeqBegin: seq, SeqEnd: seq, Redo: []byte(redo), Undo: []byte(undo)}
}

func Example() {
	host, ctx, done := open()
	defer done()
	key := adamant.Key{Space: "chess", Key: "game-1"}
	if err := host.Create(ctx, key, delta(1, `{"turn":"white","moves":{}}`, `{"turn":null,"moves":null}`)); err != nil {
		log.Fatal(err)
	}
	head, err := host.Append(ctx, key, []adamant.Delta{
		delta(2, `{"turn":"black","moves":{"1":"e4"}}`, `{"turn":"white","moves":{"1":null}}`),
		delta(3, `{"turn":"white","moves":{"2":"e5"}}`, `{"turn":"black","moves":{"2":null}}`),
	})
	if err != nil {
		log.Fatal(err)
	}
	doc, err := host.Get(ctx, key)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(head, string(doc.JSON))
	// Output: 3 {"turn":"white","moves":{"1":"e4","2":"e5"}}
}

// A writer that is behind gets the head with the error, reads what it missed, and tries again.
func ExampleHost_Append_catchUp() {
	host, ctx, done := open()
	defer done()
	key := adamant.Key{Space: "chat", Key: "room"}
	if err := host.Create(ctx, key, delta(1, `{"a":1}`, `{"a":null}`)); err != nil {
		log.Fatal(err)
	}
	if _, err := host.Append(ctx, key, []adamant.Delta{delta(2, `{"b":2}`, `{"b":null}`)}); err != nil {
		log.Fatal(err)
	}
	_, err := host.Append(ctx, key, []adamant.Delta{delta(2, `{"c":3}`, `{"c":null}`)})
	var mismatch *adamant.SeqMismatchError
	if !errors.As(err, &mismatch) {
		log.Fatal(err)
	}
	missed, err := host.HeadPatch(ctx, key, 1)
	if err != nil {
		log.Fatal(err)
	}
	head, err := host.Append(ctx, key, []adamant.Delta{delta(mismatch.Head+1, `{"c":3}`, `{"c":null}`)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(mismatch.Head, string(missed.JSON), head)
	// Output: 2 {"b":2} 3
}

func ExampleHost_Rewind() {
	host, ctx, done := open()
	defer done()
	key := adamant.Key{Space: "chess", Key: "game-2"}
	if err := host.Create(ctx, key, delta(1, `{"x":1}`, `{"x":null}`)); err != nil {
		log.Fatal(err)
	}
	if _, err := host.Append(ctx, key, []adamant.Delta{delta(2, `{"x":2}`, `{"x":1}`), delta(3, `{"y":1}`, `{"y":null}`)}); err != nil {
		log.Fatal(err)
	}
	undo, err := host.Rewind(ctx, key, 1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(undo.JSON))
	// Output: {"y":null,"x":1}
}

func ExampleHost_Compact() {
	host, ctx, done := open()
	defer done()
	key := adamant.Key{Space: "chess", Key: "game-3"}
	if err := host.Create(ctx, key, delta(1, `{"n":1}`, `{"n":null}`)); err != nil {
		log.Fatal(err)
	}
	for seq := int64(2); seq <= 10; seq++ {
		if _, err := host.Append(ctx, key, []adamant.Delta{delta(seq, fmt.Sprintf(`{"n":%d}`, seq), fmt.Sprintf(`{"n":%d}`, seq-1))}); err != nil {
			log.Fatal(err)
		}
	}
	if err := host.Compact(ctx, key, 10, []byte(`{"n":10}`), 3); err != nil { // keep three deltas for HeadPatch and Rewind
		log.Fatal(err)
	}
	_, tooOld := host.HeadPatch(ctx, key, 6)
	patch, err := host.HeadPatch(ctx, key, 7)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(errors.As(tooOld, new(*adamant.HorizonError)), string(patch.JSON))
	// Output: true {"n":10}
}

// A replacement begins the document anew from a snapshot, at any seq: for documents that are imported or restored.
func ExampleHost_Replace() {
	host, ctx, done := open()
	defer done()
	key := adamant.Key{Space: "chess", Key: "game-4"}
	if err := host.Create(ctx, key, delta(1, `{"n":1}`, `{"n":null}`)); err != nil {
		log.Fatal(err)
	}
	if err := host.Replace(ctx, key, 100, []byte(`{"imported":true}`)); err != nil {
		log.Fatal(err)
	}
	head, err := host.Append(ctx, key, []adamant.Delta{delta(101, `{"n":2}`, `{"n":null}`)})
	if err != nil {
		log.Fatal(err)
	}
	doc, err := host.Get(ctx, key)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(head, string(doc.JSON))
	// Output: 101 {"imported":true,"n":2}
}

// Deleting what is not there is no error, so a delete may be repeated; afterwards the key is free.
func ExampleHost_Delete() {
	host, ctx, done := open()
	defer done()
	key := adamant.Key{Space: "chess", Key: "game-5"}
	if err := host.Create(ctx, key, delta(1, `{"n":1}`, `{"n":null}`)); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		if err := host.Delete(ctx, key); err != nil {
			log.Fatal(err)
		}
	}
	_, gone := host.Get(ctx, key)
	again := host.Create(ctx, key, delta(1, `{"n":1}`, `{"n":null}`))
	fmt.Println(adamant.Code(gone) == adamant.CodeNotFound, again)
	// Output: true <nil>
}

// The stored deltas of a document as they are, for operators and audits.
func ExampleHost_Log() {
	host, ctx, done := open()
	defer done()
	key := adamant.Key{Space: "chess", Key: "game-6"}
	first := delta(1, `{"n":1}`, `{"n":null}`)
	first.Who = "alice"
	if err := host.Create(ctx, key, first); err != nil {
		log.Fatal(err)
	}
	if _, err := host.Append(ctx, key, []adamant.Delta{delta(2, `{"n":2}`, `{"n":1}`)}); err != nil {
		log.Fatal(err)
	}
	for entry, err := range host.Log(ctx, key) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d %q %s\n", entry.Delta.SeqEnd, entry.Delta.Who, entry.Delta.Redo)
	}
	// Output:
	// 1 "alice" {"n":1}
	// 2 "" {"n":2}
}

// WaitReady returns when every partition has a leader that serves; Status says everything that a host knows of itself.
func ExampleHost_Status() {
	dir, err := os.MkdirTemp("", "adamant-example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	host, err := adamant.Open(adamant.Options{Dir: dir, Partitions: 4})
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := host.WaitReady(ctx); err != nil {
		log.Fatal(err)
	}
	status := host.Status()
	ready, why := status.Ready()
	totals := status.Totals()
	fmt.Printf("%s: ready %v %q, serves %d of %d, %d sick\n", status.Host, ready, why, totals.Serving, totals.Members, totals.Sick)
	// Output: local: ready true "", serves 4 of 4, 0 sick
}

func ExampleHost_Inventory() {
	host, ctx, done := open()
	defer done()
	for i := range 3 {
		key := adamant.Key{Space: "cards", Key: fmt.Sprintf("table-%d", i)}
		if err := host.Create(ctx, key, delta(1, `{}`, `{}`)); err != nil {
			log.Fatal(err)
		}
	}
	n := 0
	for info, err := range host.Inventory(ctx, adamant.Scope{Space: "cards"}) {
		if err != nil {
			log.Fatal(err)
		}
		n += int(info.Entries)
	}
	fmt.Println(n)
	// Output: 3
}

// The leadership of a partition comes as a fencing token and a context that ends with the lease: for side effects that
// only the serving leader may have.
func ExampleHost_Lease() {
	host, _, done := open()
	defer done()
	where := host.Locate(adamant.Key{Space: "chess", Key: "game-1"})
	lease, err := host.Lease(where.Partition)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(where.Leader, lease.Epoch > 0, lease.Context.Err())
	// Output: local true <nil>
}

// Three hosts of one cluster; here in one process, usually in three. Any host says who leads, the leader does the work.
func ExampleOpen_cluster() {
	dir, err := os.MkdirTemp("", "adamant-example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	spec := config.Spec{Cluster: "example", Partitions: 4, Voters: 3, Hosts: map[string]config.Host{}}
	addrs, err := loopback.Addrs(3) // free ports of this machine
	if err != nil {
		log.Fatal(err)
	}
	for i, name := range []string{"h1", "h2", "h3"} {
		spec.Hosts[name] = config.Host{Addr: addrs[i], Zone: name}
	}
	cluster, err := config.Generate(spec)
	if err != nil {
		log.Fatal(err)
	}
	hosts := map[string]*adamant.Host{}
	for name := range cluster.Hosts {
		h, err := adamant.Open(adamant.Options{Dir: filepath.Join(dir, name), Host: name, Cluster: cluster})
		if err != nil {
			log.Fatal(err)
		}
		defer h.Close()
		hosts[name] = h
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, h := range hosts {
		if err := h.WaitReady(ctx); err != nil {
			log.Fatal(err)
		}
	}
	key := adamant.Key{Space: "chess", Key: "game-1"}
	for ctx.Err() == nil {
		leader := hosts["h1"].Locate(key).Leader
		if leader == "" {
			leader = "h1"
		}
		err := hosts[leader].Create(ctx, key, delta(1, `{"turn":"white"}`, `{"turn":null}`))
		var moved *adamant.NotLeaderError
		var busy *adamant.UnavailableError
		if errors.As(err, &moved) || errors.As(err, &busy) {
			time.Sleep(10 * time.Millisecond) // a moment ago another host led; ask again
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		doc, err := hosts[leader].Get(ctx, key, adamant.WithConsistency(adamant.ReadQuorum))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(doc.JSON))
		break
	}
	// Output: {"turn":"white"}
}
