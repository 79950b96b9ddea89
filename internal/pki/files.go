package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// The files of an authority's directory. Of these only the certificate ever leaves it.
const (
	authorityCert = "ca.pem"
	authorityKey  = "ca.key"
)

// OpenAuthority reads the authority of a directory, or makes one there; made says which. The directory is its owner's alone.
func OpenAuthority(dir, cluster string, now time.Time) (a *Authority, made bool, err error) {
	certPath, keyPath := filepath.Join(dir, authorityCert), filepath.Join(dir, authorityKey)
	cert, errCert := os.ReadFile(certPath)
	key, errKey := os.ReadFile(keyPath)
	switch {
	case errCert == nil && errKey == nil:
		if a, err = ParseAuthority(cert, key); err != nil {
			return nil, false, fmt.Errorf("authority in %s: %w", dir, err)
		}
		return a, false, nil
	case !errors.Is(errCert, fs.ErrNotExist) || !errors.Is(errKey, fs.ErrNotExist):
		return nil, false, fmt.Errorf("authority in %s: %w", dir, errors.Join(errCert, errKey))
	}
	if a, err = NewAuthority(cluster, now); err != nil {
		return nil, false, err
	}
	if key, err = a.KeyPEM(); err != nil {
		return nil, false, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, false, err
	}
	return a, true, errors.Join(WriteFile(keyPath, key, 0o600), WriteFile(certPath, a.CertPEM(), 0o644))
}

// WriteFile puts a file in place, whole and on the disk, or leaves what was there.
func WriteFile(path string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // for its owner alone
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
