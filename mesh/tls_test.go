package mesh

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority issues certificates for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue writes a certificate for a name, as DNS name or common name, and the
// CA's own into dir.
func (a *authority) issue(dir, dnsName, commonName string) *TLSOptions {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: commonName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if dnsName != "" {
		template.DNSNames = []string{dnsName}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	o := &TLSOptions{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"), CAFile: filepath.Join(dir, "ca.pem")}
	for name, b := range map[string][]byte{
		o.CertFile: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		o.KeyFile:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}),
		o.CAFile:   a.pem,
	} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return o
}

func withTLS(o *TLSOptions) func(*Options) { return func(to *Options) { to.TLS = o } }

func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	bed := newTestbed(t)
	a := bed.start("a", withTLS(ca.issue(t.TempDir(), "a", "")))
	b := bed.start("b", withTLS(ca.issue(t.TempDir(), "", "b")))
	for _, m := range []*Mesh{a, b} {
		m.Handle(ServiceHost, replyEcho)
	}
	for _, class := range []Class{Urgent, Normal, Bulk} {
		big := make([]byte, 60<<10)
		if got, err := call(t, a, "b", class, big); err != nil || len(got) != len(big) {
			t.Fatalf("to the common name: %d bytes, %v", len(got), err)
		}
		if _, err := call(t, b, "a", class, big); err != nil {
			t.Fatalf("to the DNS name: %v", err)
		}
	}
	if _, err := call(t, a, "b", Bulk, make([]byte, 8<<20)); err != nil {
		t.Fatal(err)
	}
	// Gossip streams go through TLS as well.
	if _, err := a.gossip.list.Join([]string{"b/" + b.Addr()}); err != nil {
		t.Fatalf("gossip: %v", err)
	}
	if _, err := a.gossip.list.Join([]string{"c/" + b.Addr()}); err == nil {
		t.Fatal("gossip joined a host whose certificate names another one")
	}
}

func TestTLSRefusesForeigners(t *testing.T) {
	ca, foreign := newAuthority(t), newAuthority(t)
	bed := newTestbed(t)
	a := bed.start("a", withTLS(ca.issue(t.TempDir(), "a", "")))
	a.Handle(ServiceHost, replyEcho)
	stranger := bed.start("stranger", withTLS(foreign.issue(t.TempDir(), "stranger", "")))
	// Each of these claims or finds the wrong thing.
	if _, err := call(t, stranger, "a", Normal, nil); err == nil {
		t.Fatal("a dialler accepted a certificate of another CA")
	}
	if _, err := call(t, a, "stranger", Normal, nil); err == nil {
		t.Fatal("an acceptor with a certificate of another CA was accepted")
	}
	// It trusts our CA, but its own certificate comes from another one.
	mixed := foreign.issue(t.TempDir(), "mixed", "")
	if err := os.WriteFile(mixed.CAFile, ca.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	m := bed.start("mixed", withTLS(mixed))
	if _, err := call(t, m, "a", Normal, nil); err == nil {
		t.Fatal("an acceptor took a certificate of another CA")
	}
	var unknown x509.UnknownAuthorityError
	if _, err := call(t, a, "mixed", Normal, nil); !errors.As(err, &unknown) {
		t.Fatalf("a dialler met a certificate of another CA: %v", err)
	}
	// A good certificate of another name.
	liar := bed.start("liar", withTLS(ca.issue(t.TempDir(), "honest", "")))
	var refused *RefusedError
	if _, err := call(t, liar, "a", Normal, nil); !errors.As(err, &refused) || !strings.Contains(refused.Text, `"honest"`) {
		t.Fatalf("a claimed name without its certificate: %v", err)
	}
	var identity *IdentityError
	if _, err := call(t, a, "liar", Normal, nil); !errors.As(err, &identity) || identity.Host != "liar" {
		t.Fatalf("dialling a name, meeting another certificate: %v", err)
	}
	// No certificate, an older TLS, no TLS.
	good := ca.issue(t.TempDir(), "good", "")
	pair, err := tls.LoadX509KeyPair(good.CertFile, good.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, conf := range map[string]*tls.Config{
		"no certificate": {InsecureSkipVerify: true},
		"TLS 1.2":        {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}},
	} {
		c, err := tls.Dial("tcp", a.Addr(), conf)
		if err == nil {
			_ = c.SetDeadline(time.Now().Add(patience))
			_, err = c.Write([]byte{prefaceLink})
			if err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			_ = c.Close()
		}
		if err == nil || err == io.EOF {
			t.Errorf("%s: %v", name, err)
		}
	}
	plain := bed.start("plain")
	if _, err := call(t, plain, "a", Normal, nil); err == nil {
		t.Error("a plain link to a TLS port")
	}
	if _, err := call(t, a, "plain", Normal, nil); err == nil {
		t.Error("a TLS link to a plain port")
	}
	soon(t, "they are counted", func() bool { return a.Stats().BadHandshakes >= 6 })
}

func TestTLSFilesAreReloaded(t *testing.T) {
	first, second := newAuthority(t), newAuthority(t)
	bed := newTestbed(t)
	dirA, dirB := t.TempDir(), t.TempDir()
	a := bed.start("a", withTLS(first.issue(dirA, "a", "")))
	b := bed.start("b", withTLS(first.issue(dirB, "b", "")))
	b.Handle(ServiceHost, replyEcho)
	if _, err := call(t, a, "b", Normal, nil); err != nil {
		t.Fatal(err)
	}
	second.issue(dirA, "a", "")
	// The link that stands is not disturbed, and new ones fail until the other
	// side has the new CA, too.
	if _, err := call(t, a, "b", Normal, nil); err != nil {
		t.Fatal(err)
	}
	time.Sleep(certCheckInterval)
	if _, err := call(t, a, "b", Bulk, nil); err == nil {
		t.Fatal("the former certificate was used")
	}
	// A file caught half written changes nothing.
	if err := os.WriteFile(filepath.Join(dirB, "cert.pem"), []byte("-----BEGIN CERT"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(certCheckInterval)
	if pair, roots := b.tls.current(); pair == nil || roots == nil {
		t.Fatal("the former certificate was lost")
	}
	second.issue(dirB, "b", "")
	soon(t, "both use the new files", func() bool {
		_, err := call(t, a, "b", Bulk, nil)
		return err == nil
	})
	if a.Stats().LinkBreaks != 0 {
		t.Fatal("the link that stood was disturbed")
	}
}

func TestTLSOptionsAreChecked(t *testing.T) {
	ca := newAuthority(t)
	dir := t.TempDir()
	good := ca.issue(dir, "a", "")
	o := newTestbed(t).options("a")
	for name, bad := range map[string]TLSOptions{
		"missing file": {CertFile: filepath.Join(dir, "none"), KeyFile: good.KeyFile, CAFile: good.CAFile},
		"not a key":    {CertFile: good.CertFile, KeyFile: good.CertFile, CAFile: good.CAFile},
		"not a CA":     {CertFile: good.CertFile, KeyFile: good.KeyFile, CAFile: good.KeyFile},
	} {
		o.TLS = &bad
		if _, err := Listen(o); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// TLS does not cover gossip packets.
	o.TLS, o.Addr = good, "0.0.0.0:0"
	var insecure *InsecureError
	if _, err := Listen(o); !errors.As(err, &insecure) || !strings.Contains(err.Error(), "gossip") {
		t.Errorf("gossip in the clear: %v", err)
	}
}
