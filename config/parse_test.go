package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// valid is the file that the tests break. Its lines are counted below.
const valid = `{
  "cluster": "prod-1",
  "version": 7,
  "insecure": false,
  "hosts": {
    "h1": {"addr": "127.0.0.1:7401", "zone": "a"},
    "h2": {"addr": "127.0.0.1:7402", "zone": "b"},
    "h3": {"addr": "127.0.0.1:7403", "zone": "c"},
    "h4": {"addr": "127.0.0.1:7404"}
  },
  "partitions": [
    {"id": 0, "from": "0000000000000000", "voters": ["h1", "h2", "h3"], "replicas": ["h4"], "prefer": "h2"},
    {"id": 9, "from": "8000000000000000", "voters": ["h2", "h3", "h4"]}
  ]
}
`

const (
	clusterLine  = 2
	versionLine  = 3
	insecureLine = 4
	hostsLine    = 5
	h1Line       = 6
	h2Line       = 7
	listLine     = 11
	p0Line       = 12
	p1Line       = 13
)

// change replaces text of the valid file, which must occur.
func change(t *testing.T, pairs ...string) string {
	t.Helper()
	text := valid
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("the valid file has no %q", pairs[i])
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	return text
}

func TestParse(t *testing.T) {
	c, err := Parse([]byte(valid), "cluster.json")
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "prod-1" || c.Version != 7 || c.Insecure || c.TLS != nil || c.GossipKey != nil || len(c.Hosts) != 4 {
		t.Errorf("head is %+v", c)
	}
	if h := c.Hosts["h2"]; h != (Host{Addr: "127.0.0.1:7402", Zone: "b"}) {
		t.Errorf("h2 is %+v", h)
	}
	p := c.Partitions[0]
	if p.ID != 0 || p.From != 0 || !slices.Equal(p.Voters, []string{"h1", "h2", "h3"}) || !slices.Equal(p.Replicas, []string{"h4"}) || p.Prefer != "h2" {
		t.Errorf("first partition is %+v", p)
	}
	if p := c.Partitions[1]; p.ID != 9 || p.From != 1<<63 || p.Replicas != nil || p.Prefer != "" {
		t.Errorf("second partition is %+v", p)
	}
}

func TestParseOptionalParts(t *testing.T) {
	text := change(t, `"insecure": false`, `"tls": {"cert": "a.pem", "key": "/b.key", "ca": "\u00e4\ud83d\ude00\n.pem"}, "gossipKey": "AAECAwQFBgcICQoLDA0ODw=="`)
	c, err := Parse([]byte(text), "cluster.json")
	if err != nil {
		t.Fatal(err)
	}
	if *c.TLS != (TLS{Cert: "a.pem", Key: "/b.key", CA: "ä😀\n.pem"}) {
		t.Errorf("tls is %+v", *c.TLS)
	}
	if got := c.TLS.Resolve("/etc/adamant", "h1"); got.Cert != "/etc/adamant/a.pem" || got.Key != "/b.key" {
		t.Errorf("resolved: %+v", got)
	}
	if len(c.GossipKey) != 16 || c.GossipKey[15] != 15 {
		t.Errorf("gossip key is %x", c.GossipKey)
	}
	again, err := Parse(c.Marshal(), "again")
	if err != nil || !again.Equal(c) {
		t.Errorf("round trip: %v\n%s", err, c.Marshal())
	}
}

func TestSingleHostNeedsNoAddress(t *testing.T) {
	for _, host := range []string{`{}`, `{"addr": ""}`, `{"zone": "a"}`} {
		text := fmt.Sprintf(`{"cluster": "c", "version": 1, "hosts": {"local": %s}, "partitions": [{"id": 0, "from": "0000000000000000", "voters": ["local"]}]}`, host)
		c, err := Parse([]byte(text), "")
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		if again, err := Parse(c.Marshal(), ""); err != nil || !again.Equal(c) {
			t.Errorf("round trip: %v\n%s", err, c.Marshal())
		}
	}
}

// problemCase breaks the valid file and names every problem that must be reported, with a part of its message.
type problemCase struct {
	name  string
	pairs []string
	want  []Problem
}

func TestProblems(t *testing.T) {
	cases := slices.Concat(headCases, hostCases, partitionCases, typeCases)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { expectProblems(t, change(t, c.pairs...), c.want) })
	}
}

func expectProblems(t *testing.T, text string, want []Problem) {
	t.Helper()
	c, err := Parse([]byte(text), "cluster.json")
	var invalid *InvalidError
	if !errors.As(err, &invalid) || c != nil {
		t.Fatalf("Parse returned %v, %v", c, err)
	}
	if len(invalid.Problems) != len(want) {
		t.Fatalf("%d problems instead of %d:\n%v", len(invalid.Problems), len(want), err)
	}
	for i, p := range invalid.Problems {
		if p.Path != want[i].Path || p.Line != want[i].Line || !strings.Contains(p.Message, want[i].Message) {
			t.Errorf("problem %d is\n%v, want\n%v", i, p, want[i])
		}
	}
}

var headCases = []problemCase{
	{name: "cluster name missing", pairs: []string{`"cluster": "prod-1",`, ``}, want: []Problem{{"cluster", 1, "is missing"}}},
	{name: "cluster name empty", pairs: []string{`prod-1`, ``}, want: []Problem{{"cluster", clusterLine, "1 to 63 characters"}}},
	{name: "cluster name too long", pairs: []string{`prod-1`, strings.Repeat("x", 64)}, want: []Problem{{"cluster", clusterLine, "not 64"}}},
	{name: "cluster name with a space", pairs: []string{`prod-1`, `prod 1`}, want: []Problem{{"cluster", clusterLine, `"prod 1"`}}},
	{name: "version missing", pairs: []string{`"version": 7,`, ``}, want: []Problem{{"version", 1, "is missing"}}},
	{name: "version zero", pairs: []string{`7,`, `0,`}, want: []Problem{{"version", versionLine, "at least 1"}}},
	{name: "version negative", pairs: []string{`7,`, `-7,`}, want: []Problem{{"version", versionLine, "must be an integer"}}},
	{name: "version with fraction", pairs: []string{`7,`, `7.0,`}, want: []Problem{{"version", versionLine, "not 7.0"}}},
	{name: "version beyond 64 bits", pairs: []string{`7,`, `18446744073709551616,`}, want: []Problem{{"version", versionLine, "must be an integer"}}},
	{name: "unknown key", pairs: []string{`"version": 7`, `"version": 7, "Version": 8`}, want: []Problem{{"Version", versionLine, "unknown key; known here: cluster, version"}}},
	{name: "unknown key of a deep value", pairs: []string{`"version": 7`, `"version": 7, "x": {"y": [1, {"z": null}, "\u0041", -1.5e+3, true]}`}, want: []Problem{{"x", versionLine, "unknown key"}}},
	{name: "key that needs quotes", pairs: []string{`"version": 7`, `"version": 7, "a b": 8`}, want: []Problem{{`$["a b"]`, versionLine, "unknown key"}}},
	{name: "duplicate key", pairs: []string{`"insecure": false`, `"version": 8`}, want: []Problem{{"version", insecureLine, "duplicate key, first on line 3"}}},
	{name: "duplicate key does not hide the first value's problem", pairs: []string{`7,`, `0,`, `"insecure": false`, `"version": 8`},
		want: []Problem{{"version", versionLine, "at least 1"}, {"version", insecureLine, "duplicate key"}}},
	{name: "tls half", pairs: []string{`"insecure": false`, `"tls": {"cert": "a.pem", "ca": ""}`},
		want: []Problem{{"tls.key", insecureLine, "is missing"}, {"tls.ca", insecureLine, "must name a PEM file"}}},
	{name: "tls and insecure", pairs: []string{`"insecure": false`, `"insecure": true, "tls": {"cert": "a", "key": "b", "ca": "c"}`},
		want: []Problem{{"insecure", insecureLine, "contradicts tls"}}},
	{name: "gossip key of the wrong size", pairs: []string{`"insecure": false`, `"gossipKey": "AAAA"`}, want: []Problem{{"gossipKey", insecureLine, "16, 24 or 32 bytes, not 3"}}},
	{name: "gossip key empty", pairs: []string{`"insecure": false`, `"gossipKey": ""`}, want: []Problem{{"gossipKey", insecureLine, "16, 24 or 32 bytes, not 0"}}},
	{name: "gossip key no base64", pairs: []string{`"insecure": false`, `"gossipKey": "secret key"`}, want: []Problem{{"gossipKey", insecureLine, "must be base64"}}},
}

var hostCases = []problemCase{
	{name: "no hosts", pairs: []string{`"h1": {"addr": "127.0.0.1:7401", "zone": "a"},
    "h2": {"addr": "127.0.0.1:7402", "zone": "b"},
    "h3": {"addr": "127.0.0.1:7403", "zone": "c"},
    "h4": {"addr": "127.0.0.1:7404"}`, ``, `["h1", "h2", "h3"], "replicas": ["h4"], "prefer": "h2"`, `[]`, `["h2", "h3", "h4"]`, `[]`},
		want: []Problem{{"hosts", hostsLine, "at least one host"}, {"partitions[0].voters", 9, "not 0"}, {"partitions[1].voters", 10, "not 0"}}},
	{name: "host name with a slash", pairs: []string{`"h4": {`, `"h4": {"addr": "127.0.0.1:7405"}, "h/5": {`}, want: []Problem{{`hosts["h/5"]`, 9, "letters, digits"}}},
	{name: "host name with an at sign", pairs: []string{`"h4": {`, `"h4": {"addr": "127.0.0.1:7405"}, "h@5": {`}, want: []Problem{{`hosts["h@5"]`, 9, "letters, digits"}}},
	{name: "host name empty", pairs: []string{`"h4": {`, `"h4": {"addr": "127.0.0.1:7405"}, "": {`}, want: []Problem{{`hosts[""]`, 9, "1 to 63"}}},
	{name: "address missing", pairs: []string{`"addr": "127.0.0.1:7402", `, ``}, want: []Problem{{"hosts.h2.addr", h2Line, "must be host:port"}}},
	{name: "address without port", pairs: []string{`127.0.0.1:7402`, `127.0.0.1`}, want: []Problem{{"hosts.h2.addr", h2Line, "must be host:port"}}},
	{name: "address with port 0", pairs: []string{`127.0.0.1:7402`, `127.0.0.1:0`}, want: []Problem{{"hosts.h2.addr", h2Line, "port from 1"}}},
	{name: "address with a large port", pairs: []string{`127.0.0.1:7402`, `127.0.0.1:65536`}, want: []Problem{{"hosts.h2.addr", h2Line, "port from 1"}}},
	{name: "address with a named port", pairs: []string{`127.0.0.1:7402`, `127.0.0.1:http`}, want: []Problem{{"hosts.h2.addr", h2Line, "port from 1"}}},
	{name: "address without host", pairs: []string{`127.0.0.1:7402`, `:7402`}, want: []Problem{{"hosts.h2.addr", h2Line, "has no host name"}}},
	{name: "address that nobody can dial", pairs: []string{`127.0.0.1:7402`, `0.0.0.0:7402`}, want: []Problem{{"hosts.h2.addr", h2Line, "other hosts can dial"}}},
	{name: "multicast address", pairs: []string{`127.0.0.1:7402`, `[ff02::1]:7402`}, want: []Problem{{"hosts.h2.addr", h2Line, "other hosts can dial"}}},
	{name: "malformed IP address", pairs: []string{`127.0.0.1:7402`, `10.0.0.256:7402`}, want: []Problem{{"hosts.h2.addr", h2Line, "malformed IP"}}},
	{name: "malformed host name", pairs: []string{`127.0.0.1:7402`, `a..b:7402`}, want: []Problem{{"hosts.h2.addr", h2Line, "malformed host name"}}},
	{name: "duplicate address", pairs: []string{`127.0.0.1:7402`, `127.0.0.1:7401`}, want: []Problem{{"hosts.h2.addr", h2Line, `also the address of "h1"`}}},
	{name: "duplicate address, spelled otherwise", pairs: []string{`127.0.0.1:7402`, `LOCALHOST:07401`}, want: []Problem{{"hosts.h2.addr", h2Line, `also the address of "h1"`}}},
	{name: "duplicate address, mapped", pairs: []string{`127.0.0.1:7402`, `[::ffff:127.0.0.1]:7401`}, want: []Problem{{"hosts.h2.addr", h2Line, `also the address of "h1"`}}},
	{name: "plain link beyond loopback", pairs: []string{`127.0.0.1:7402`, `10.0.0.2:7402`}, want: []Problem{{"hosts.h2.addr", h2Line, `needs tls or "insecure": true`}}},
	{name: "plain link to a name", pairs: []string{`127.0.0.1:7402`, `h2.example.com:7402`}, want: []Problem{{"hosts.h2.addr", h2Line, `needs tls or "insecure": true`}}},
	{name: "zone with a slash", pairs: []string{`"zone": "b"`, `"zone": "b/c"`}, want: []Problem{{"hosts.h2.zone", h2Line, "letters, digits"}}},
	{name: "unknown key of a host", pairs: []string{`"zone": "b"`, `"rack": "b"`}, want: []Problem{{"hosts.h2.rack", h2Line, "unknown key; known here: addr, zone, http"}}},
	{name: "http without a port", pairs: []string{`"zone": "b"`, `"http": "127.0.0.1"`}, want: []Problem{{"hosts.h2.http", h2Line, "must be host:port"}}},
	{name: "http a number", pairs: []string{`"zone": "b"`, `"http": 7480`}, want: []Problem{{"hosts.h2.http", h2Line, "must be a string"}}},
	{name: "http that nobody can dial", pairs: []string{`"zone": "b"`, `"http": "0.0.0.0:7480"`}, want: []Problem{{"hosts.h2.http", h2Line, "other hosts can dial"}}},
	{name: "http at a link's address", pairs: []string{`"zone": "b"`, `"http": "localhost:7403"`}, want: []Problem{{"hosts.h2.http", h2Line, "also an address of \"h3\""}}},
	{name: "http of two hosts", pairs: []string{`"zone": "a"`, `"http": "127.0.0.1:7480"`, `"zone": "b"`, `"http": "127.0.0.1:7480"`},
		want: []Problem{{"hosts.h2.http", h2Line, "also an address of \"h1\""}}},
	{name: "duplicate host", pairs: []string{`"h2": {"addr": "127.0.0.1:7402", "zone": "b"},`, "\"h2\": {\"addr\": \"127.0.0.1:7402\"},\n\"h2\": {\"addr\": \"127.0.0.1:7409\"},"},
		want: []Problem{{"hosts.h2", h2Line + 1, "duplicate key, first on line 7"}}},
}

var partitionCases = []problemCase{
	{name: "no partitions", pairs: []string{valid[strings.Index(valid, `    {"id": 0`):strings.Index(valid, `  ]`)], ""}, want: []Problem{{"partitions", listLine, "at least one partition"}}},
	{name: "id missing", pairs: []string{`"id": 9, `, ``}, want: []Problem{{"partitions[1].id", p1Line, "is missing"}}},
	{name: "id beyond 32 bits", pairs: []string{`"id": 9`, `"id": 4294967296`}, want: []Problem{{"partitions[1].id", p1Line, "0 to 4294967295"}}},
	{name: "id twice", pairs: []string{`"id": 9`, `"id": 0`}, want: []Problem{{"partitions[1].id", p1Line, "also the id of partitions[0]"}}},
	{name: "from missing", pairs: []string{`"from": "8000000000000000", `, ``}, want: []Problem{{"partitions[1].from", p1Line, "is missing"}}},
	{name: "from too short", pairs: []string{`8000000000000000`, `800000000000000`}, want: []Problem{{"partitions[1].from", p1Line, "16 hex digits"}}},
	{name: "from no hex", pairs: []string{`8000000000000000`, `800000000000000g`}, want: []Problem{{"partitions[1].from", p1Line, "16 hex digits"}}},
	{name: "first from not zero", pairs: []string{`0000000000000000`, `0000000000000001`}, want: []Problem{{"partitions[0].from", p0Line, "must start at 0000000000000000"}}},
	{name: "from equal", pairs: []string{`8000000000000000`, `0000000000000000`}, want: []Problem{{"partitions[1].from", p1Line, "above the start of partitions[0]"}}},
	{name: "from falling", pairs: []string{`"id": 9, "from": "8000000000000000", "voters": ["h2", "h3", "h4"]}`, `"id": 9, "from": "8000000000000000", "voters": ["h1"]},
{"id": 10, "from": "7fffffffffffffff", "voters": ["h1"]},
{"id": 11, "from": "9000000000000000", "voters": ["h1"]}`}, want: []Problem{{"partitions[2].from", p1Line + 1, "above the start of partitions[1], 8000000000000000"}}},
	{name: "from too high in the middle", pairs: []string{`"id": 9, "from": "8000000000000000", "voters": ["h2", "h3", "h4"]}`, `"id": 9, "from": "f000000000000000", "voters": ["h1"]},
{"id": 10, "from": "9000000000000000", "voters": ["h1"]},
{"id": 11, "from": "a000000000000000", "voters": ["h1"]}`}, want: []Problem{{"partitions[2].from", p1Line + 1, "above the start of partitions[1], f000000000000000"}}},
	{name: "from out of order behind an unknown one", pairs: []string{`"id": 9, "from": "8000000000000000", "voters": ["h2", "h3", "h4"]}`, `"id": 9, "from": "8000000000000000", "voters": ["h1"]},
{"id": 10, "from": "?", "voters": ["h1"]},
{"id": 11, "from": "7000000000000000", "voters": ["h1"]}`}, want: []Problem{{"partitions[2].from", p1Line + 1, "16 hex digits"}, {"partitions[3].from", p1Line + 2, "above the start of partitions[1]"}}},
	{name: "voters missing", pairs: []string{`, "voters": ["h2", "h3", "h4"]`, ``}, want: []Problem{{"partitions[1].voters", p1Line, "is missing"}}},
	{name: "no voters", pairs: []string{`["h2", "h3", "h4"]`, `[]`}, want: []Problem{{"partitions[1].voters", p1Line, "1, 3, 5 or 7 hosts, not 0"}}},
	{name: "even voters", pairs: []string{`["h2", "h3", "h4"]`, `["h2", "h3"]`}, want: []Problem{{"partitions[1].voters", p1Line, "1, 3, 5 or 7 hosts, not 2"}}},
	{name: "too many voters", pairs: []string{`["h2", "h3", "h4"]`, `["h1","h2","h3","h4","h5","h6","h7","h8","h9"]`}, want: []Problem{
		{"partitions[1].voters", p1Line, "more than 7 hosts"}, {"partitions[1].voters[4]", p1Line, "unknown host"},
		{"partitions[1].voters[5]", p1Line, "unknown host"}, {"partitions[1].voters[6]", p1Line, "unknown host"}}},
	{name: "voter twice", pairs: []string{`["h2", "h3", "h4"]`, `["h2", "h3", "h2"]`}, want: []Problem{{"partitions[1].voters[2]", p1Line, "listed twice, first at partitions[1].voters[0]"}}},
	{name: "unknown voter", pairs: []string{`["h2", "h3", "h4"]`, "[\"h2\",\n\"h5\", \"h4\"]"}, want: []Problem{{"partitions[1].voters[1]", p1Line + 1, `unknown host "h5"`}}},
	{name: "replica twice", pairs: []string{`["h4"]`, `["h4", "h4"]`}, want: []Problem{{"partitions[0].replicas[1]", p0Line, "listed twice"}}},
	{name: "unknown replica", pairs: []string{`["h4"]`, `["h5"]`}, want: []Problem{{"partitions[0].replicas[0]", p0Line, `unknown host "h5"`}}},
	{name: "replica that is a voter", pairs: []string{`["h4"]`, `["h4", "h3"]`}, want: []Problem{{"partitions[0].replicas[1]", p0Line, `"h3" is also a voter`}}},
	{name: "prefer no voter", pairs: []string{`"prefer": "h2"`, `"prefer": "h4"`}, want: []Problem{{"partitions[0].prefer", p0Line, `"h4" is not a voter`}}},
	{name: "unknown key of a partition", pairs: []string{`"prefer"`, `"leader"`}, want: []Problem{{"partitions[0].leader", p0Line, "unknown key; known here: id, from, voters, replicas, prefer"}}},
	{name: "many at once", pairs: []string{`prod-1`, `prod/1`, `7,`, `0,`, `127.0.0.1:7402`, `127.0.0.1:7401`, `["h1", "h2", "h3"]`, `["h1", "hx"]`, `8000000000000000`, `0`},
		want: []Problem{
			{"cluster", clusterLine, "letters"}, {"version", versionLine, "at least 1"}, {"hosts.h2.addr", h2Line, "also the address"},
			{"partitions[0].voters", p0Line, "not 2"}, {"partitions[0].voters[1]", p0Line, "unknown host"}, {"partitions[0].prefer", p0Line, "not a voter"},
			{"partitions[1].from", p1Line, "16 hex digits"},
		}},
}

// A value of the wrong type is one problem: what depends on it is not judged.
var typeCases = []problemCase{
	{name: "cluster a number", pairs: []string{`"prod-1"`, `1`}, want: []Problem{{"cluster", clusterLine, "must be a string, not a number"}}},
	{name: "version a string", pairs: []string{`7,`, `"7",`}, want: []Problem{{"version", versionLine, "must be an integer, not a string"}}},
	{name: "version null", pairs: []string{`7,`, `null,`}, want: []Problem{{"version", versionLine, "not null"}}},
	{name: "insecure a string", pairs: []string{`false`, `"false"`}, want: []Problem{{"insecure", insecureLine, "must be true or false, not a string"}}},
	{name: "tls a boolean", pairs: []string{`"insecure": false`, `"tls": true`, `127.0.0.1:7401`, `10.0.0.1:7401`}, want: []Problem{{"tls", insecureLine, "must be an object, not a boolean"}}},
	{name: "gossip key a number", pairs: []string{`"insecure": false`, `"gossipKey": 5`}, want: []Problem{{"gossipKey", insecureLine, "must be a string"}}},
	{name: "hosts an array", pairs: []string{valid[strings.Index(valid, `{
    "h1"`):strings.Index(valid, `,
  "partitions"`)], `["h1"]`}, want: []Problem{{"hosts", hostsLine, "must be an object, not an array"}}},
	{name: "host a string", pairs: []string{`{"addr": "127.0.0.1:7401", "zone": "a"}`, `"127.0.0.1:7401"`}, want: []Problem{{"hosts.h1", h1Line, "must be an object, not a string"}}},
	{name: "address a number", pairs: []string{`"127.0.0.1:7401"`, `7401`}, want: []Problem{{"hosts.h1.addr", h1Line, "must be a string"}}},
	{name: "zone null", pairs: []string{`"zone": "a"`, `"zone": null`}, want: []Problem{{"hosts.h1.zone", h1Line, "must be a string, not null"}}},
	{name: "partitions an object", pairs: []string{valid[strings.Index(valid, `[
    {"id"`) : strings.Index(valid, `  ]`)+3], `{}`}, want: []Problem{{"partitions", listLine, "must be an array, not an object"}}},
	{name: "partition a number", pairs: []string{`{"id": 9, "from": "8000000000000000", "voters": ["h2", "h3", "h4"]}`, `9`}, want: []Problem{{"partitions[1]", p1Line, "must be an object, not a number"}}},
	{name: "id a string", pairs: []string{`"id": 9`, `"id": "9"`}, want: []Problem{{"partitions[1].id", p1Line, "must be an integer, not a string"}}},
	{name: "from a number", pairs: []string{`"8000000000000000"`, `8`}, want: []Problem{{"partitions[1].from", p1Line, "must be a string, not a number"}}},
	{name: "voters a string", pairs: []string{`["h1", "h2", "h3"]`, `"h1"`}, want: []Problem{{"partitions[0].voters", p0Line, "must be an array, not a string"}}},
	{name: "voter a number", pairs: []string{`["h2", "h3", "h4"]`, `["h2", 3, "h4"]`}, want: []Problem{{"partitions[1].voters[1]", p1Line, "must be a string, not a number"}}},
	{name: "replicas null", pairs: []string{`["h4"]`, `null`}, want: []Problem{{"partitions[0].replicas", p0Line, "must be an array, not null"}}},
	{name: "prefer an array", pairs: []string{`"prefer": "h2"`, `"prefer": ["h2"]`}, want: []Problem{{"partitions[0].prefer", p0Line, "must be a string, not an array"}}},
}

// A syntax error ends the reading: problems before it are reported too, nothing after it is.
func TestSyntax(t *testing.T) {
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	for _, c := range []struct {
		name, text string
		want       []Problem
	}{
		{"empty", "", []Problem{{"$", 1, "the file ends where a value is expected"}}},
		{"blank", " \n\n ", []Problem{{"$", 3, "the file ends"}}},
		{"garbage", "\x00\xff\xfe", []Problem{{"$", 1, `expected a value, found '\x00'`}}},
		{"byte order mark", "\ufeff" + valid, []Problem{{"$", 1, "expected a value"}}},
		{"not an object", "\n[1]", []Problem{{"$", 2, "must be an object, not an array"}}},
		{"truncated", valid[:strings.Index(valid, `"h3"`)+20], []Problem{{"hosts.h3.addr", 8, "the file ends inside a string"}}},
		{"truncated in the list", valid[:strings.Index(valid, `{"id": 9`)], []Problem{{"partitions[1]", 13, "the file ends where a value"}}},
		{"truncated after a value", valid[:strings.Index(valid, `,
  "partitions"`)], []Problem{{"$", 10, "',' or '}'"}}},
		{"trailing data", valid + "{}", []Problem{{"$", 16, "trailing data after the cluster: '{'"}}},
		{"two files in one", valid + valid, []Problem{{"$", 16, "trailing data"}}},
		{"trailing comma", change(t, `["h4"]`, `["h4",]`), []Problem{{"partitions[0].replicas[1]", 12, "expected a value, found ']'"}}},
		{"trailing comma in an object", change(t, `"prefer": "h2"}`, `"prefer": "h2",}`), []Problem{{"partitions[0]", 12, "expected a key"}}},
		{"missing comma", change(t, `"prod-1",`, `"prod-1"`), []Problem{{"$", 3, "expected ',' or '}'"}}},
		{"missing colon", change(t, `"version":`, `"version"`), []Problem{{"version", 3, "expected ':'"}}},
		{"key without quotes", change(t, `"version"`, `version`), []Problem{{"$", 3, "key in double quotes"}}},
		{"comment", change(t, `"version"`, "// seven\n\"version\""), []Problem{{"$", 3, "found '/'"}}},
		{"single quotes", change(t, `"prod-1"`, `'prod-1'`), []Problem{{"cluster", 2, `expected a value, found '\''`}}},
		{"number with a leading zero", change(t, `7,`, `07,`), []Problem{{"version", 3, "malformed number"}}},
		{"number with a bare point", change(t, `7,`, `7.,`), []Problem{{"version", 3, "malformed number"}}},
		{"number without digits", change(t, `7,`, `-,`), []Problem{{"version", 3, "malformed number"}}},
		{"number of a megabyte", change(t, `7,`, strings.Repeat("7", 1<<20)+","), []Problem{{"version", 3, "malformed number"}}},
		{"not a number", change(t, `7,`, `NaN,`), []Problem{{"version", 3, "expected a value, found 'N'"}}},
		{"word that goes on", change(t, `false`, `falsehood`), []Problem{{"insecure", 4, "expected a value"}}},
		{"line end in a string", change(t, `prod-1`, "prod\n1"), []Problem{{"cluster", 2, "not closed"}}},
		{"bad escape", change(t, `prod-1`, `prod\x1`), []Problem{{"cluster", 2, "malformed escape"}}},
		{"lone surrogate", change(t, `prod-1`, `\ud800`), []Problem{{"cluster", 2, "malformed escape"}}},
		{"bad surrogate pair", change(t, `prod-1`, `\ud800\u0041`), []Problem{{"cluster", 2, "malformed escape"}}},
		{"invalid UTF-8", change(t, `prod-1`, "prod\xff"), []Problem{{"cluster", 2, "not valid UTF-8"}}},
		{"too deep", change(t, `"version": 7`, `"x": `+deep), []Problem{{"x", 3, "unknown key"}, {"x", 3, "nested deeper"}}},
		{"earlier problems stay", change(t, `"version": 7`, `"x": 7`, `["h4"]`, `["h4"`), []Problem{{"x", 3, "unknown key"}, {"partitions[0].replicas", 12, "expected ',' or ']'"}}},
		{"too large", valid + strings.Repeat(" ", MaxBytes), []Problem{{"$", 1, "larger than"}}},
	} {
		t.Run(c.name, func(t *testing.T) { expectProblems(t, c.text, c.want) })
	}
}

// Each prefix of a file, as a reader sees it while it is being written, is refused and never panics.
func TestTruncatedAnywhere(t *testing.T) {
	text := strings.TrimSpace(valid)
	for i := range text {
		if _, err := Parse([]byte(text[:i]), "cut"); err == nil {
			t.Fatalf("accepted the first %d bytes", i)
		}
	}
}

func TestLimits(t *testing.T) {
	hosts, parts := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%s\n\"h%d\": {\"addr\": \"127.0.0.1:%d\"}", comma(i), i, i+1)
		}
		return b.String()
	}, func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%s\n{\"id\": %d, \"from\": \"%016x\", \"voters\": [\"h0\"]}", comma(i), i, i)
		}
		return b.String()
	}
	text := func(h, p int) string {
		return `{"cluster": "c", "version": 1, "hosts": {` + hosts(h) + "},\n\"partitions\": [" + parts(p) + "]}"
	}
	if c, err := Parse([]byte(text(MaxHosts, MaxPartitions)), ""); err != nil || len(c.Partitions) != MaxPartitions {
		t.Errorf("at the limits: %v", err)
	}
	expectProblems(t, text(MaxHosts+2, 1), []Problem{{"hosts", 1, "more than 1024 hosts"}})
	expectProblems(t, text(1, MaxPartitions+2), []Problem{{"partitions", 3, "more than 16384 partitions"}})
	// What is beyond the limits is read over, not kept.
	d := &decoder{scanner: newScanner([]byte(text(MaxHosts+2, MaxPartitions+2)))}
	if d.cluster(); len(d.c.Hosts) != MaxHosts || len(d.c.Partitions) != MaxPartitions {
		t.Errorf("kept %d hosts and %d partitions", len(d.c.Hosts), len(d.c.Partitions))
	}
	replicas := strings.TrimSuffix(strings.Repeat(`"x",`, MaxReplicas+1), ",")
	expectProblems(t, change(t, `["h4"]`, "["+replicas+"]"), replicaProblems())

	// A file of nothing but problems is not answered by an error of its size.
	many := `{` + strings.TrimSuffix(strings.Repeat(`"x":1,`, 100_000), ",") + `}`
	_, err := Parse([]byte(many), "many")
	var invalid *InvalidError
	if !errors.As(err, &invalid) || len(invalid.Problems) != MaxProblems || invalid.Omitted != 100_000+4-MaxProblems {
		t.Errorf("%d problems, %d omitted", len(invalid.Problems), invalid.Omitted)
	}
	if !strings.Contains(err.Error(), "more problems") {
		t.Error("the error does not say that problems were omitted")
	}
}

// replicaProblems are those of a list of one unknown name, repeated beyond the limit.
func replicaProblems() []Problem {
	want := []Problem{{"partitions[0].replicas", p0Line, "more than 64 hosts"}, {"partitions[0].replicas[0]", p0Line, "unknown host"}}
	for i := 1; i < MaxReplicas; i++ {
		want = append(want, Problem{fmt.Sprintf("partitions[0].replicas[%d]", i), p0Line, "listed twice"})
	}
	return want
}

func TestInvalidErrorText(t *testing.T) {
	_, err := Parse([]byte(change(t, `7,`, `0,`, `"h4"]}`, `"h5"]}`)), "/etc/cluster.json")
	want := "/etc/cluster.json:3: version: must be at least 1\n/etc/cluster.json:13: partitions[1].voters[2]: unknown host \"h5\""
	if err == nil || err.Error() != want {
		t.Errorf("error is\n%v, want\n%s", err, want)
	}
	c := &Cluster{}
	err = c.Validate()
	if err == nil || !strings.HasPrefix(err.Error(), "cluster: cluster: name must have") {
		t.Errorf("error of a value is %v", err)
	}
}
