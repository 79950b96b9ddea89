package pki

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestIssue: a host's certificate serves both sides of a link, carries any name that a host may have, and ends with its authority.
func TestIssue(t *testing.T) {
	now := time.Now()
	a, err := NewAuthority("prod-1", now)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.CertPEM()) {
		t.Fatal("the authority's certificate is no PEM file")
	}
	for _, host := range []string{"h1", "H_2..x-", strings.Repeat("9", 63)} {
		cert, key, err := a.Issue(host, now, HostLifetime)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
				t.Errorf("%s: %v", host, err)
			}
		}
		if pair.Leaf.Subject.CommonName != host || pair.Leaf.IsCA {
			t.Errorf("%s: %s, authority %v", host, pair.Leaf.Subject, pair.Leaf.IsCA)
		}
		if ends, err := a.Ends(cert, host); err != nil || ends.Sub(now).Round(time.Minute) != HostLifetime {
			t.Errorf("%s: ends %s, %v", host, ends, err)
		}
		if _, err := a.Ends(cert, "other"); err == nil {
			t.Errorf("%s: it is another host's, too", host)
		}
	}
	cert, _, err := a.Issue("h1", now, 2*AuthorityLifetime)
	if err != nil {
		t.Fatal(err)
	}
	if ends, err := a.Ends(cert, "h1"); err != nil || ends.After(a.NotAfter()) {
		t.Errorf("it outlives its authority: %s, %v", ends, err)
	}
	if _, _, err := a.Issue("h1", now.Add(AuthorityLifetime), time.Hour); err == nil {
		t.Error("an authority that has ended issued something")
	}
	b, err := NewAuthority("prod-1", now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Ends(cert, "h1"); err == nil {
		t.Error("another authority takes the certificate for its own")
	}
	// Who holds a host's certificate and key can make nobody else's.
	parsed, err := parseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("a host's key may be used for %b", parsed.KeyUsage)
	}
}

// TestAuthorityIsKept: it is made once, its key is its owner's alone, and a directory that lost a part of it is refused.
func TestAuthorityIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "authority")
	a, made, err := OpenAuthority(dir, "prod-1", time.Now())
	if err != nil || !made {
		t.Fatal(made, err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, filepath.Join(dir, authorityKey): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	b, made, err := OpenAuthority(dir, "prod-1", time.Now())
	if err != nil || made || string(b.CertPEM()) != string(a.CertPEM()) {
		t.Fatal(made, err)
	}
	other, err := NewAuthority("prod-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := other.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(dir, authorityKey), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenAuthority(dir, "prod-1", time.Now()); err == nil {
		t.Error("a key that is not the certificate's was taken")
	}
	if err := os.Remove(filepath.Join(dir, authorityKey)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenAuthority(dir, "prod-1", time.Now()); err == nil {
		t.Error("an authority that lost its key was replaced")
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// FuzzParseAuthority: whatever stands in the files, nothing panics, and what is taken can issue.
func FuzzParseAuthority(f *testing.F) {
	a, err := NewAuthority("c", time.Now())
	if err != nil {
		f.Fatal(err)
	}
	key, err := a.KeyPEM()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a.CertPEM(), key)
	f.Add(key, a.CertPEM())
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		a, err := ParseAuthority(cert, key)
		if err != nil {
			return
		}
		if _, _, err := a.Issue("h1", a.cert.NotBefore, time.Hour); err != nil && a.cert.NotBefore.Before(a.cert.NotAfter) {
			t.Fatal(err)
		}
	})
}
