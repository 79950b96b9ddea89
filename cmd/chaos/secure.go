//go:build unix

package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/pki"
)

// secured says whether hosts talk by mutual TLS: as the flag says, and else one time of two, by the seed.
func (o *options) secured() bool {
	switch o.TLS {
	case "on":
		return true
	case "off":
		return false
	}
	return (o.Seed^o.Seed>>1)&1 == 0 // not in step with what else small seeds choose
}

// secure has links be as in a cluster file that "adamant config generate" makes for several machines, or plain.
func (o *options) secure(spec *config.Spec) error {
	if !o.secured() {
		spec.Insecure = true
		return nil
	}
	files := config.DefaultTLS()
	spec.TLS, spec.GossipKey = &files, make([]byte, 32)
	if _, err := rand.Read(spec.GossipKey); err != nil {
		return err
	}
	now := time.Now()
	a, err := pki.NewAuthority(spec.Cluster, now)
	if err != nil {
		return fmt.Errorf("authority: %w", err)
	}
	for name := range spec.Hosts {
		cert, key, err := a.Issue(name, now, pki.HostLifetime)
		if err != nil {
			return fmt.Errorf("certificate of %s: %w", name, err)
		}
		at := files.Resolve(o.Dir, name)
		for path, content := range map[string][]byte{at.CA: a.CertPEM(), at.Cert: cert, at.Key: key} {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			if err := pki.WriteFile(path, content, 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// linksName says in the summary what links were like.
func (o *options) linksName() string {
	if o.secured() {
		return "mutual TLS"
	}
	return "plain"
}
