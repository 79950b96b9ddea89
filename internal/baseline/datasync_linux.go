package baseline

import (
	"os"
	"syscall"
)

// dataSync makes a file's bytes durable, and of its metadata only what is needed to read them.
func dataSync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
