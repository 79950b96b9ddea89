package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// resolve says where a host listens.
func (m *Mesh) resolve(host string) (string, bool) {
	if m.opts.Resolve == nil {
		return "", false
	}
	return m.opts.Resolve(host)
}

// dialRaw opens a connection for a preface, as host ("" when not known), and
// writes that preface. conn is raw, or TLS over it.
func (m *Mesh) dialRaw(ctx context.Context, host, addr string, preface byte) (conn, raw net.Conn, err error) {
	d := net.Dialer{Timeout: m.timing.Dial, Control: m.checkDialled}
	tcp, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	raw = tcp
	// Whatever ends ctx ends the handshake.
	stop := context.AfterFunc(ctx, func() { _ = tcp.Close() })
	defer func() {
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			_ = tcp.Close()
		}
	}()
	if err = raw.SetDeadline(time.Now().Add(m.timing.Handshake)); err != nil {
		return nil, nil, err
	}
	if conn, err = m.secureOutbound(ctx, raw, host, addr); err != nil {
		return nil, nil, err
	}
	if _, err = conn.Write([]byte{preface}); err != nil {
		return nil, nil, err
	}
	return conn, raw, nil
}

// dialLink makes one link: it returns the stream with its handshake over.
func (m *Mesh) dialLink(host, addr string, kind linkKind, q *sendQueue) (*stream, welcome, error) {
	m.stats.dials.Add(1)
	s, w, err := m.handshake(host, addr, kind, q)
	if err != nil {
		if m.ctx.Err() == nil {
			m.stats.dialFailures.Add(1)
		}
		return nil, w, err
	}
	s.theirs = int(w.maxFrame)
	s.ours = m.limits.frames()
	_ = s.conn.SetDeadline(time.Time{})
	return s, w, nil
}

func (m *Mesh) handshake(host, addr string, kind linkKind, q *sendQueue) (*stream, welcome, error) {
	conn, raw, err := m.dialRaw(m.ctx, host, addr, prefaceLink)
	if err != nil {
		return nil, welcome{}, err
	}
	stop := context.AfterFunc(m.ctx, func() { _ = raw.Close() })
	defer stop()
	peer := host + " at " + addr
	s := newStream(m, conn, raw, kind, peer, 0, q)
	s.ours = frameLimits{}
	w, err := m.introduce(s, host, addr, kind)
	if err != nil {
		_ = raw.Close()
		return nil, w, err
	}
	return s, w, nil
}

// introduce sends a hello and takes the answer.
func (m *Mesh) introduce(s *stream, host, addr string, kind linkKind) (w welcome, err error) {
	me := m.opts.Identity
	h := hello{
		minVersion: protocolMin, maxVersion: protocolMax, kind: kind, maxFrame: uint32(m.limits.FrameBytes),
		instance: m.instance, id: me, addr: m.addr, target: host,
	}
	if err := writeHandshake(s.conn, frameHello, h.append(nil), m.timing.Handshake); err != nil {
		return w, err
	}
	head, payload, err := s.next()
	if err != nil {
		return w, fmt.Errorf("no answer to the hello: %w", err)
	}
	switch head.typ {
	case frameWelcome:
		if w, err = decodeWelcome(payload); err != nil {
			return w, &FrameError{Peer: s.peer, What: err.Error()}
		}
	case frameRefusal:
		r, err := decodeRefusal(payload)
		if err != nil {
			return w, &FrameError{Peer: s.peer, What: err.Error()}
		}
		return welcome{instance: r.instance, id: r.id, addr: r.addr}, m.turnedAway(&r, s.peer, host)
	default:
		return w, &FrameError{Peer: s.peer, What: "a hello was answered with a " + head.typ.String() + " frame"}
	}
	switch {
	case w.version < protocolMin || w.version > protocolMax:
		return w, &VersionError{Peer: s.peer, Min: protocolMin, Max: protocolMax, TheirMin: w.version, TheirMax: w.version}
	case w.id.Cluster != me.Cluster:
		return w, &WrongClusterError{Peer: s.peer, Want: me.Cluster, Have: w.id.Cluster}
	case w.id.Host != host:
		return w, &WrongHostError{Peer: s.peer, Want: host, Have: w.id.Host}
	}
	return w, nil
}

// errSelf answers a host that dials itself.
var errSelf = errors.New("this host itself answers")

// turnedAway is the error for a refusal; being told that another process has
// this host's name is a conflict.
func (m *Mesh) turnedAway(r *refusal, peer, host string) error {
	switch r.code {
	case refusedSelf:
		return errSelf
	case refusedDuplicate:
		dup := &DuplicateHostError{Host: m.opts.Host, One: m.describe(), Other: "another, says " + peer, AboutMyself: true}
		if r.id.Host == m.opts.Host {
			dup.Other = r.id.Incarnation + " at " + r.addr
		}
		m.conflict(dup, r.instance)
		return dup
	}
	return r.asError(peer, host, m.opts.Identity)
}
