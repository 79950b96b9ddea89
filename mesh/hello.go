package mesh

import (
	"encoding/binary"
	"fmt"
)

// The first byte of every TCP stream (inside TLS when there is TLS) says what
// it carries, so that links and gossip share one port.
const (
	prefaceLink   = 0xAD
	prefaceGossip = 0xAE
)

// Protocol versions of links this code speaks.
const (
	protocolMin = 1
	protocolMax = 1
)

// linkKind tells the connections of a host pair apart.
type linkKind uint8

const (
	linkMain  linkKind = iota // urgent and normal requests
	linkBulk                  // bulk requests
	linkProbe                 // only asks who answers; ends with the answer
	linkKinds = 2             // kinds that stay connected
)

func (k linkKind) String() string {
	return [...]string{"main", "bulk", "probe"}[k]
}

// maxNameBytes bounds every name and address in a handshake.
const maxNameBytes = 255

// hello is the first frame of a dialler.
type hello struct {
	minVersion, maxVersion uint8
	kind                   linkKind
	maxFrame               uint32 // largest payload the dialler takes
	instance               uint64 // random, new at each start of the process
	id                     Identity
	addr                   string // where the dialler listens
	target                 string // the host it means to talk to
}

// The fields a later version adds come after the known ones, and are ignored
// by this one: hello is the one frame that every version must understand.
func (h *hello) append(b []byte) []byte {
	b = append(b, h.minVersion, h.maxVersion, byte(h.kind))
	b = binary.BigEndian.AppendUint32(b, h.maxFrame)
	b = binary.BigEndian.AppendUint64(b, h.instance)
	b = appendIdentity(b, h.id)
	b = appendString(b, h.addr)
	return appendString(b, h.target)
}

func decodeHello(b []byte) (h hello, err error) {
	d := decoder{b: b}
	h.minVersion, h.maxVersion = d.u8("lowest version"), d.u8("highest version")
	h.kind = linkKind(d.u8("link kind"))
	h.maxFrame = d.u32("frame limit")
	h.instance = d.u64("instance")
	h.id = d.identity()
	h.addr = d.str("address", maxNameBytes)
	h.target = d.str("target", maxNameBytes)
	if d.err == nil && h.kind > linkProbe {
		d.fail("link kind %d", h.kind)
	}
	if d.err == nil && (h.id.Cluster == "" || h.id.Host == "" || h.minVersion > h.maxVersion) {
		d.fail("hello without a name or version")
	}
	return h, d.err
}

// welcome answers a hello that is accepted.
type welcome struct {
	version  uint8
	maxFrame uint32
	instance uint64
	id       Identity
	addr     string
}

func (w *welcome) append(b []byte) []byte {
	b = append(b, w.version)
	b = binary.BigEndian.AppendUint32(b, w.maxFrame)
	b = binary.BigEndian.AppendUint64(b, w.instance)
	b = appendIdentity(b, w.id)
	return appendString(b, w.addr)
}

func decodeWelcome(b []byte) (w welcome, err error) {
	d := decoder{b: b}
	w.version = d.u8("version")
	w.maxFrame = d.u32("frame limit")
	w.instance = d.u64("instance")
	w.id = d.identity()
	w.addr = d.str("address", maxNameBytes)
	return w, d.finish()
}

// refusalCode says why a hello was not accepted.
type refusalCode uint8

const (
	refusedCluster refusalCode = iota + 1
	refusedHost
	refusedDuplicate
	refusedVersion
	refusedIdentity // the certificate does not carry the claimed name
	refusedSelf     // dialler and acceptor are one process
	refusedBusy     // closing, or another process of the dialler's name is connected
	refusedStranger // Options.Admit
)

// refusal answers any other hello; it says who answers, too.
type refusal struct {
	code                   refusalCode
	minVersion, maxVersion uint8
	instance               uint64
	id                     Identity
	addr                   string
	text                   string
}

func (r *refusal) append(b []byte) []byte {
	b = append(b, byte(r.code), r.minVersion, r.maxVersion)
	b = binary.BigEndian.AppendUint64(b, r.instance)
	b = appendIdentity(b, r.id)
	b = appendString(b, r.addr)
	return appendString(b, r.text)
}

// Like a hello, a refusal may carry more fields in a later version.
func decodeRefusal(b []byte) (r refusal, err error) {
	d := decoder{b: b}
	r.code = refusalCode(d.u8("code"))
	r.minVersion, r.maxVersion = d.u8("lowest version"), d.u8("highest version")
	r.instance = d.u64("instance")
	r.id = d.identity()
	r.addr = d.str("address", maxNameBytes)
	r.text = d.str("text", maxHandshakeBytes)
	return r, d.err
}

func appendIdentity(b []byte, id Identity) []byte {
	b = appendString(b, id.Cluster)
	b = appendString(b, id.Host)
	return appendString(b, id.Incarnation)
}

func (d *decoder) identity() Identity {
	return Identity{
		Cluster:     d.str("cluster", maxNameBytes),
		Host:        d.str("host", maxNameBytes),
		Incarnation: d.str("incarnation", maxNameBytes),
	}
}

// RefusedError says that a peer turned a link away for a reason that has no
// type of its own.
type RefusedError struct{ Peer, Text string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("peer %s refused the link: %s", e.Peer, e.Text)
}

// IdentityError says that a peer's certificate is not that of the host it
// claims, or ought, to be.
type IdentityError struct {
	Peer, Host string
	Names      []string // the names in the certificate
}

func (e *IdentityError) Error() string {
	return fmt.Sprintf("peer %s is not proven to be host %q: its certificate names %q", e.Peer, e.Host, e.Names)
}

// asError is what a refusal means to the dialler, who wanted target at peer.
func (r *refusal) asError(peer, target string, me Identity) error {
	switch r.code {
	case refusedCluster:
		return &WrongClusterError{Peer: peer, Want: me.Cluster, Have: r.id.Cluster}
	case refusedHost:
		return &WrongHostError{Peer: peer, Want: target, Have: r.id.Host}
	case refusedVersion:
		return &VersionError{Peer: peer, Min: protocolMin, Max: protocolMax, TheirMin: r.minVersion, TheirMax: r.maxVersion}
	case refusedStranger:
		return &StrangerError{Peer: peer, Host: me.Host}
	}
	return &RefusedError{Peer: peer, Text: r.text}
}
