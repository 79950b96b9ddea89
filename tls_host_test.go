package adamant

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/pki"
)

// tlsCluster has three hosts with a partition on them and one without, h4, of a cluster file as `adamant config generate` makes
// it for several machines. Once the partition was founded, h4 is down.
func tlsCluster(t *testing.T) (*testCluster, string, *pki.Authority) {
	t.Helper()
	hosts := map[string]config.Host{}
	for i := range 4 {
		hosts[fmt.Sprintf("h%d", i+1)] = config.Host{Addr: freeAddr(t)}
	}
	files := config.DefaultTLS()
	first := &config.Cluster{Name: "test", Version: 1, TLS: &files, GossipKey: make([]byte, 32), Hosts: hosts,
		Partitions: []config.Partition{{ID: 0, Voters: []string{"h1", "h2", "h3"}, Prefer: "h1"}}}
	if err := first.Validate(); err != nil {
		t.Fatal(err)
	}
	authority, err := pki.NewAuthority(first.Name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "cluster.json")
	giveFiles(t, first, file, authority, authority)
	c := &testCluster{t: t, root: t.TempDir(), config: first, hosts: map[string]*Host{},
		change: func(o *Options) { o.Cluster, o.ClusterFile = nil, file }}
	t.Cleanup(c.close)
	for n := range hosts {
		c.open(n)
	}
	c.ready()
	c.kill("h4")
	return c, file, authority
}

// giveFiles writes a cluster file, with the TLS files that it names: certificates of issuer for all hosts, who trust an
// authority.
func giveFiles(t *testing.T, c *config.Cluster, file string, issuer, trusted *pki.Authority) {
	t.Helper()
	write := func(path string, b []byte) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), pki.WriteFile(path, b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for host := range c.Hosts {
		cert, key, err := issuer.Issue(host, time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		at := c.TLS.Resolve(filepath.Dir(file), host)
		write(at.Key, key)
		write(at.Cert, cert)
		write(at.CA, trusted.CertPEM())
	}
	write(file, c.Marshal())
}

// reaches reports which of the other hosts a host has a link to.
func reaches(h *Host) (hosts []string) {
	for _, p := range h.Status().Peers {
		if p.LinkUp {
			hosts = append(hosts, p.Host)
		}
	}
	return hosts
}

// TestHostsWithTLS: three hosts with the files of `adamant config certificates` work as others do; one that another authority
// vouches for, that has no certificate, or that is of another cluster finds nobody, and one with the cluster's own does. Certificates may be
// renewed while hosts run.
func TestHostsWithTLS(t *testing.T) {
	c, file, authority := tlsCluster(t)
	c.fill(0, 5, 2)
	c.healthy()
	foreign, err := pki.NewAuthority("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	plain, other := c.config.Clone(), c.config.Clone()
	plain.Insecure, plain.TLS = true, nil
	other.Name = "other"
	for _, tc := range []struct {
		name            string
		cluster         *config.Cluster
		issuer, trusted *pki.Authority
	}{
		{"of another authority", c.config, foreign, foreign},
		{"of another authority, trusting this one", c.config, foreign, authority},
		{"without TLS", plain, nil, nil},
		{"of another cluster", other, authority, authority},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			o := c.options("h4")
			o.Dir, o.ClusterFile = filepath.Join(dir, "data"), filepath.Join(dir, "cluster.json")
			if tc.cluster.TLS != nil {
				giveFiles(t, tc.cluster, o.ClusterFile, tc.issuer, tc.trusted)
			} else if err := os.WriteFile(o.ClusterFile, tc.cluster.Marshal(), 0o600); err != nil {
				t.Fatal(err)
			}
			before := c.host("h1").Metrics().Links.Refused
			stranger, err := Open(o)
			if err != nil {
				t.Fatal(err)
			}
			defer stranger.Kill()
			waitFor(t, "it to be turned away", func() error {
				if now := c.host("h1").Metrics().Links.Refused; now < before+3 {
					return fmt.Errorf("%d times", now-before)
				}
				return nil
			})
			if l := reaches(stranger); len(l) > 0 {
				t.Errorf("it has links to %v", l)
			}
			if at := stranger.Locate(testKey(0)); at.Leader != "" {
				t.Errorf("it knows who leads: %+v", at)
			}
		})
	}
	// The same host with a certificate of the cluster's authority is let in.
	welcome := c.open("h4")
	waitFor(t, "links with the cluster's certificate", func() error {
		if l := reaches(welcome); len(l) != 3 {
			return fmt.Errorf("to %v", l)
		}
		return nil
	})
	renewCertificates(t, c, file, authority)
}

// renewCertificates replaces the files of hosts that run, and sees that one is shown, and that a host comes back with it.
func renewCertificates(t *testing.T, c *testCluster, file string, authority *pki.Authority) {
	shown := func() string {
		at := c.config.TLS.Resolve(filepath.Dir(file), "h4")
		pair, err := tls.LoadX509KeyPair(at.Cert, at.Key)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := tls.Dial("tcp", c.config.Hosts["h1"].Addr, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}})
		if err != nil {
			return ""
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := shown()
	if before == "" {
		t.Fatal("h1 shows no certificate")
	}
	giveFiles(t, c.config, file, authority, authority)
	waitFor(t, "the renewed certificate", func() error {
		if now := shown(); now == "" || now == before {
			return fmt.Errorf("serial %s", now)
		}
		return nil
	})
	c.kill("h3")
	c.open("h3")
	c.ready()
	c.fill(5, 7, 2)
	c.healthy()
}
