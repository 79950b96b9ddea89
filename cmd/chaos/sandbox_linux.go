package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// enter runs the inner process in namespaces of its own for processes, mounts and the network: when it ends, the system
// ends and removes everything in them. exitForbidden means that nothing was done.
func enter(ctx context.Context, o options, out, errs io.Writer) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return exitForbidden, err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return exitForbidden, err
	}
	cmd := exec.Command(self, innerArgument, string(text))
	cmd.Stdout, cmd.Stderr = out, errs
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID,
		Setpgid:    true, // a terminal's interrupt comes to this process, which passes it on
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		return exitForbidden, err
	}
	err = waitFor(ctx, cmd)
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return code, nil
	}
	return exitFailed, fmt.Errorf("inner process: %w", err)
}

// waitFor passes an interrupt on, again and again: the first process of a namespace does not hear signals before it listens.
func waitFor(ctx context.Context, cmd *exec.Cmd) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	interrupted, again := ctx.Done(), (<-chan time.Time)(nil)
	for {
		select {
		case err := <-ended:
			return err
		case <-interrupted:
			interrupted = nil
		case <-again:
		}
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended meanwhile
		again = time.After(time.Second)
	}
}

// furnish makes mounts of the inner process: a place for named network namespaces, and a disk for each host; then the network.
func furnish(o options) (network, error) {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	if err := mountDisk("/run", 1); err != nil {
		return nil, err
	}
	for _, name := range hostNames(o.Hosts) {
		dir := filepath.Join(o.Dir, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if err := mountDisk(dir, o.Disk); err != nil {
			return nil, err
		}
	}
	return newNamespaces(hostNames(o.Hosts))
}

func mountDisk(dir string, megabytes int) error {
	if err := syscall.Mount("chaos", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=700", megabytes)); err != nil {
		return fmt.Errorf("mount a disk at %s: %w", dir, err)
	}
	return nil
}

// resize leaves a disk of furnish so many bytes more than are used, or, with a negative number, its whole size.
func resize(dir string, megabytes int, room int64) error {
	for {
		size := int64(megabytes) << 20
		if room >= 0 {
			var now syscall.Statfs_t
			if err := syscall.Statfs(dir, &now); err != nil {
				return fmt.Errorf("disk of %s: %w", dir, err)
			}
			size = int64(now.Blocks-now.Bfree)*now.Bsize + room
		}
		err := syscall.Mount("chaos", dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", max(size, 4096)))
		if err == syscall.EINVAL && room >= 0 {
			room += 1 << 16 // more is used meanwhile
			continue
		}
		if err != nil {
			return fmt.Errorf("resize the disk of %s: %w", dir, err)
		}
		return nil
	}
}

// ownGroup keeps a terminal's signals from a child, which ends with its parent.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
