package mesh

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// checkDialled refuses to connect in the clear beyond this machine. It sees the
// resolved address, after all name look-ups.
func (m *Mesh) checkDialled(_, address string, _ syscall.RawConn) error {
	if m.tls != nil || m.opts.Insecure || loopbackAddr(address) {
		return nil
	}
	return &InsecureError{What: "link to", Addr: address}
}

// checkListener refuses to listen in the clear beyond this machine. Gossip
// packets do not go through TLS, so they need a key of their own.
func (m *Mesh) checkListener(at *net.TCPAddr) error {
	switch {
	case m.opts.Insecure || at.IP.IsLoopback():
		return nil
	case m.tls == nil:
		return &InsecureError{What: "listener on", Addr: at.String()}
	case len(m.opts.GossipKey) == 0:
		return &InsecureError{What: "gossip without a key on", Addr: at.String()}
	}
	return nil
}

// loopbackAddr reports whether an address "ip:port" cannot leave this machine.
func loopbackAddr(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	host, _, _ = strings.Cut(host, "%") // a zone
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// TLSOptions name the PEM files of mutual TLS. The files are looked at again at
// handshakes, so replacing them is enough; links that stand are not disturbed.
// The certificate must serve both sides of a connection (client and server
// authentication) and carry the host's name as a DNS name or common name.
type TLSOptions struct {
	CertFile, KeyFile, CAFile string
}

// certificates are the TLS files as last read in a sound state.
type certificates struct {
	files TLSOptions
	log   *throttledLog

	mu      sync.Mutex // guards what follows
	checked time.Time
	content [3][]byte // of the files, when last parsed or found wanting
	pair    *tls.Certificate
	roots   *x509.CertPool
}

// certCheckInterval is how often the files are looked at, at most.
const certCheckInterval = 250 * time.Millisecond

func loadCertificates(files TLSOptions, log *throttledLog) (*certificates, error) {
	c := &certificates{files: files, log: log}
	if err := c.reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// current is the newest sound state of the files.
func (c *certificates) current() (*tls.Certificate, *x509.CertPool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= certCheckInterval {
		c.checked = now
		if err := c.reload(); err != nil {
			c.log.warn("keeping the former TLS certificate", "err", err)
		}
	}
	return c.pair, c.roots
}

// reload parses the files if their content changed. Files caught half replaced
// are an error now and parsed when they change again.
func (c *certificates) reload() error {
	var content [3][]byte
	for i, name := range []string{c.files.CertFile, c.files.KeyFile, c.files.CAFile} {
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("TLS file: %w", err)
		}
		content[i] = b
	}
	same := true
	for i := range content {
		same = same && bytes.Equal(content[i], c.content[i])
	}
	if same {
		return nil
	}
	c.content = content
	pair, err := tls.X509KeyPair(content[0], content[1])
	if err != nil {
		return fmt.Errorf("TLS files %s and %s: %w", c.files.CertFile, c.files.KeyFile, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(content[2]) {
		return fmt.Errorf("TLS file %s holds no certificate", c.files.CAFile)
	}
	c.pair, c.roots = &pair, roots
	return nil
}

// secureInbound does the acceptor's side of TLS, if there is TLS, and returns
// the names the peer's certificate proves.
func (m *Mesh) secureInbound(raw net.Conn) (net.Conn, []string, error) {
	if m.tls == nil {
		return raw, nil, nil
	}
	pair, roots := m.tls.current()
	conn := tls.Server(raw, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
		// Each link proves its certificate afresh.
		SessionTicketsDisabled: true,
	})
	if err := conn.HandshakeContext(m.ctx); err != nil {
		return nil, nil, fmt.Errorf("TLS: %w", err)
	}
	return conn, certificateNames(conn.ConnectionState()), nil
}

// secureOutbound does the dialler's side: the certificate must come from the CA
// and, when it is known whom we mean to reach, carry that name.
func (m *Mesh) secureOutbound(ctx context.Context, raw net.Conn, host, addr string) (net.Conn, error) {
	if m.tls == nil {
		return raw, nil
	}
	pair, roots := m.tls.current()
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*pair},
		// The standard check wants the name as a DNS name; VerifyConnection
		// does the same check of the chain, and allows a common name.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if err := verifyChain(cs, roots); err != nil {
				return err
			}
			if names := certificateNames(cs); host != "" && !namesHost(names, host) {
				return &IdentityError{Peer: addr, Host: host, Names: names}
			}
			return nil
		},
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return conn, nil
}

func verifyChain(cs tls.ConnectionState, roots *x509.CertPool) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// certificateNames are the DNS names and the common name of the peer's certificate.
func certificateNames(cs tls.ConnectionState) []string {
	if len(cs.PeerCertificates) == 0 {
		return nil
	}
	leaf := cs.PeerCertificates[0]
	names := append([]string(nil), leaf.DNSNames...)
	if cn := leaf.Subject.CommonName; cn != "" {
		names = append(names, cn)
	}
	return names
}

// namesHost reports whether host is one of names. There are no wildcards.
func namesHost(names []string, host string) bool {
	for _, n := range names {
		if strings.EqualFold(n, host) {
			return true
		}
	}
	return false
}

// ownAddress is what this host tells others to reach it at: the advertised
// address, else the one it listens on, else what the cluster file says.
func (m *Mesh) ownAddress(at *net.TCPAddr) string {
	if m.opts.Advertise != "" {
		return m.opts.Advertise
	}
	if at.IP.IsUnspecified() {
		if addr, ok := m.resolve(m.opts.Host); ok {
			return addr
		}
	}
	return at.String()
}
