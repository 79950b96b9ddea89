package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

const (
	// AuthorityLifetime is how long an authority is good for.
	AuthorityLifetime = 10 * 365 * 24 * time.Hour
	// HostLifetime is how long a host's certificate is good for, unless asked for otherwise.
	HostLifetime = 2 * 365 * 24 * time.Hour

	skew = time.Hour // certificates are good from before they were made: clocks of hosts differ
)

// Authority signs the certificates of one cluster's hosts.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// NewAuthority makes an authority for a cluster.
func NewAuthority(cluster string, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "adamant cluster " + cluster},
		NotBefore: now.Add(-skew), NotAfter: now.Add(AuthorityLifetime),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	cert, err := sign(template, nil, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("authority of cluster %s: %w", cluster, err)
	}
	return &Authority{cert, key}, nil
}

// ParseAuthority reads an authority from its PEM forms.
func ParseAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	cert, err := parseCertificate(certPEM)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(keyPEM)
	if block == nil || block.Type != keyType {
		return nil, errors.New("the key is no PEM block of a private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the key is not the certificate's")
	}
	if !cert.IsCA {
		return nil, errors.New("the certificate is no authority's")
	}
	return &Authority{cert, key}, nil
}

// CertPEM is the authority's own certificate, which all hosts need.
func (a *Authority) CertPEM() []byte { return certPEM(a.cert) }

// KeyPEM is the authority's key, which no host needs.
func (a *Authority) KeyPEM() ([]byte, error) { return keyPEM(a.key) }

// NotAfter is when the authority ends.
func (a *Authority) NotAfter() time.Time { return a.cert.NotAfter }

// Issue makes a key and a certificate for a host, good for a lifetime, but not for longer than the authority.
func (a *Authority) Issue(host string, now time.Time, lifetime time.Duration) (cert, key []byte, err error) {
	until := now.Add(lifetime)
	if until.After(a.cert.NotAfter) {
		until = a.cert.NotAfter
	}
	if !until.After(now) {
		return nil, nil, fmt.Errorf("certificate of host %s: the authority ended on %s", host, a.cert.NotAfter.Format(time.DateOnly))
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		// A name may hold what no DNS name may, and then only the common name can carry it.
		Subject:   pkix.Name{CommonName: host},
		NotBefore: now.Add(-skew), NotAfter: until, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	signed, err := sign(template, a.cert, private.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate of host %s: %w", host, err)
	}
	key, err = keyPEM(private)
	return certPEM(signed), key, err
}

// Ends is when a certificate ends that this authority has issued to a host; an error when it is not such a one.
func (a *Authority) Ends(certPEM []byte, host string) (time.Time, error) {
	cert, err := parseCertificate(certPEM)
	switch {
	case err != nil:
		return time.Time{}, err
	case cert.CheckSignatureFrom(a.cert) != nil:
		return time.Time{}, errors.New("another authority issued it")
	case cert.Subject.CommonName != host:
		return time.Time{}, fmt.Errorf("it is that of %q", cert.Subject.CommonName)
	}
	return cert.NotAfter, nil
}

// sign makes a certificate; one without a parent signs itself.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

const (
	certType = "CERTIFICATE"
	keyType  = "PRIVATE KEY"
)

func parseCertificate(b []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != certType {
		return nil, errors.New("no PEM block of a certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certType, Bytes: c.Raw})
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: der}), nil
}
