package adamant_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/httpapi"
	"github.com/adamantdb/adamant/internal/simnet"
	"github.com/adamantdb/adamant/mesh"
)

// TestForwardOverHTTP: an endpoint names the leader's addresses, or forwards when the request says so.
func TestForwardOverHTTP(t *testing.T) { synctest.Test(t, testForwardOverHTTP) }

func testForwardOverHTTP(t *testing.T) {
	net := simnet.New(1)
	c := &config.Cluster{Name: "test", Version: 1, Hosts: map[string]config.Host{}, Partitions: []config.Partition{{}}}
	for i := range 3 {
		name := fmt.Sprintf("h%d", i+1)
		c.Hosts[name] = config.Host{Addr: fmt.Sprintf("127.0.0.1:%d", 7001+i), HTTP: fmt.Sprintf("127.0.0.1:%d", 7481+i)}
		c.Partitions[0].Voters = append(c.Partitions[0].Voters, name)
	}
	hosts := map[string]*adamant.Host{}
	for _, name := range c.HostNames() {
		h, err := adamant.Open(adamant.Options{Dir: "data", FS: vfs.NewMem(), Clock: time.Now, Host: name, Cluster: c,
			Network: func(id mesh.Identity) mesh.Network { return net.Host(id) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.Kill() })
		hosts[name] = h
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, h := range hosts {
		if err := h.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	leader, follower := "", ""
	for follower == "" { // until all know the same
		leader = hosts["h1"].Routing()[0].Leader
		for name, h := range hosts {
			if r := h.Routing()[0]; r.Leader != leader || !r.Serving {
				follower = ""
				break
			}
			if name != leader {
				follower = name
			}
		}
		if ctx.Err() != nil {
			t.Fatal("no leader that all know")
		}
		time.Sleep(time.Millisecond)
	}
	ask := func(method, query, body string) (int, string) {
		r := httptest.NewRequest(method, "/v1/documents/games/g1"+query, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		httpapi.New(hosts[follower], httpapi.Options{}).Handler().ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	delta := `{"seqBegin":1,"seqEnd":1,"redo":{"a":1},"undo":{"a":null}}`
	for _, query := range []string{"", "?forward=false"} {
		status, body := ask("POST", query, delta)
		want := fmt.Sprintf(`"leader":%q,"addr":%q,"http":%q`, leader, c.Hosts[leader].Addr, c.Hosts[leader].HTTP)
		if status != 421 || !strings.Contains(body, want) {
			t.Errorf("%q: %d %s, want %s", query, status, body, want)
		}
	}
	if status, body := ask("POST", "?forward=true", delta); status != 201 {
		t.Errorf("forwarded: %d %s", status, body)
	}
	if status, body := ask("GET", "?forward=true", ""); status != 200 || !strings.Contains(body, `"json":{"a":1}`) {
		t.Errorf("forwarded: %d %s", status, body)
	}
	if status, body := ask("POST", "?forward=true", delta); status != 409 || !strings.Contains(body, `"code":667658`) {
		t.Errorf("forwarded: %d %s", status, body)
	}
	if status, body := ask("GET", "?forward=yes", ""); status != 400 {
		t.Errorf("a wrong parameter: %d %s", status, body)
	}
}
