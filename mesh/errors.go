package mesh

import (
	"errors"
	"fmt"
)

// Errors of this side, told apart with errors.Is.
var (
	ErrClosed      = errors.New("mesh: closed")
	ErrQueueFull   = errors.New("mesh: send queue full")
	ErrUnknownHost = errors.New("mesh: unknown host")
	ErrTimeout     = errors.New("mesh: no reply in time")
)

// Errors of the other side; a *RemoteError with the matching code is one.
var (
	ErrNoHandler        = errors.New("mesh: no such service")
	ErrUnknownPartition = errors.New("mesh: partition not served here")
	ErrOverloaded       = errors.New("mesh: peer overloaded")
	ErrMalformed        = errors.New("mesh: malformed request")
)

// Codes of a *RemoteError below 1000 are the mesh's own; above, they are what
// the handler's error answered to Code().
const (
	CodeFailed           = 1 // the handler's error has no code of its own
	CodeNoHandler        = 2
	CodeUnknownPartition = 3
	CodeOverloaded       = 4
	CodeMalformed        = 5
	CodeTooLarge         = 6
	CodeClosing          = 7
	CodeRaft             = 8 // hashicorp/raft's own error, as text
)

// RemoteError is an error that crossed the wire: a code and a text.
type RemoteError struct {
	Host string // who answered
	Num  int    // the code
	Text string
}

func (e *RemoteError) Error() string { return fmt.Sprintf("host %s: %s", e.Host, e.Text) }

// Code is the number the handler's error carried, or one of this package's.
func (e *RemoteError) Code() int { return e.Num }

// Is matches the errors of the other side by code.
func (e *RemoteError) Is(target error) bool {
	switch target {
	case ErrNoHandler:
		return e.Num == CodeNoHandler
	case ErrUnknownPartition:
		return e.Num == CodeUnknownPartition
	case ErrOverloaded:
		return e.Num == CodeOverloaded
	case ErrMalformed:
		return e.Num == CodeMalformed
	}
	return false
}

// LinkDownError says that the link to a host broke, or could not be made, so
// the request's outcome is unknown when it had been sent. Callers may retry.
type LinkDownError struct {
	Host  string
	Cause error
	// Unsent says that nothing of the request left this host. False means that it may have.
	Unsent bool
}

func (e *LinkDownError) Error() string { return fmt.Sprintf("link to host %s: %v", e.Host, e.Cause) }

// Unwrap gives the cause.
func (e *LinkDownError) Unwrap() error { return e.Cause }

// WrongIncarnationError says that the host runs on another data directory than
// the request was meant for.
type WrongIncarnationError struct{ Host, Want, Have string }

func (e *WrongIncarnationError) Error() string {
	return fmt.Sprintf("host %s runs as incarnation %s, not %s", e.Host, e.Have, e.Want)
}

// WrongClusterError says that the host at an address belongs to another cluster.
type WrongClusterError struct{ Peer, Want, Have string }

func (e *WrongClusterError) Error() string {
	return fmt.Sprintf("peer %s belongs to cluster %q, not %q", e.Peer, e.Have, e.Want)
}

// WrongHostError says that another host than expected answers at an address.
type WrongHostError struct{ Peer, Want, Have string }

func (e *WrongHostError) Error() string {
	return fmt.Sprintf("peer %s is host %q, not %q", e.Peer, e.Have, e.Want)
}

// StrangerError says that a host is not served because, as its peer knows the
// cluster, it does not belong to it, or not any more. A peer that has not read
// the newest cluster file yet says so, too: trying again is right.
type StrangerError struct{ Peer, Host string }

func (e *StrangerError) Error() string {
	return fmt.Sprintf("peer %s does not serve host %q: it knows of no such host in the cluster", e.Peer, e.Host)
}

// DuplicateHostError says that two running processes claim one host name.
type DuplicateHostError struct {
	Host        string
	One, Other  string // where and as what each runs: "incarnation at address"
	AboutMyself bool   // the name is this host's own
}

func (e *DuplicateHostError) Error() string {
	return fmt.Sprintf("two hosts are named %q: %s and %s", e.Host, e.One, e.Other)
}

// VersionError says that two hosts have no protocol version in common.
type VersionError struct {
	Peer               string
	Min, Max           uint8 // ours
	TheirMin, TheirMax uint8
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("peer %s speaks protocol versions %d to %d, this host %d to %d", e.Peer, e.TheirMin, e.TheirMax, e.Min, e.Max)
}

// FrameError says that a peer sent something that is not the protocol; the
// link it came over is closed.
type FrameError struct{ Peer, What string }

func (e *FrameError) Error() string {
	return fmt.Sprintf("peer %s does not speak the protocol: %s", e.Peer, e.What)
}

// TooLargeError says that a payload is over the limit of a frame of its class.
type TooLargeError struct{ Size, Limit int }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("payload of %d bytes is over the limit of %d", e.Size, e.Limit)
}

// InsecureError says that something would travel in the clear beyond this
// machine although the configuration does not say "insecure".
type InsecureError struct{ What, Addr string }

func (e *InsecureError) Error() string {
	return fmt.Sprintf("%s %s is neither loopback nor encrypted: configure TLS, or set insecure", e.What, e.Addr)
}

// AddressInUseError says that the address to listen on is taken.
type AddressInUseError struct {
	Addr  string
	Cause error
}

func (e *AddressInUseError) Error() string {
	return fmt.Sprintf("cannot listen on %s: the address is in use: %v", e.Addr, e.Cause)
}

// Unwrap gives the cause.
func (e *AddressInUseError) Unwrap() error { return e.Cause }
