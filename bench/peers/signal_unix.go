//go:build unix

package main

import (
	"os"
	"syscall"
)

// standStill keeps a process from running until goOn.
func standStill(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }

func goOn(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
