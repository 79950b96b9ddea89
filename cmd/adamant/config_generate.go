package main

import (
	"crypto/rand"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant/config"
)

func newConfigGenerate() *cobra.Command {
	var (
		spec          config.Spec
		hosts, groups []string
		tls           config.TLS
		gossipKey     bool
		out           string
		force         bool
	)
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Make a cluster file from a list of hosts",
		Long: `generate stripes partitions over hosts: members and preferred leaders are balanced, voters are spread over zones, and the
load of any dead host falls on all the others. Equal input gives an equal file, but for the gossip key. The file goes to the
output, its figures can be seen with "adamant config plan".

Unless all addresses are loopback, links are mutual TLS and membership traffic is encrypted with a random key, which makes the
file a secret. The TLS files are tls/HOST.crt, tls/HOST.key and tls/ca.pem beside the cluster file, or what --tls-cert, --tls-key
and --tls-ca say; "adamant config certificates" makes them. --insecure opts out.`,
		Example: `  adamant config generate --cluster prod-1 --host h1=10.0.0.1:7400,a --host h2=10.0.0.2:7400,b --host h3=10.0.0.3:7400,c --out cluster.json
  adamant config generate --host h1=10.0.0.1:7400 --tls-cert /etc/ssl/{host}.pem --tls-key /etc/ssl/{host}.key --tls-ca /etc/ssl/ca.pem
  adamant config generate --host h1=127.0.0.1:7401 --host h2=127.0.0.1:7402 --host h3=127.0.0.1:7403 --partitions 16 --out cluster.json
  adamant config generate --insecure --group 64:3 --group 8:5:1 --host ...`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if spec.Hosts, err = parseHosts(hosts); err != nil {
				return err
			}
			if spec.Groups, err = parseGroups(groups); err != nil {
				return err
			}
			if len(spec.Groups) > 0 && !cmd.Flags().Changed("partitions") {
				spec.Partitions = 0
			}
			if err := secure(&spec, tls, gossipKey); err != nil {
				return err
			}
			c, err := config.Generate(spec)
			if err != nil {
				return err
			}
			if err := output(cmd, out, c.Marshal(), force); err != nil {
				return err
			}
			if c.TLS != nil && *c.TLS == config.DefaultTLS() {
				fmt.Fprintln(cmd.ErrOrStderr(), "links are mutual TLS: \"adamant config certificates\" makes the files that the cluster file names")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&spec.Cluster, "cluster", "adamant", "name of the cluster; it never changes")
	f.StringArrayVar(&hosts, "host", nil, "NAME=ADDR, NAME=ADDR,ZONE or NAME=ADDR,ZONE,HTTP, where HTTP is where clients reach its HTTP endpoint (repeatable)")
	f.IntVar(&spec.Partitions, "partitions", 64, "number of partitions")
	f.IntVar(&spec.Voters, "voters", 0, "voters of each partition: 1, 3, 5 or 7 (default 3, or 1 with fewer than 3 hosts)")
	f.IntVar(&spec.Replicas, "replicas", 0, "read replicas of each partition")
	f.StringArrayVar(&groups, "group", nil, "PARTITIONS:VOTERS[:REPLICAS], for groups of different sizes (repeatable, in place of the three above)")
	f.IntVar(&spec.MaxPeers, "max-peers", 0, "most other hosts that one host shares partitions with (default no bound)")
	f.BoolVar(&spec.Insecure, "insecure", false, "plain links beyond loopback: whoever reaches the port may read and change everything")
	f.StringVar(&tls.Cert, "tls-cert", "", "certificate of each host for its links, a path in the file; {host} stands for its name")
	f.StringVar(&tls.Key, "tls-key", "", "its key")
	f.StringVar(&tls.CA, "tls-ca", "", "the authority of all hosts' certificates")
	f.BoolVar(&gossipKey, "gossip-key", false, "make a random key that encrypts membership traffic, although links are plain")
	f.StringVarP(&out, "out", "o", "", "write to this file")
	f.BoolVar(&force, "force", false, "replace the file")
	return cmd
}

// secure chooses how hosts talk: TLS and a gossip key, unless nothing leaves the machine or plain links are asked for.
func secure(spec *config.Spec, tls config.TLS, gossipKey bool) error {
	leaves := false
	for _, h := range spec.Hosts {
		leaves = leaves || !h.Local()
	}
	if tls == (config.TLS{}) && leaves && !spec.Insecure {
		tls = config.DefaultTLS()
	}
	if tls != (config.TLS{}) {
		spec.TLS, gossipKey = &tls, true
	}
	if !gossipKey {
		return nil
	}
	spec.GossipKey = make([]byte, 32)
	_, err := rand.Read(spec.GossipKey)
	return err
}
