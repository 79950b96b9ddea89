package config

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
)

// Limits of a cluster file. They are far beyond what a cluster can run, and bound what a hostile or mistaken file costs.
const (
	MaxBytes      = 4 << 20
	MaxHosts      = 1024
	MaxPartitions = 16384
	MaxVoters     = 7
	MaxReplicas   = 64
	MaxName       = 63 // bytes of a cluster's, host's or zone's name
)

// Load reads and parses the cluster file at path. An invalid file is an *InvalidError.
func Load(path string) (*Cluster, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(data, path)
}

// readFile reads a regular file of at most MaxBytes; one byte more tells Parse that it is too long.
func readFile(path string) (data []byte, err error) {
	err = readWith(path, func(r io.Reader) (err error) {
		data, err = io.ReadAll(r)
		return err
	})
	return data, err
}

// digestFile is the digest of what readFile would read.
func digestFile(path string) (sum digest, err error) {
	h := sha256.New()
	err = readWith(path, func(r io.Reader) error {
		_, err := io.Copy(h, r)
		return err
	})
	h.Sum(sum[:0])
	return sum, err
}

func readWith(path string, read func(io.Reader) error) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("config: cluster file: %w", err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would block
		return fmt.Errorf("config: cluster file: %s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("config: cluster file: %w", err)
	}
	defer f.Close()
	if err := read(io.LimitReader(f, MaxBytes+1)); err != nil {
		return fmt.Errorf("config: cluster file: %w", err)
	}
	return nil
}

// Parse reads a cluster file strictly and validates it. The name only serves in errors. An invalid file is an
// *InvalidError that lists every problem found; a syntax error ends the search, because what follows it is guesswork.
func Parse(data []byte, name string) (*Cluster, error) {
	d := &decoder{scanner: newScanner(data)}
	if len(data) > MaxBytes {
		d.syntax(root, "is larger than %d bytes", MaxBytes)
	}
	d.peek()
	d.lines[root] = d.line
	d.cluster()
	if !d.dead {
		if d.peek(); d.pos < len(d.data) {
			d.syntax(root, "trailing data after the cluster: %s", describe(d.data[d.pos:]))
		}
	}
	if !d.dead && !d.broken[root] {
		v := validator{Cluster: &d.c, out: &d.out, broken: d.broken, lineOf: d.lineOf}
		v.all()
	}
	if err := d.out.err(name); err != nil {
		return nil, err
	}
	c := d.c // by itself: what was needed to read it goes
	return &c, nil
}

// decoder turns the text into a Cluster. Where a value is wrong it reports a problem, leaves a placeholder and goes on.
type decoder struct {
	*scanner
	c Cluster
}

// field says how a key of an object is read.
type field struct {
	key      string
	required bool
	read     func(path string)
}

// record reads an object with the given keys.
func (d *decoder) record(path string, fields []field) {
	seen := make([]bool, len(fields))
	ok := d.object(path, func(key, child string) {
		for i, f := range fields {
			if f.key == key {
				seen[i] = true
				f.read(child)
				return
			}
		}
		d.report(child, d.lineOf(child), "unknown key; known here: %s", keysOf(fields))
		d.skip(child, 0)
	})
	if !ok {
		return
	}
	for i, f := range fields {
		if f.required && !seen[i] {
			child := member(path, f.key)
			d.report(child, d.lineOf(path), "is missing")
		}
	}
}

func keysOf(fields []field) string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	return strings.Join(keys, ", ")
}

func (d *decoder) cluster() {
	c := &d.c
	d.record(root, []field{
		{"cluster", true, d.stringTo(&c.Name)},
		{"version", true, func(path string) { c.Version = d.integer(path, math.MaxUint64) }},
		{"insecure", false, d.boolTo(&c.Insecure)},
		{"tls", false, d.tls},
		{"gossipKey", false, d.gossipKey},
		{"hosts", true, d.hosts},
		{"partitions", true, d.partitions},
	})
}

func (d *decoder) tls(path string) {
	t := &TLS{}
	d.c.TLS = t
	d.record(path, []field{
		{"cert", true, d.stringTo(&t.Cert)},
		{"key", true, d.stringTo(&t.Key)},
		{"ca", true, d.stringTo(&t.CA)},
	})
}

func (d *decoder) gossipKey(path string) {
	var text string
	d.stringTo(&text)(path)
	if d.broken[path] || d.dead {
		return
	}
	key, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") { // the decoder would skip line ends
		d.report(path, d.lineOf(path), "must be base64") // never the text: it is a secret
		return
	}
	d.c.GossipKey = key // not nil even when empty: Validate refuses that
}

func (d *decoder) hosts(path string) {
	d.c.Hosts = map[string]Host{}
	d.object(path, func(name, child string) {
		if len(d.c.Hosts) >= MaxHosts {
			d.tooMany(path, "hosts", MaxHosts)
			d.skip(child, 0)
			return
		}
		var h Host
		d.record(child, []field{
			{"addr", false, d.stringTo(&h.Addr)}, // Validate knows when it is needed
			{"zone", false, d.stringTo(&h.Zone)},
			{"http", false, d.stringTo(&h.HTTP)},
		})
		d.c.Hosts[name] = h
	})
}

func (d *decoder) partitions(path string) {
	d.array(path, func(i int, child string) {
		if i >= MaxPartitions {
			d.tooMany(path, "partitions", MaxPartitions)
			d.skip(child, 0)
			return
		}
		var p Partition
		d.record(child, []field{
			{"id", true, func(path string) { p.ID = uint32(d.integer(path, math.MaxUint32)) }},
			{"from", true, func(path string) { p.From = d.hash(path) }},
			{"voters", true, func(path string) { p.Voters = d.names(path, MaxVoters) }},
			{"replicas", false, func(path string) { p.Replicas = d.names(path, MaxReplicas) }},
			{"prefer", false, d.stringTo(&p.Prefer)},
		})
		d.c.Partitions = append(d.c.Partitions, p)
	})
}

// tooMany reports once that a list is longer than its limit.
func (d *decoder) tooMany(path, what string, limit int) {
	if !d.broken[path] {
		d.report(path, d.lineOf(path), "has more than %d %s", limit, what)
	}
}

func (d *decoder) stringTo(to *string) func(path string) {
	return func(path string) {
		if d.peek() != '"' {
			d.wrongType(path, "a string")
			return
		}
		if s, ok := d.text(path); ok {
			*to = s
		}
	}
}

func (d *decoder) boolTo(to *bool) func(path string) {
	return func(path string) {
		switch {
		case d.word("true"):
			*to = true
		case d.word("false"):
			*to = false
		default:
			d.wrongType(path, "true or false")
		}
	}
}

// names reads an array of strings; an element of another type leaves an empty name.
func (d *decoder) names(path string, limit int) []string {
	var names []string
	d.array(path, func(i int, child string) {
		if i >= limit {
			d.tooMany(path, "hosts", limit)
			d.skip(child, 0)
			return
		}
		var name string
		d.stringTo(&name)(child)
		names = append(names, name)
	})
	return names
}

// integer reads a number without sign, fraction or exponent.
func (d *decoder) integer(path string, limit uint64) uint64 {
	if c := d.peek(); c != '-' && (c < '0' || c > '9') {
		d.wrongType(path, "an integer")
		return 0
	}
	text := d.number(path)
	if d.dead {
		return 0
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil || v > limit {
		d.report(path, d.lineOf(path), "must be an integer from 0 to %d, not %s", limit, text)
		return 0
	}
	return v
}

// hash reads a hash: a string of 16 hex digits. (A JSON number would lose precision in most tools.)
func (d *decoder) hash(path string) uint64 {
	var text string
	d.stringTo(&text)(path)
	if d.broken[path] || d.dead {
		return 0
	}
	v, ok := parseHex(text)
	if !ok || len(text) != 16 {
		d.report(path, d.lineOf(path), "must be 16 hex digits, not %s", quote(text))
		return 0
	}
	return v
}
