package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// idle are the reasons to wait that count as standing still, in the runtime's table; the mutexes are what is added.
const (
	idleAnchor = "var isIdleInSynctest = [len(waitReasonStrings)]bool{\n"
	idleAdded  = "\twaitReasonSyncMutexLock: true, waitReasonSyncRWMutexRLock: true, waitReasonSyncRWMutexLock: true,\n"
)

// patched is the runtime's file with mutexes among what simulated time passes over.
func patched(source []byte) ([]byte, error) {
	if bytes.Count(source, []byte(idleAnchor)) != 1 {
		return nil, fmt.Errorf("this Go's runtime has another table: %q is not in it", strings.TrimSpace(idleAnchor))
	}
	return bytes.Replace(source, []byte(idleAnchor), []byte(idleAnchor+idleAdded), 1), nil
}

// build makes the program that runs seeds.
func build(ctx context.Context, out string, race bool) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "runtime", "runtime2.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	source, err = patched(source)
	if err != nil {
		return "", err
	}
	replacement, overlay, binary := filepath.Join(out, "runtime2.go.txt"), filepath.Join(out, "overlay.json"), filepath.Join(out, "sim.test")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {original: replacement}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(replacement, source, 0o644); err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, list, 0o644); err != nil {
		return "", err
	}
	args := []string{"test", "-c", "-overlay", overlay, "-o", binary}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "github.com/adamantdb/adamant/internal/sim")...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build the simulation: %w", err)
	}
	return binary, nil
}
