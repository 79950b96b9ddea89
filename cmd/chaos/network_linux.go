package main

import (
	"fmt"
	"os/exec"
	"strings"

	"github.com/adamantdb/adamant/config"
)

// namespaces are a network of one namespace for each host and a bridge between them. A host finds the others by a table of
// their hardware addresses; a wrong one there loses what it sends to a host, silently and in that direction only, as a
// switch or a firewall that fails does. No packet filter is needed.
type namespaces struct{ number map[string]int }

func newNamespaces(names []string) (network, error) {
	n := &namespaces{number: map[string]int{}}
	if err := command("", "ip", "link", "add", "hub", "type", "bridge"); err != nil {
		return nil, err
	}
	if err := command("", "ip", "link", "set", "hub", "up"); err != nil {
		return nil, err
	}
	for i, name := range names {
		n.number[name] = i + 1
		wire := fmt.Sprint("wire", i+1)
		for _, line := range []string{
			"netns add " + name,
			"link add " + wire + " type veth peer name eth0 netns " + name,
			"link set " + wire + " master hub up",
			"-n " + name + " link set eth0 address " + n.hardware(name, true),
			"-n " + name + " addr add " + n.ip(name) + "/16 dev eth0",
			"-n " + name + " link set eth0 up",
			"-n " + name + " link set lo up",
		} {
			if err := command("", "ip", strings.Fields(line)...); err != nil {
				return nil, err
			}
		}
	}
	return n, n.join(between(names, names))
}

// command runs one of the system's tools with lines for its input.
func command(input, name string, arguments ...string) error {
	cmd := exec.Command(name, arguments...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(arguments, " "), err, out)
	}
	return nil
}

func (n *namespaces) name() string            { return "namespaces" }
func (n *namespaces) disks() bool             { return true }
func (n *namespaces) close() error            { return nil } // they end with this process
func (n *namespaces) ip(host string) string   { return fmt.Sprint("10.77.0.", n.number[host]) }
func (n *namespaces) addr(host string) string { return n.ip(host) + ":7400" }

// hardware is a host's address on the bridge, or one that nobody has.
func (n *namespaces) hardware(host string, right bool) string {
	if right {
		return fmt.Sprintf("02:ad:00:00:00:%02x", n.number[host])
	}
	return fmt.Sprintf("02:ad:00:00:ff:%02x", n.number[host])
}

func (n *namespaces) view(c *config.Cluster, _ string) *config.Cluster { return c }

func (n *namespaces) command(host, program string, arguments ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=/run/netns/" + host, program}, arguments...)...)
}

func (n *namespaces) cut(list []path) error  { return n.point(list, false) }
func (n *namespaces) join(list []path) error { return n.point(list, true) }

func (n *namespaces) point(list []path, right bool) error {
	lines := map[string]string{}
	for _, p := range list {
		lines[p.from] += fmt.Sprintf("neigh replace %s lladdr %s dev eth0 nud permanent\n", n.ip(p.to), n.hardware(p.to, right))
	}
	for from, text := range lines {
		if err := command(text, "ip", "-n", from, "-batch", "-"); err != nil {
			return err
		}
	}
	return nil
}

// slow leaves a host 4 Mb/s to send with: what waits is late, and what waits too long is lost.
func (n *namespaces) slow(host string, on bool) error {
	change := "add dev eth0 root tbf rate 4mbit burst 32kb latency 200ms"
	if !on {
		change = "del dev eth0 root"
	}
	return command("", "nsenter", append([]string{"--net=/run/netns/" + host, "tc", "qdisc"}, strings.Fields(change)...)...)
}
