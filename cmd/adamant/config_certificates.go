package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant/config"
	"github.com/adamantdb/adamant/internal/pki"
)

// renewBefore is how long before its end a certificate is replaced.
const renewBefore = 30 * 24 * time.Hour

func newConfigCertificates() *cobra.Command {
	var (
		c     certificates
		hosts []string
		days  int
	)
	cmd := &cobra.Command{
		Use:   "certificates FILE",
		Short: "Make the TLS files that a cluster file names",
		Long: `certificates makes an authority for the cluster, unless it is there, and a certificate with its key for each host, where the
cluster file says that hosts look for them. Certificates that are good for another 30 days stay; --renew replaces them, too.

Copy to each host its own two files and the authority's certificate. Hosts notice renewed files by themselves. The
authority's directory stays where it is: whoever has the key in it can make a host of the cluster.`,
		Example: `  adamant config certificates cluster.json
  adamant config certificates cluster.json --authority /media/safe/prod-1 --out /tmp/prod-1 --renew --host h3`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cluster, err := config.Load(args[0])
			if err != nil {
				return err
			}
			if days < 1 {
				return usageError{fmt.Errorf("--days %d: want at least 1", days)}
			}
			c.cluster, c.now, c.lifetime = cluster, time.Now(), time.Duration(days)*24*time.Hour
			c.say = func(format string, a ...any) { fmt.Fprintf(cmd.OutOrStdout(), format+"\n", a...) }
			beside := filepath.Dir(args[0])
			if c.out == "" {
				c.out = beside
			}
			if c.authority == "" {
				c.authority = filepath.Join(beside, "authority")
			}
			return c.make(hosts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.authority, "authority", "", `directory of the authority (default "authority" beside the cluster file)`)
	f.StringVar(&c.out, "out", "", "where the cluster file's relative paths begin (default its directory)")
	f.StringArrayVar(&hosts, "host", nil, "make the files of this host only (repeatable)")
	f.IntVar(&days, "days", int(pki.HostLifetime/(24*time.Hour)), "how long certificates of hosts are good for")
	f.BoolVar(&c.renew, "renew", false, "replace certificates that are good for longer, and those of another authority")
	return cmd
}

// certificates makes the TLS files of a cluster's hosts.
type certificates struct {
	cluster        *config.Cluster
	authority, out string // directories
	now            time.Time
	lifetime       time.Duration
	renew          bool
	say            func(format string, a ...any)
}

// make makes the files of some hosts, of all when none is named.
func (c *certificates) make(hosts []string) error {
	if c.cluster.TLS == nil {
		return errors.New("the cluster file has no tls: its links are plain")
	}
	if len(hosts) == 0 {
		hosts = c.cluster.HostNames()
	}
	owner := map[string]string{} // of files
	for _, host := range hosts {
		if _, ok := c.cluster.Hosts[host]; !ok {
			return usageError{fmt.Errorf("the cluster file has no host %q", host)}
		}
		files := c.cluster.TLS.Resolve(c.out, host)
		for _, path := range []string{files.Cert, files.Key} {
			if other, taken := owner[path]; taken && other != host {
				return fmt.Errorf("%s would be both host %s's and host %s's: put %s into the path, or make one host's files at a time (--host, --out)",
					path, other, host, config.HostInPath)
			}
			owner[path] = host
		}
	}
	authority, made, err := pki.OpenAuthority(c.authority, c.cluster.Name, c.now)
	if err != nil {
		return err
	}
	if made {
		c.say("%s: authority made, good until %s; keep its key off the hosts", c.authority, authority.NotAfter().Format(time.DateOnly))
	}
	for _, host := range hosts {
		files := c.cluster.TLS.Resolve(c.out, host)
		if err := errors.Join(c.trust(authority, files.CA), c.pair(authority, host, files)); err != nil {
			return err
		}
	}
	return nil
}

// trust puts the authority's certificate in place. A file that lacks it is somebody else's, unless it is to be replaced.
func (c *certificates) trust(a *pki.Authority, path string) error {
	have, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Contains(have, a.CertPEM()):
		return nil
	case err == nil && !c.renew:
		return fmt.Errorf("%s holds another authority's certificate; --renew replaces it", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return c.put(path, a.CertPEM(), 0o644)
}

// pair makes a host's two files, unless they are good.
func (c *certificates) pair(a *pki.Authority, host string, files config.TLS) error {
	have, errCert := os.ReadFile(files.Cert)
	_, errKey := os.Stat(files.Key)
	if errCert == nil && errKey == nil && !c.renew {
		ends, err := a.Ends(have, host)
		if err != nil {
			return fmt.Errorf("%s: %w; --renew replaces it", files.Cert, err)
		}
		if ends.Sub(c.now) > renewBefore {
			c.say("%s: good until %s", files.Cert, ends.Format(time.DateOnly))
			return nil
		}
	}
	cert, key, err := a.Issue(host, c.now, c.lifetime)
	if err != nil {
		return err
	}
	ends, err := a.Ends(cert, host)
	if err != nil {
		return err
	}
	if err := errors.Join(c.put(files.Key, key, 0o600), c.put(files.Cert, cert, 0o644)); err != nil {
		return err
	}
	c.say("%s: made, good until %s", files.Cert, ends.Format(time.DateOnly))
	return nil
}

func (c *certificates) put(path string, content []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return pki.WriteFile(path, content, mode)
}
