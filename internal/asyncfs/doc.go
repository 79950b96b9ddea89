// Package asyncfs makes files durable without keeping a processor of the Go scheduler busy.
//
// A goroutine that waits in fsync keeps its P until the scheduler's monitor takes it away, which may be 10 ms later. With
// few processors, and a log that is synced a thousand times a second, that is most of the time of a process. On Linux the
// sync is handed to the kernel (io_submit with IOCB_CMD_FDSYNC, a kernel thread waits for the disk) and its completion
// comes through the network poller, as an eventfd: the goroutine that waits is parked like one that reads from a socket.
//
// When that thread does not get to run, because other programs keep the processors busy, the file is synced in the usual way
// after a moment, see asyncFile. Where the kernel does not take such requests, and on other systems, files are synced in the
// usual way. What Sync means does not change: it returns once the file's bytes are durable, or with the error of the disk.
package asyncfs
