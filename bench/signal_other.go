//go:build !unix

package main

import (
	"errors"
	"os"
)

func standStill(*os.Process) error {
	return errors.New("this system cannot let a process stand still")
}

func goOn(*os.Process) error { return nil }
