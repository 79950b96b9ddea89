package httpapi

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestListenRules(t *testing.T) {
	for _, tc := range []struct {
		addr string
		ok   bool
	}{{"127.0.0.1:0", true}, {"[::1]:0", true}, {"localhost:0", true}, {":0", false}, {"0.0.0.0:0", false}, {"[::]:0", false}, {"192.0.2.1:0", false}} {
		l, err := Listen(tc.addr, nil)
		if err == nil {
			l.Close()
		}
		var insecure *InsecureError
		if tc.ok != (err == nil) && !strings.Contains(tc.addr, "::1") || !tc.ok && !errors.As(err, &insecure) {
			t.Errorf("%s: %v", tc.addr, err)
		}
	}
	for _, addr := range []string{"nonsense", "unix:", "127.0.0.1:notaport"} {
		if l, err := Listen(addr, nil); err == nil {
			l.Close()
			t.Errorf("%s was accepted", addr)
		}
	}
	if _, err := Listen("unix:/tmp/x", &TLSFiles{}); err == nil {
		t.Error("TLS on a unix socket")
	}
	if _, err := Listen("127.0.0.1:0", &TLSFiles{Cert: "a"}); err == nil {
		t.Error("TLS without a key and a CA")
	}
	l, err := Listen("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(l.Addr().String(), nil); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a port in use: %v", err)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	first, err := Listen("unix:"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Listen("unix:"+path, nil); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a socket in use: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as after a crash
	first.Close()
	second, err := Listen("unix:"+path, nil)
	if err != nil {
		t.Fatalf("what a dead process left is in the way: %v", err)
	}
	stop := serve(t, newFakeHost("h1"), Options{}, second)
	c, err := NewClient([]string{"unix:" + path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s, _, err := c.Status(t.Context()); err != nil || s.Host != "h1" {
		t.Errorf("%+v, %v", s, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:"+file, nil); err == nil {
		t.Error("a file was replaced by a socket")
	}
}

// serve runs a server; the returned function stops it and gives Serve's error.
func serve(t *testing.T, h Host, o Options, l net.Listener) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- New(h, o).Serve(ctx, l) }()
	stopped := false
	stop = func() error {
		cancel()
		if stopped {
			return nil
		}
		stopped = true
		return <-ended
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	h := newFakeHost("h1")
	h.block = make(chan struct{})
	l, err := Listen("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, h, Options{}, l)
	answered := make(chan error, 1)
	go func() {
		resp, err := http.Get("http://" + l.Addr().String() + "/v1/documents/games/g1")
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		answered <- err
	}()
	<-h.entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	// The port closes first, the request at work goes on.
	waitFor(t, func() bool {
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(h.block)
	if err := <-answered; err != nil {
		t.Errorf("the request at work: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("the server: %v", err)
	}
}

func TestShutdownCutsOffWhatDoesNotFinish(t *testing.T) {
	h := newFakeHost("h1")
	h.block = make(chan struct{})
	l, err := Listen("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	stop := serve(t, h, Options{Grace: 20 * time.Millisecond}, l)
	go func() {
		if resp, err := http.Get("http://" + l.Addr().String() + "/v1/documents/games/g1"); err == nil {
			resp.Body.Close()
		}
	}()
	<-h.entered
	if err := stop(); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("stop: %v", err)
	}
}

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the condition did not come true")
		}
	}
}

// Web pages must reach nothing, neither by posting across origins nor by binding their own name to this machine.
func TestWebPagesAreKeptOut(t *testing.T) {
	h := newFakeHost("h1")
	l, err := Listen("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, h, Options{}, l)
	for _, tc := range []struct {
		name, method, host string
		header             [2]string
		status             int
	}{
		{"a program", "DELETE", "", [2]string{}, 204},
		{"localhost", "DELETE", "localhost:80", [2]string{}, 204},
		{"another loopback address", "DELETE", "127.9.9.9", [2]string{}, 204},
		{"IPv6 loopback", "DELETE", "[::1]:7480", [2]string{}, 204},
		{"a rebound name", "DELETE", "evil.example:7480", [2]string{}, 403},
		{"a rebound name, reading", "GET", "evil.example", [2]string{}, 403},
		{"a foreign page", "DELETE", "", [2]string{"Origin", "https://evil.example"}, 403},
		{"a foreign fetch", "DELETE", "", [2]string{"Sec-Fetch-Site", "cross-site"}, 403},
	} {
		req, err := http.NewRequest(tc.method, "http://"+l.Addr().String()+"/v1/documents/games/g1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = tc.host
		if tc.header[0] != "" {
			req.Header.Set(tc.header[0], tc.header[1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tc.status {
			t.Errorf("%s: status %d, want %d", tc.name, resp.StatusCode, tc.status)
		}
	}
}

func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t)
	ca.issue(t, dir, "server")
	ca.issue(t, dir, "client")
	other := newAuthority(t)
	other.issue(t, dir, "stranger")
	writeFile(t, filepath.Join(dir, "ca.pem"), ca.pem)
	file := func(name string) string { return filepath.Join(dir, name) }
	l, err := Listen("127.0.0.1:0", &TLSFiles{Cert: file("server.pem"), Key: file("server.key"), ClientCA: file("ca.pem")})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, newFakeHost("h1"), Options{}, l)
	for _, tc := range []struct {
		name string
		tls  *ClientTLS
		ok   bool
	}{
		{"known client", &ClientTLS{Cert: file("client.pem"), Key: file("client.key"), CA: file("ca.pem")}, true},
		{"stranger", &ClientTLS{Cert: file("stranger.pem"), Key: file("stranger.key"), CA: file("ca.pem")}, false},
		{"nobody", &ClientTLS{CA: file("ca.pem")}, false},
		{"plain", nil, false},
	} {
		c, err := NewClient([]string{l.Addr().String()}, tc.tls)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err = c.Status(t.Context()); tc.ok != (err == nil) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if _, err := NewClient([]string{"127.0.0.1:1"}, &ClientTLS{CA: file("server.key")}); err == nil {
		t.Error("a CA file without a certificate")
	}
}

// New certificates are taken when their files change; files that are no good change nothing.
func TestTLSReload(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t)
	ca.issue(t, dir, "server")
	writeFile(t, filepath.Join(dir, "ca.pem"), ca.pem)
	r := &tlsReloader{files: TLSFiles{Cert: filepath.Join(dir, "server.pem"), Key: filepath.Join(dir, "server.key"), ClientCA: filepath.Join(dir, "ca.pem")}}
	serial := func() string {
		t.Helper()
		r.checked = time.Time{}
		c, err := r.config()
		if err != nil {
			t.Fatal(err)
		}
		return string(c.Certificates[0].Certificate[0])
	}
	first := serial()
	if serial() != first {
		t.Error("the certificate changed by itself")
	}
	writeFile(t, filepath.Join(dir, "server.pem"), []byte("garbage"))
	if serial() != first {
		t.Error("garbage replaced the certificate")
	}
	ca.issue(t, dir, "server")
	if serial() == first {
		t.Error("the new certificate was not taken")
	}
}

type authority struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	pem    []byte
	serial int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key, pem: pemBlock("CERTIFICATE", der), serial: 1}
}

// issue writes name.pem and name.key for 127.0.0.1.
func (a *authority) issue(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.serial++
	template := &x509.Certificate{SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, name+".pem"), pemBlock("CERTIFICATE", der))
	writeFile(t, filepath.Join(dir, name+".key"), pemBlock("EC PRIVATE KEY", keyDER))
}

func pemBlock(kind string, der []byte) []byte {
	var b bytes.Buffer
	_ = pem.Encode(&b, &pem.Block{Type: kind, Bytes: der})
	return b.Bytes()
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
