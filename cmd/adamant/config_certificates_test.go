package main

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adamantdb/adamant/config"
)

// TestGeneratedFilesAreSecure: addresses that leave the machine bring TLS and a gossip key, unless plain links are asked for.
func TestGeneratedFilesAreSecure(t *testing.T) {
	far, near := []string{"--host", "h1=10.0.0.1:7400", "--host", "h2=10.0.0.2:7400"}, []string{"--host", "h1=127.0.0.1:7400", "--host", "h2=localhost:7401"}
	defaults, own := config.DefaultTLS(), config.TLS{Cert: "c", Key: "k", CA: "a"}
	for _, tc := range []struct {
		name  string
		args  []string
		tls   *config.TLS
		key   bool
		hints bool
	}{
		{"several machines", far, &defaults, true, true},
		{"one of them far", append(near[:2:2], far[2:]...), &defaults, true, true},
		{"own files", append(far[:4:4], "--tls-cert", "c", "--tls-key", "k", "--tls-ca", "a"), &own, true, false},
		{"insecure", append(far[:4:4], "--insecure"), nil, false, false},
		{"loopback", near, nil, false, false},
		{"loopback with a key", append(near[:4:4], "--gossip-key"), nil, true, false},
		{"an only host", []string{"--host", "h1=127.0.0.1:1"}, nil, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := command(t, "", append([]string{"config", "generate"}, tc.args...)...)
			c, err := config.Parse([]byte(r.out), "out")
			if r.code != 0 || err != nil {
				t.Fatalf("status %d, %s: %v", r.code, r.errs, err)
			}
			if (c.TLS == nil) != (tc.tls == nil) || c.TLS != nil && *c.TLS != *tc.tls || (len(c.GossipKey) == 32) != tc.key {
				t.Errorf("tls %+v, gossip key of %d bytes", c.TLS, len(c.GossipKey))
			}
			if hints := strings.Contains(r.errs, "config certificates"); hints != tc.hints {
				t.Errorf("err: %s", r.errs)
			}
		})
	}
}

// TestCertificates: each host gets its pair where the cluster file says, once; what is there and not this authority's stays.
func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "cluster.json")
	generate := func(hosts ...string) {
		t.Helper()
		args := []string{"config", "generate", "--force", "--out", file}
		for _, h := range hosts {
			args = append(args, "--host", h+"=10.0.0."+h[1:]+":7400")
		}
		command(t, "", args...).want(t, 0, "", "config certificates")
	}
	serial := func(host string) string {
		t.Helper()
		key := filepath.Join(dir, "tls", host+".key")
		if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatal(info, err)
		}
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls", host+".crt"), key)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.SerialNumber.String()
	}
	generate("h1", "h2")
	command(t, "", "config", "certificates", file).want(t, 0, "authority made", "")
	one := serial("h1")
	if serial("h2") == one {
		t.Fatal("hosts share a certificate")
	}
	if info, err := os.Stat(filepath.Join(dir, "authority", "ca.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "tls", "ca.key")); err == nil {
		t.Fatal("the authority's key is where hosts' files are")
	}
	generate("h1", "h2", "h3")
	command(t, "", "config", "certificates", file).want(t, 0, "h1.crt: good until", "")
	if serial("h1") != one || serial("h3") == one {
		t.Fatal("a host more has changed the others'")
	}
	command(t, "", "config", "certificates", file, "--renew", "--host", "h1", "--days", "20").want(t, 0, "h1.crt: made", "")
	soon := serial("h1")
	command(t, "", "config", "certificates", file).want(t, 0, "h1.crt: made", "") // it would have ended within 30 days
	if last := serial("h1"); soon == one || last == soon {
		t.Fatal("nothing was renewed")
	}
	command(t, "", "config", "certificates", file, "--authority", filepath.Join(dir, "second")).want(t, 1, "authority made", "another authority's")
	command(t, "", "config", "certificates", file, "--host", "h9").want(t, 2, "", `no host "h9"`)
	command(t, "", "config", "certificates", file, "--days", "0").want(t, 2, "", "at least 1")
	command(t, "", "config", "certificates", file, "--out", filepath.Join(dir, "copy")).want(t, 0, filepath.Join("copy", "tls", "h3.crt"), "")
}

// TestCertificatesWithoutPlaces: files that name no TLS, or one file for all hosts, are refused; one host's can be made.
func TestCertificatesWithoutPlaces(t *testing.T) {
	dir := t.TempDir()
	plain, shared := filepath.Join(dir, "plain.json"), filepath.Join(dir, "shared.json")
	command(t, "", threeHosts("--out", plain)...).want(t, 0, "", "")
	command(t, "", "config", "certificates", plain).want(t, 1, "", "its links are plain")
	command(t, "", threeHosts("--out", shared, "--tls-cert", "host.pem", "--tls-key", "host.key", "--tls-ca", "ca.pem")...).want(t, 0, "", "")
	command(t, "", "config", "certificates", shared).want(t, 1, "", "put {host} into the path")
	command(t, "", "config", "certificates", shared, "--host", "h2", "--out", filepath.Join(dir, "h2")).want(t, 0, "host.pem: made", "")
}
