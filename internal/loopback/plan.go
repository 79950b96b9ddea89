// Package loopback plans clusters whose hosts all run on this machine, for programs that show or measure them.
//
// Ports are found by trying and are free when the plan is made; nothing keeps them, neither until a host opens nor while it is
// down. So they are on a loopback address of this process alone where there are more than one, and none is given twice:
// nobody else takes them meanwhile.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"

	"github.com/adamantdb/adamant/config"
)

// Spec is the shape of a cluster.
type Spec struct {
	Name                      string
	Hosts, Partitions, Voters int
}

// Plan makes a cluster of hosts h1, h2, … on a loopback address and writes its file. Each host is a zone of its own, so that the
// planner spreads freely.
func Plan(s Spec, file string) (*config.Cluster, error) {
	addrs, err := Addrs(s.Hosts)
	if err != nil {
		return nil, err
	}
	spec := config.Spec{Cluster: s.Name, Hosts: map[string]config.Host{}, Partitions: s.Partitions, Voters: s.Voters}
	for i, addr := range addrs {
		spec.Hosts[fmt.Sprintf("h%d", i+1)] = config.Host{Addr: addr}
	}
	c, err := config.Generate(spec)
	if err != nil {
		return nil, err
	}
	return c, os.WriteFile(file, c.Marshal(), 0o600)
}

// Addrs finds n different loopback addresses that are free for TCP and UDP, below those that outgoing connections use: the
// hosts dial each other while they start.
func Addrs(n int) ([]string, error) {
	given.Lock()
	defer given.Unlock()
	var addrs []string
	for tries := 0; len(addrs) < n; tries++ {
		if tries > 1000 {
			return nil, fmt.Errorf("no free ports on %s between 20000 and 32000", own())
		}
		addr := fmt.Sprintf("%s:%d", own(), 20000+rand.IntN(12000))
		if !given.addrs[addr] && free(addr) {
			addrs = append(addrs, addr)
			given.addrs[addr] = true
		}
	}
	return addrs, nil
}

// given are the addresses that this process has found.
var given = struct {
	sync.Mutex
	addrs map[string]bool
}{addrs: map[string]bool{}}

// own is a loopback address that no other process is likely to have chosen: on Linux all of 127.0.0.0/8 is the loopback device.
// Outgoing connections come from 127.0.0.1.
var own = sync.OnceValue(func() string {
	ip := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
	if runtime.GOOS != "linux" || !free(ip+":0") {
		return "127.0.0.1"
	}
	return ip
})

func free(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	return u.Close() == nil
}
