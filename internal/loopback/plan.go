// Package loopback plans clusters whose hosts all run on this machine, for programs that show or measure them.
//
// Ports are found by trying and are free when the plan is made; nothing keeps them. Somebody else may take one before
// its host opens, which then fails with a clear error.
package loopback

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"

	"github.com/adamantdb/adamant/config"
)

// Spec is the shape of a cluster.
type Spec struct {
	Name                      string
	Hosts, Partitions, Voters int
}

// Plan makes a cluster of hosts h1, h2, … on 127.0.0.1 and writes its file. Each host is a zone of its own, so that the
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
	var addrs []string
	for tries := 0; len(addrs) < n; tries++ {
		if tries > 1000 {
			return nil, errors.New("no free ports on 127.0.0.1 between 20000 and 32000")
		}
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		if !slices.Contains(addrs, addr) && free(addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}

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
