package httpapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/adamantdb/adamant"
)

// maxAnswer bounds what a client reads of one answer that is not a stream; a line of a stream has the same bound.
const maxAnswer = 1 << 30

// Client talks to the endpoints of one or more hosts of a cluster. When one answers that another host leads, and that
// host is among the endpoints or its address came with the answer, the client asks it. It is safe for concurrent use.
type Client struct {
	// Patience is for how long an operation on a document is repeated that was refused before anything happened because
	// leadership was moving: no leader known, or one that does not serve yet. Set it before the first call; 0 is not at
	// all.
	Patience time.Duration

	endpoints []*endpoint
	tls       *tls.Config

	mu    sync.Mutex
	named map[string]*endpoint // those that hosts gave the address of
}

type endpoint struct {
	addr string
	base string // scheme and authority
	http *http.Client
}

// ClientTLS are the PEM files with which a client identifies itself, and checks whom it talks to.
type ClientTLS struct {
	Cert, Key, CA string
}

// NewClient returns a client of the endpoints at the addresses, in the form Listen takes.
func NewClient(addrs []string, files *ClientTLS) (*Client, error) {
	if len(addrs) == 0 {
		return nil, errors.New("no HTTP address given")
	}
	var tlsConfig *tls.Config
	if files != nil {
		var err error
		if tlsConfig, err = files.load(); err != nil {
			return nil, err
		}
	}
	c := &Client{tls: tlsConfig}
	for _, addr := range addrs {
		e, err := newEndpoint(addr, tlsConfig)
		if err != nil {
			return nil, err
		}
		c.endpoints = append(c.endpoints, e)
	}
	return c, nil
}

func newEndpoint(addr string, tlsConfig *tls.Config) (*endpoint, error) {
	transport := &http.Transport{TLSClientConfig: tlsConfig, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 5 * time.Second}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	transport.DialContext = dialer.DialContext
	e := &endpoint{addr: addr, http: &http.Client{Transport: transport}}
	if path, ok := strings.CutPrefix(addr, unixPrefix); ok {
		if path == "" {
			return nil, fmt.Errorf("HTTP address %q has no path", addr)
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) }
		transport.TLSClientConfig = nil
		e.base = "http://localhost"
		return e, nil
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fmt.Errorf("HTTP address %q: want HOST:PORT or unix:PATH: %w", addr, err)
	}
	e.base = "http://" + addr
	if tlsConfig != nil {
		e.base = "https://" + addr
	}
	return e, nil
}

func (f ClientTLS) load() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS13}
	if f.CA != "" {
		pool, err := loadPool(f.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = pool
	}
	if f.Cert == "" && f.Key == "" {
		return c, nil
	}
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("HTTP TLS: %w", err)
	}
	c.Certificates = []tls.Certificate{cert}
	return c, nil
}

// UnreachableError says that an endpoint could not be reached, or that the connection broke. Sent is true when the
// request may have arrived.
type UnreachableError struct {
	Addr string
	Sent bool
	Err  error
}

func (e *UnreachableError) Error() string {
	s := "host at " + e.Addr + " is not reachable"
	if e.Sent {
		s = "connection to the host at " + e.Addr + " broke; the request may have taken effect"
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// call does one request at the first endpoint, follows the leader once if another one leads, and otherwise tries the
// endpoints after an unreachable one. in and out may be nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = marshal(in); err != nil {
			return err
		}
	}
	err := c.attempt(ctx, method, path, body, out)
	var elsewhere *adamant.NotLeaderError
	if errors.As(err, &elsewhere) && elsewhere.Leader != "" {
		if e := c.leader(ctx, elsewhere); e != nil {
			return e.call(ctx, method, path, body, out)
		}
	}
	return err
}

// onDocument is call for operations on a document, with patience.
func (c *Client) onDocument(ctx context.Context, method, path string, in, out any) error {
	return c.patiently(ctx, func() error { return c.call(ctx, method, path, in, out) })
}

// patiently repeats do while leadership moves.
func (c *Client) patiently(ctx context.Context, do func() error) error {
	for end := time.Now().Add(c.Patience); ; {
		err := do()
		var elsewhere *adamant.NotLeaderError
		var unavailable *adamant.UnavailableError
		moving := errors.As(err, &elsewhere) && elsewhere.Leader == "" || errors.As(err, &unavailable)
		if !moving || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// attempt asks the endpoints in turn until one is reached.
func (c *Client) attempt(ctx context.Context, method, path string, body []byte, out any) error {
	var err error
	for _, e := range c.endpoints {
		err = e.call(ctx, method, path, body, out)
		var gone *UnreachableError
		if !errors.As(err, &gone) || gone.Sent || ctx.Err() != nil {
			break
		}
	}
	return err
}

// maxNamed bounds the endpoints that are kept because hosts gave their addresses.
const maxNamed = 1024

// leader returns the endpoint of the host that leads: one of the client's own, or one at the address that came with the
// answer. Without TLS that has to be a loopback address: whoever is told to send documents elsewhere in the clear does not.
func (c *Client) leader(ctx context.Context, n *adamant.NotLeaderError) *endpoint {
	for _, e := range c.endpoints {
		if n.HTTP != "" && e.addr == n.HTTP {
			return e
		}
	}
	if e := c.find(ctx, n.Leader); e != nil || n.HTTP == "" {
		return e
	}
	if host, _, err := net.SplitHostPort(n.HTTP); err != nil || c.tls == nil && host != "localhost" && !net.ParseIP(host).IsLoopback() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.named[n.HTTP]
	if e == nil && len(c.named) < maxNamed {
		var err error
		if e, err = newEndpoint(n.HTTP, c.tls); err != nil {
			return nil
		}
		if c.named == nil {
			c.named = map[string]*endpoint{}
		}
		c.named[n.HTTP] = e
	}
	return e
}

// find returns the endpoint of the host with a name; nil when no endpoint that answers has it.
func (c *Client) find(ctx context.Context, host string) *endpoint {
	if len(c.endpoints) < 2 {
		return nil
	}
	for _, e := range c.endpoints {
		var h Health
		if err := e.call(ctx, http.MethodGet, "/v1/health", nil, &h); err == nil && h.Host == host {
			return e
		}
	}
	return nil
}

func (e *endpoint) call(ctx context.Context, method, path string, body []byte, out any) error {
	resp, err := e.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return &UnreachableError{Addr: e.addr, Sent: true, Err: err}
	}
	if out == nil {
		return nil
	}
	if raw, ok := out.(*json.RawMessage); ok {
		*raw = data
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("answer of the host at %s: %w", e.addr, err)
	}
	return nil
}

// send returns an answer that is no error, or the error.
func (e *endpoint) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, e.base+path, reader)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := e.http.Do(req)
	if err != nil {
		var op *net.OpError
		dialing := errors.As(err, &op) && op.Op == "dial"
		return nil, &UnreachableError{Addr: e.addr, Sent: !dialing && method != http.MethodGet, Err: err}
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, &UnreachableError{Addr: e.addr, Sent: true, Err: err}
	}
	var failure Error
	if json.Unmarshal(data, &failure) != nil || failure.Kind == "" {
		return nil, fmt.Errorf("host at %s answers %s, which is not Adamant's", e.addr, resp.Status)
	}
	failure.status = resp.StatusCode
	return nil, failure.Typed()
}

// documentPath escapes what a path cannot hold as it is: a key may be "..".
func documentPath(key adamant.Key, rest string) string {
	escape := func(s string) string {
		if strings.Trim(s, ".") == "" {
			return strings.ReplaceAll(s, ".", "%2E")
		}
		return url.PathEscape(s)
	}
	return "/v1/documents/" + escape(key.Space) + "/" + escape(key.Key) + rest
}

// withQuery adds parameters, pairs of name and value; those with an empty value are left out.
func withQuery(path string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// read asks for a document: with the path "" the whole, with "headpatch" or "rewind" a patch relative to seq. An empty
// consistency means the host's own.
func (c *Client) read(ctx context.Context, key adamant.Key, rest, consistency string, parameters ...string) (Document, error) {
	var d Document
	path := withQuery(documentPath(key, rest), append(parameters, "consistency", consistency)...)
	return d, c.onDocument(ctx, http.MethodGet, path, nil, &d)
}

// Get returns the merged document. An empty consistency means the host's own.
func (c *Client) Get(ctx context.Context, key adamant.Key, consistency string) (Document, error) {
	return c.read(ctx, key, "", consistency)
}

// HeadPatch returns the merge of the redos after a seq.
func (c *Client) HeadPatch(ctx context.Context, key adamant.Key, after int64, consistency string) (Document, error) {
	return c.read(ctx, key, "/headpatch", consistency, "after", strconv.FormatInt(after, 10))
}

// Rewind returns the merge of the undos back to a seq.
func (c *Client) Rewind(ctx context.Context, key adamant.Key, to int64, consistency string) (Document, error) {
	return c.read(ctx, key, "/rewind", consistency, "to", strconv.FormatInt(to, 10))
}

// Create makes a document with its first delta and returns its head.
func (c *Client) Create(ctx context.Context, key adamant.Key, d adamant.Delta) (int64, error) {
	var a headAnswer
	err := c.onDocument(ctx, http.MethodPost, documentPath(key, ""), Delta(d), &a)
	return a.Head, err
}

// Append adds deltas and returns the head.
func (c *Client) Append(ctx context.Context, key adamant.Key, deltas []adamant.Delta) (int64, error) {
	in := struct {
		Deltas []Delta `json:"deltas"`
	}{make([]Delta, len(deltas))}
	for i, d := range deltas {
		in.Deltas[i] = Delta(d)
	}
	var a headAnswer
	err := c.onDocument(ctx, http.MethodPost, documentPath(key, "/append"), in, &a)
	return a.Head, err
}

// Compact puts a base under the document's deltas.
func (c *Client) Compact(ctx context.Context, key adamant.Key, seq int64, base []byte, history int) error {
	in := struct {
		Seq     int64           `json:"seq"`
		History int             `json:"history"`
		JSON    json.RawMessage `json:"json"`
	}{seq, history, base}
	return c.onDocument(ctx, http.MethodPost, documentPath(key, "/compact"), in, nil)
}

// Replace starts the document anew from a base.
func (c *Client) Replace(ctx context.Context, key adamant.Key, seq int64, base []byte) error {
	in := struct {
		Seq  int64           `json:"seq"`
		JSON json.RawMessage `json:"json"`
	}{seq, base}
	return c.onDocument(ctx, http.MethodPost, documentPath(key, "/replace"), in, nil)
}

// Delete removes the document.
func (c *Client) Delete(ctx context.Context, key adamant.Key) error {
	return c.onDocument(ctx, http.MethodDelete, documentPath(key, ""), nil, nil)
}

// Log iterates over the document's stored deltas.
func (c *Client) Log(ctx context.Context, key adamant.Key, consistency string) iter.Seq2[LogEntry, error] {
	return stream[LogEntry](ctx, c, withQuery(documentPath(key, "/log"), "consistency", consistency))
}

// Inventory iterates over the documents that the first reachable host serves; space and partition may be "".
func (c *Client) Inventory(ctx context.Context, space, partition, consistency string) iter.Seq2[Info, error] {
	return stream[Info](ctx, c, withQuery("/v1/inventory", "space", space, "partition", partition, "consistency", consistency))
}
