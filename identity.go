package adamant

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/adamantdb/adamant/internal/syncdir"
)

// identity is what the file host.json of a data directory says: whose directory it is, and which life of its disk. A
// directory that was lost and made anew gets another incarnation, so that it never votes under the old server id (lemma
// I2 of design §5).
type identity struct {
	Format      int    `json:"format"`
	Cluster     string `json:"cluster"`
	Host        string `json:"host"`
	Incarnation string `json:"incarnation"` // 16 hex digits
	// Ready is set once both engines exist durably. From then on an engine that is missing has lost data.
	Ready bool `json:"ready"`
}

const (
	identityFormat = 1
	identityFile   = "host.json"
	incarnationLen = 16
	fileLimit      = 64 << 20 // bytes of any file a host reads whole
)

// openIdentity reads a directory's identity, or gives a new, empty directory one. A directory with engines but without an
// identity is damaged, not new.
func openIdentity(dir string, fs vfs.FS, cluster, host string) (identity, error) {
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return identity{}, fmt.Errorf("data directory %s: %w", dir, err)
	}
	path := fs.PathJoin(dir, identityFile)
	b, err := readFile(fs, path)
	switch {
	case err == nil:
		id, err := parseIdentity(path, b, cluster, host)
		if err == nil && id.Ready {
			err = checkEngines(dir, fs)
		}
		return id, err
	case !errors.Is(err, os.ErrNotExist):
		return identity{}, fmt.Errorf("%s: %w", path, err)
	}
	for _, engine := range engineDirs {
		if names, err := fs.List(fs.PathJoin(dir, engine)); err == nil && len(names) > 0 {
			return identity{}, fmt.Errorf("data directory %s holds data but no %s: restore the file, or start with an empty directory", dir, identityFile)
		}
	}
	return createIdentity(dir, fs, cluster, host)
}

// engineDirs are the directories of the two engines.
var engineDirs = []string{documentsDir, logDir}

const (
	documentsDir = "documents"
	logDir       = "log"
)

// checkEngines refuses a directory whose engines were lost while its identity stayed: under its old server id the member
// would have forgotten votes and entries that it acknowledged.
func checkEngines(dir string, fs vfs.FS) error {
	for _, engine := range engineDirs {
		path := fs.PathJoin(dir, engine)
		names, err := fs.List(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("data directory %s: %w", dir, err)
		}
		bolt := slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ".bolt") })
		desc, err := pebble.Peek(path, fs)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("data directory %s: %w", dir, err)
		}
		if !bolt && (desc == nil || !desc.Exists) {
			return fmt.Errorf("data directory %s has lost its %s: start with an empty directory, and the host joins under a new incarnation", dir, engine)
		}
	}
	return nil
}

func createIdentity(dir string, fs vfs.FS, cluster, host string) (identity, error) {
	random := make([]byte, incarnationLen/2)
	if _, err := rand.Read(random); err != nil {
		return identity{}, err
	}
	id := identity{Format: identityFormat, Cluster: cluster, Host: host, Incarnation: hex.EncodeToString(random)}
	if err := id.write(dir, fs); err != nil {
		return identity{}, err
	}
	return id, nil
}

func (id identity) write(dir string, fs vfs.FS) error {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	if err := replaceFile(fs, dir, identityFile, append(b, '\n')); err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	return nil
}

// seal makes the directory itself durable once both engines are in it, and notes that they are. Before that a host
// acknowledges nothing: a crash would take the directory's name with it.
func (id identity) seal(dir string, fs vfs.FS) error {
	if id.Ready {
		return nil
	}
	if err := syncdir.Sync(fs, fs.PathDir(dir)); err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	id.Ready = true
	return id.write(dir, fs) // syncs dir after the rename, and with it the names of the engines
}

// replaceFile writes a file beside its place, syncs it, renames it and syncs the directory: a crash leaves the old content
// or the new one.
func replaceFile(fs vfs.FS, dir, name string, content []byte) error {
	path := fs.PathJoin(dir, name)
	if err := writeFileSync(fs, path+".new", content); err != nil {
		return err
	}
	if err := fs.Rename(path+".new", path); err != nil {
		return err
	}
	return syncdir.Sync(fs, dir)
}

func parseIdentity(path string, b []byte, cluster, host string) (identity, error) {
	var id identity
	if err := json.Unmarshal(b, &id); err != nil {
		return id, fmt.Errorf("%s: %w", path, err)
	}
	switch dir := filepath.Dir(path); {
	case id.Format != identityFormat:
		return id, fmt.Errorf("%s: format %d, this program knows %d", path, id.Format, identityFormat)
	case id.Cluster != cluster:
		return id, &WrongOwnerError{Dir: dir, What: "cluster", Have: id.Cluster, Want: cluster}
	case id.Host != host:
		return id, &WrongOwnerError{Dir: dir, What: "host", Have: id.Host, Want: host}
	case len(id.Incarnation) != incarnationLen:
		return id, fmt.Errorf("%s: incarnation %q is malformed", path, id.Incarnation)
	}
	return id, nil
}

func readFile(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, fileLimit))
	return b, errors.Join(err, f.Close())
}

func writeFileSync(fs vfs.FS, path string, b []byte) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}
