//go:build unix && !linux

package main

import (
	"context"
	"errors"
	"io"
	"syscall"
)

var errNotHere = errors.New("only Linux has namespaces")

func enter(context.Context, options, io.Writer, io.Writer) (int, error) {
	return exitForbidden, errNotHere
}

func furnish(options) (network, error) { return nil, errNotHere }

func resize(string, int, int64) error { return errNotHere }

func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
