//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/adamantdb/adamant/internal/overlay"
)

// versions are programs that differ from this one in a version of what they say to other hosts.
var versions = []struct {
	name, pkg, file string
	old, new        string
}{
	{"links", "github.com/adamantdb/adamant/mesh", "hello.go", "	protocolMin = 1\n	protocolMax = 1\n", "	protocolMin = 101\n	protocolMax = 101\n"},
	{"repair", "github.com/adamantdb/adamant/antientropy", "message.go", "const messageVersion = ", "const messageVersion = 100 + "},
}

// build builds the adamant command, and those of other versions when a fault needs them.
func (o *options) build(ctx context.Context, errs io.Writer) error {
	if o.Binary != "" {
		return nil
	}
	o.Binary = filepath.Join(o.Dir, "adamant")
	if err := o.command(ctx, errs, o.Binary); err != nil {
		return err
	}
	list, err := chosen(o.Faults)
	if err != nil || o.Others != "" || !slices.ContainsFunc(list, func(f fault) bool { return f.others }) {
		return err
	}
	var others []string
	for _, v := range versions {
		dir := filepath.Join(o.Dir, "of-other-"+v.name)
		source, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", v.pkg).Output()
		if err != nil {
			return fmt.Errorf("find %s: %w", v.pkg, err)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		list, err := overlay.Write(dir, overlay.Edit{File: filepath.Join(strings.TrimSpace(string(source)), v.file), Old: v.old, New: v.new})
		if err != nil {
			return err
		}
		binary := filepath.Join(dir, "adamant-of-other-"+v.name)
		if err := o.command(ctx, errs, binary, "-overlay", list); err != nil {
			return err
		}
		others = append(others, binary)
	}
	o.Others = strings.Join(others, ",")
	return nil
}

// command builds one adamant command.
func (o *options) command(ctx context.Context, errs io.Writer, binary string, flags ...string) error {
	args := append([]string{"build", "-o", binary}, flags...)
	if o.Race {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "github.com/adamantdb/adamant/cmd/adamant")...)
	cmd.Stderr = errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the adamant command: %w", err)
	}
	return nil
}
