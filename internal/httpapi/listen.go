package httpapi

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// TLSFiles are PEM files for mutual TLS: this side's certificate and key, and the authority whose clients are let in.
// They are read again when they change.
type TLSFiles struct {
	Cert, Key, ClientCA string
}

// unixPrefix marks an address as the path of a unix socket.
const unixPrefix = "unix:"

// InsecureError refuses an address that others could reach although the endpoint does not know who they are.
type InsecureError struct{ Addr string }

func (e *InsecureError) Error() string {
	return fmt.Sprintf("HTTP address %s is reachable from other machines, and whoever reaches it may read and delete every document: "+
		"use a loopback address or unix:PATH, or configure mutual TLS (certificate, key and client CA)", e.Addr)
}

// Listen opens the address of an endpoint: "host:port" or "unix:path". Without TLS only loopback and unix sockets are
// permitted; a unix socket is made for its owner only, and what a dead process left of it is removed.
func Listen(addr string, files *TLSFiles) (net.Listener, error) {
	if path, ok := strings.CutPrefix(addr, unixPrefix); ok {
		if files != nil {
			return nil, errors.New("TLS on a unix socket is not supported: its file permissions say who may connect")
		}
		return listenUnix(path)
	}
	resolved, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("HTTP address %q: %w", addr, err)
	}
	if files == nil && !resolved.IP.IsLoopback() { // no IP means every interface
		return nil, &InsecureError{Addr: addr}
	}
	l, err := net.ListenTCP("tcp", resolved)
	if err != nil {
		return nil, fmt.Errorf("HTTP endpoint: %w", err)
	}
	if files == nil {
		return l, nil
	}
	r := &tlsReloader{files: *files}
	if _, err := r.config(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return r.config() }}), nil
}

func listenUnix(path string) (net.Listener, error) {
	if path == "" {
		return nil, errors.New("HTTP address unix: has no path")
	}
	if err := removeDeadSocket(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("HTTP endpoint: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("HTTP endpoint: %w", err), l.Close())
	}
	return l, nil
}

// removeDeadSocket removes a socket that nobody listens on. Anything else at the path is left alone.
func removeDeadSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("HTTP endpoint: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("HTTP endpoint: %s exists and is not a socket", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		return errors.Join(fmt.Errorf("HTTP endpoint: %s is in use by another process", path), c.Close())
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("HTTP endpoint: remove the dead socket: %w", err)
	}
	return nil
}

// tlsReloader reads the TLS files again when one of them changed, at most once per second. While the new ones are no
// good the old ones stay in use.
type tlsReloader struct {
	files TLSFiles

	mu      sync.Mutex
	checked time.Time
	stamp   string // sizes and times of the files in use
	current *tls.Config
}

func (r *tlsReloader) config() (*tls.Config, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.current != nil && now.Sub(r.checked) < time.Second {
		return r.current, nil
	}
	r.checked = now
	stamp := fileStamp(r.files.Cert, r.files.Key, r.files.ClientCA)
	if r.current != nil && stamp == r.stamp {
		return r.current, nil
	}
	c, err := r.files.load()
	if err != nil {
		if r.current != nil {
			return r.current, nil
		}
		return nil, err
	}
	r.current, r.stamp = c, stamp
	return c, nil
}

func fileStamp(paths ...string) string {
	var b strings.Builder
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil {
			fmt.Fprintf(&b, "%d %d;", info.Size(), info.ModTime().UnixNano())
		} else {
			b.WriteString("missing;")
		}
	}
	return b.String()
}

// load makes the server's side of mutual TLS.
func (f TLSFiles) load() (*tls.Config, error) {
	if f.Cert == "" || f.Key == "" || f.ClientCA == "" {
		return nil, errors.New("HTTP TLS needs all three: certificate, key and client CA")
	}
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("HTTP TLS: %w", err)
	}
	pool, err := loadPool(f.ClientCA)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"http/1.1"}}, nil
}

func loadPool(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("HTTP TLS: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("HTTP TLS: %s holds no certificate", path)
	}
	return pool, nil
}
