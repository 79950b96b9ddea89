package main

import (
	"os"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/faultproxy"
	"github.com/adamantdb/adamant/internal/loopback"
)

// clusterName is that of every trial's cluster.
const clusterName = "bench"

// shape plans the trial's cluster and writes its file.
func (t trial) shape(file string) (*config.Cluster, error) {
	c, err := loopback.Plan(loopback.Spec{Name: clusterName, Hosts: t.settings.Hosts, Partitions: t.settings.Partitions, Voters: t.settings.Voters}, file)
	if err != nil || t.settings.load != loadFill {
		return c, err
	}
	// The last host is the one that is repaired. All others hold everything, and one of them leads, so that leaderships do
	// not move while it is away and when it is back.
	names := c.HostNames()
	for i := range c.Partitions {
		p := &c.Partitions[i]
		p.Voters, p.Replicas = names[:t.settings.Voters], names[t.settings.Voters:]
		p.Prefer = names[i%t.settings.Sources]
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, os.WriteFile(file, c.Marshal(), 0o600)
}

// distance puts proxies between the hosts when they are to be apart, and returns each host's own cluster file.
func (f *fleet) distance(t trial) (map[string]string, error) {
	if t.settings.RoundTrip == 0 && !cuts(t.settings.Kill) {
		return nil, nil
	}
	n, err := faultproxy.New(f.cluster, t.dir)
	if err != nil {
		return nil, err
	}
	n.RoundTrip(t.settings.RoundTrip)
	f.net = n
	files := map[string]string{}
	for _, name := range f.cluster.HostNames() {
		files[name] = n.File(name)
	}
	return files, nil
}
