package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/adamantdb/adamant/internal/overlay"
)

// idle are the reasons to wait that count as standing still, in the runtime's table; the mutexes are what is added.
const (
	idleAnchor = "var isIdleInSynctest = [len(waitReasonStrings)]bool{\n"
	idleAdded  = "\twaitReasonSyncMutexLock: true, waitReasonSyncRWMutexRLock: true, waitReasonSyncRWMutexLock: true,\n"
)

// build makes the program that runs seeds.
func build(ctx context.Context, out string, race bool) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "runtime", "runtime2.go")
	list, err := overlay.Write(out, overlay.Edit{File: original, Old: idleAnchor, New: idleAnchor + idleAdded})
	if err != nil {
		return "", fmt.Errorf("this Go's runtime is another one: %w", err)
	}
	binary := filepath.Join(out, "sim.test")
	args := []string{"test", "-c", "-overlay", list, "-o", binary}
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
