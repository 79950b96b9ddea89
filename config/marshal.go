package config

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
)

// Marshal returns the canonical file: keys in a fixed order, hosts in reading order, one host or partition a line, so
// that a change of one partition is a change of one line. It includes the gossip key.
func (c *Cluster) Marshal() []byte {
	var b bytes.Buffer
	b.Grow(256 + 64*len(c.Hosts) + 128*len(c.Partitions))
	fmt.Fprintf(&b, "{\n  \"cluster\": %s,\n  \"version\": %d,\n", text(c.Name), c.Version)
	if c.Insecure {
		b.WriteString("  \"insecure\": true,\n")
	}
	if t := c.TLS; t != nil {
		fmt.Fprintf(&b, "  \"tls\": {\"cert\": %s, \"key\": %s, \"ca\": %s},\n", text(t.Cert), text(t.Key), text(t.CA))
	}
	if c.GossipKey != nil {
		fmt.Fprintf(&b, "  \"gossipKey\": \"%s\",\n", base64.StdEncoding.EncodeToString(c.GossipKey))
	}
	b.WriteString("  \"hosts\": {")
	for i, name := range c.HostNames() {
		h := c.Hosts[name]
		fmt.Fprintf(&b, "%s\n    %s: {\"addr\": %s", comma(i), text(name), text(h.Addr))
		if h.Zone != "" {
			fmt.Fprintf(&b, ", \"zone\": %s", text(h.Zone))
		}
		if h.HTTP != "" {
			fmt.Fprintf(&b, ", \"http\": %s", text(h.HTTP))
		}
		b.WriteByte('}')
	}
	b.WriteString("\n  },\n  \"partitions\": [")
	for i := range c.Partitions {
		b.WriteString(comma(i))
		b.WriteString("\n    ")
		c.Partitions[i].marshal(&b)
	}
	b.WriteString("\n  ]\n}\n")
	return b.Bytes()
}

func (p *Partition) marshal(b *bytes.Buffer) {
	fmt.Fprintf(b, "{\"id\": %s, \"from\": \"%016x\", \"voters\": ", strconv.FormatUint(uint64(p.ID), 10), p.From)
	names(b, p.Voters)
	if len(p.Replicas) > 0 {
		b.WriteString(", \"replicas\": ")
		names(b, p.Replicas)
	}
	if p.Prefer != "" {
		b.WriteString(", \"prefer\": ")
		b.Write(text(p.Prefer))
	}
	b.WriteByte('}')
}

func names(b *bytes.Buffer, list []string) {
	b.WriteByte('[')
	for i, name := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.Write(text(name))
	}
	b.WriteByte(']')
}

func comma(i int) string {
	if i > 0 {
		return ","
	}
	return ""
}

// text returns s as a JSON string; encoding a string cannot fail.
func text(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // paths may hold '&'
	_ = e.Encode(s)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
