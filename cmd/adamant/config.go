package main

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant/config"
)

func newConfig() *cobra.Command {
	return group("config", "Make, check and plan cluster files, and certificates for their hosts",
		`  adamant config generate --cluster prod-1 --host h1=10.0.0.1:7400,a --host h2=10.0.0.2:7400,b --host h3=10.0.0.3:7400,c --out cluster.json
  adamant config certificates cluster.json
  adamant config validate cluster.json
  adamant config plan cluster.json --add-host h4=10.0.0.4:7400,a`,
		newConfigGenerate(), newConfigCertificates(), newConfigValidate(), newConfigPlan())
}

// parseHosts reads NAME=ADDR or NAME=ADDR,ZONE.
func parseHosts(list []string) (map[string]config.Host, error) {
	hosts := map[string]config.Host{}
	for _, text := range list {
		name, rest, ok := strings.Cut(text, "=")
		addr, rest, _ := strings.Cut(rest, ",")
		zone, http, _ := strings.Cut(rest, ",")
		if !ok || name == "" || addr == "" {
			return nil, usageError{fmt.Errorf("host %q: want NAME=ADDR, NAME=ADDR,ZONE or NAME=ADDR,ZONE,HTTP", text)}
		}
		if _, twice := hosts[name]; twice {
			return nil, usageError{fmt.Errorf("host %q is given twice", name)}
		}
		hosts[name] = config.Host{Addr: addr, Zone: zone, HTTP: http}
	}
	return hosts, nil
}

// parseGroups reads PARTITIONS:VOTERS or PARTITIONS:VOTERS:REPLICAS.
func parseGroups(list []string) ([]config.Group, error) {
	var groups []config.Group
	for _, text := range list {
		parts := strings.Split(text, ":")
		numbers := make([]int, 3)
		ok := len(parts) == 2 || len(parts) == 3
		for i := 0; ok && i < len(parts); i++ {
			n, err := strconv.Atoi(parts[i])
			numbers[i], ok = n, err == nil
		}
		if !ok {
			return nil, usageError{fmt.Errorf("group %q: want PARTITIONS:VOTERS or PARTITIONS:VOTERS:REPLICAS", text)}
		}
		groups = append(groups, config.Group{Partitions: numbers[0], Voters: numbers[1], Replicas: numbers[2]})
	}
	return groups, nil
}

// output writes a cluster file to a path, or to the command's output when the path is empty. An existing file is only
// replaced with force, and never left half-written.
func output(cmd *cobra.Command, path string, data []byte, force bool) error {
	if path == "" {
		_, err := cmd.OutOrStdout().Write(data)
		return err
	}
	if !force {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s exists; --force replaces it", path)
		}
	}
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fs.FileMode(0o600))
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	return err
}
