package mesh

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
)

var testGossipKey = []byte("0123456789abcdef")

// labelled puts the label of a cluster before b.
func labelled(cluster string, b []byte) []byte {
	return append(append([]byte{messageLabel, byte(len(cluster))}, cluster...), b...)
}

// sealed encrypts as memberlist does, in the version asked for.
func sealed(version byte, plain, with []byte) []byte {
	block, err := aes.NewCipher(testGossipKey)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	nonce := make([]byte, sealNonce)
	return append(append([]byte{version}, nonce...), gcm.Seal(nil, nonce, plain, with)...)
}

// sealedStream is the message of a stream, encrypted.
func sealedStream(cluster string, plain []byte) []byte {
	head := binary.BigEndian.AppendUint32([]byte{messageEncrypted}, uint32(sealOverhead+len(plain)))
	return append(bytes.Clone(head), sealed(sealVersion, plain, append(head, cluster...))...)
}

// gossiped is a message of memberlist's.
func gossiped(typ byte, body any) []byte {
	var b bytes.Buffer
	b.WriteByte(typ)
	if err := codec.NewEncoder(&b, &codec.MsgpackHandle{}).Encode(body); err != nil {
		panic(err)
	}
	return b.Bytes()
}

type fields = map[string]any

// aliveAs says that a host runs.
func aliveAs(name string) []byte {
	return gossiped(messageAlive, fields{"Incarnation": uint32(1), "Node": name, "Addr": []byte{127, 0, 0, 1}, "Port": uint16(9),
		"Meta": appendMeta(nil, 7, "x"), "Vsn": []byte{1, 5, 2, 0, 0, 0}})
}

// compound is a packet of several messages.
func compound(messages ...[]byte) []byte {
	b := []byte{messageCompound, byte(len(messages))}
	for _, m := range messages {
		b = binary.BigEndian.AppendUint16(b, uint16(len(m)))
	}
	return append(b, bytes.Join(messages, nil)...)
}

// state is what a host tells of all.
func state(header fields, nodes ...fields) []byte {
	b := gossiped(messageState, header)
	for _, n := range nodes {
		b = append(b, gossiped(0, n)[1:]...)
	}
	return b
}

func sendPacket(t *testing.T, m *Mesh, b []byte) {
	t.Helper()
	c, err := net.Dial("udp", m.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// A member that knows the gossip key sends an encrypted state of no bytes: memberlist (v0.7.0) would take the first of them.
func TestEmptyGossipState(t *testing.T) {
	m := newTestbed(t).start("a", func(o *Options) { o.GossipKey = testGossipKey })
	c := rawDial(t, m, append([]byte{prefaceGossip}, labelled("c", sealedStream("c", nil))...))
	soon(t, "it is counted", func() bool { return m.Stats().GossipRefused == 1 })
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatalf("it was answered with %d bytes", n)
	}
}

// One packet, which needs the gossip key and no certificate: the padding of the old encryption is longer than what it pads, and
// memberlist (v0.7.0) would cut off more than there is.
func TestGossipPadding(t *testing.T) {
	m := newTestbed(t).start("a", func(o *Options) { o.GossipKey = testGossipKey })
	plain := make([]byte, 16)
	plain[15] = 255
	sendPacket(t, m, labelled("c", sealed(0, plain, []byte("c"))))
	soon(t, "it is counted", func() bool { return m.Stats().GossipRefused == 1 })
}

// A host that is dialled may answer with as much harm as one that dials.
func TestGossipAnswersAreJudged(t *testing.T) {
	a := newTestbed(t).start("a", func(o *Options) { o.GossipKey = testGossipKey })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write(sealedStream("c", nil))
			_ = c.(*net.TCPConn).CloseWrite()
		}
	}()
	if _, err := a.gossip.list.Join([]string{l.Addr().String()}); err == nil || !strings.Contains(err.Error(), "not encrypted as") {
		t.Fatalf("%v", err)
	}
	if n := a.Stats().GossipRefused; n == 0 {
		t.Fatal("it was not counted")
	}
}

// Only as many gossip streams are read as are allowed.
func TestGossipStreamBound(t *testing.T) {
	bed := newTestbed(t)
	a := bed.start("a", func(o *Options) { o.Limits.GossipStreams = 2; o.Timing.Dial = patience })
	b := bed.start("b")
	held := []net.Conn{rawDial(t, a, []byte{prefaceGossip}), rawDial(t, a, []byte{prefaceGossip})}
	taken := func() int {
		a.conns.mu.Lock()
		defer a.conns.mu.Unlock()
		return a.conns.gossip
	}
	soon(t, "both are taken", func() bool { return taken() == 2 })
	if n, err := rawDial(t, a, []byte{prefaceGossip}).Read(make([]byte, 1)); err == nil {
		t.Fatalf("a third is answered with %d bytes", n)
	}
	if s := a.Stats(); s.GossipDropped != 1 {
		t.Fatalf("%d turned away", s.GossipDropped)
	}
	for _, c := range held {
		_ = c.Close()
	}
	soon(t, "there is room again", func() bool { return taken() == 0 })
	if _, err := b.gossip.list.Join([]string{a.Addr()}); err != nil {
		t.Fatal(err)
	}
}

// gossipSamples are messages as memberlist sends them, whole ones and such as a packet never has.
func gossipSamples() (packets, streams [][]byte) {
	ping := gossiped(messagePing, fields{"SeqNo": uint32(7), "Node": "a", "SourceAddr": []byte{127, 0, 0, 1}, "SourcePort": uint16(9), "SourceNode": "b"})
	ack := gossiped(messageAck, fields{"SeqNo": uint32(7), "Payload": nil})
	indirect := gossiped(messageIndirectPing, fields{"SeqNo": uint32(7), "Target": []byte{127, 0, 0, 1}, "Port": uint16(9), "Node": "b", "Nack": true})
	suspected := gossiped(messageSuspect, fields{"Incarnation": uint32(1), "Node": "b", "From": "d"})
	dead := gossiped(messageDead, fields{"Incarnation": uint32(1), "Node": "b", "From": "d"})
	nack := gossiped(messageNack, fields{"SeqNo": uint32(7)})
	node := fields{"Name": "b", "Addr": bytes.Repeat([]byte{1}, 16), "Port": uint16(9), "Meta": appendMeta(nil, 7, "x"), "Incarnation": uint32(1), "State": 0, "Vsn": []byte{1, 5, 2, 0, 0, 0}}
	packets = [][]byte{ping, ack, indirect, suspected, dead, nack, aliveAs("b"), compound(ping, aliveAs("b"), suspected), checked(ack), checked(compound(ack, dead))}
	streams = [][]byte{ping, ack, state(fields{"Nodes": 2, "UserStateLen": 0, "Join": true}, node, node), state(fields{"Nodes": 0, "Later": nil}),
		gossiped(messageError, fields{"Error": "no"})}
	return packets, streams
}

// checked puts a checksum before a packet's message.
func checked(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{messageChecksum}, crc32.ChecksumIEEE(b)), b...)
}

func testDoors() map[string]*gossipDoor {
	keys, err := memberlist.NewKeyring(nil, testGossipKey)
	if err != nil {
		panic(err)
	}
	return map[string]*gossipDoor{"in the clear": {label: "c"}, "encrypted": {label: "c", keys: keys}}
}

// asPacket and asStream wrap a message as the door expects it.
func (d *gossipDoor) asPacket(b []byte) []byte {
	if d.keys != nil {
		b = sealed(sealVersion, b, []byte(d.label))
	}
	return labelled(d.label, b)
}

func (d *gossipDoor) asStream(b []byte) []byte {
	if d.keys != nil {
		b = sealedStream(d.label, b)
	}
	return labelled(d.label, b)
}

func TestGossipDoor(t *testing.T) {
	packets, streams := gossipSamples()
	for name, d := range testDoors() {
		for i, b := range packets {
			if err := d.packet(d.asPacket(b)); err != nil {
				t.Errorf("%s: packet %d: %v", name, i, err)
			}
			for n := range b { // any part of it
				if err := d.packet(d.asPacket(b[:n])); !errors.As(err, new(*FrameError)) {
					t.Fatalf("%s: %d of %d bytes of packet %d: %v", name, n, len(b), i, err)
				}
			}
		}
		for i, b := range streams {
			whole := d.asStream(b)
			if got, err := d.stream(iotest.OneByteReader(bytes.NewReader(whole)), true); err != nil || !bytes.Equal(got, whole) {
				t.Errorf("%s: stream %d: %v", name, i, err)
			}
			if got, err := d.stream(bytes.NewReader(whole[2+len(d.label):]), false); err != nil || !bytes.Equal(got, whole[2+len(d.label):]) {
				t.Errorf("%s: answer %d: %v", name, i, err)
			}
			for n := range whole {
				if _, err := d.stream(bytes.NewReader(whole[:n]), true); err == nil {
					t.Fatalf("%s: %d of %d bytes of stream %d pass", name, n, len(whole), i)
				}
			}
			for n := range b {
				if _, err := d.stream(bytes.NewReader(d.asStream(b[:n])), true); err == nil {
					t.Fatalf("%s: %d of %d bytes within stream %d pass", name, n, len(b), i)
				}
			}
		}
	}
}

// What memberlist never sends, as it is configured here, is not let in.
func TestGossipDoorRefuses(t *testing.T) {
	ping := gossiped(messagePing, fields{"SeqNo": uint32(7)})
	deep := append([]byte{messagePing, 0x81, 0xa1, 'x'}, bytes.Repeat([]byte{0x91}, 1<<16)...)
	huge := fields{"Nodes": 1, "UserStateLen": 0}
	packets := map[string][]byte{
		"of an application":       gossiped(8, fields{}),
		"packed":                  gossiped(9, fields{"Algo": 0, "Buf": []byte{1}}),
		"state":                   state(fields{"Nodes": 0}),
		"compound in compound":    compound(compound(ping)),
		"checksum in compound":    compound(checked(ping)),
		"wrong checksum":          append([]byte{messageChecksum, 0, 0, 0, 0}, ping...),
		"more after it":           append(bytes.Clone(ping), 0),
		"more after several":      append(compound(ping), 0),
		"lists in lists":          deep,
		"a list for a map":        {messagePing, 0x91, 0},
		"another kind":            gossiped(messagePing, fields{"SeqNo": "seven"}),
		"a name for an address":   gossiped(messageIndirectPing, fields{"Target": []byte("example.org"), "Node": "b"}),
		"a ping to nobody":        gossiped(messageIndirectPing, fields{"Node": "b"}),
		"a negative number":       gossiped(messagePing, fields{"SeqNo": -1}),
		"a number that overflows": gossiped(messagePing, fields{"SeqNo": uint64(1 << 32)}),
		"few versions":            gossiped(messageAlive, fields{"Node": "b", "Vsn": []byte{1, 2, 3}}),
		"a long name":             gossiped(messageSuspect, fields{"Node": strings.Repeat("x", maxNameBytes+1)}),
		"a field twice":           {messagePing, 0x82, 0xa1, 'x', 0, 0xa1, 'x', 0},
		"more fields than any":    append([]byte{messagePing, 0xdf, 0xff, 0xff, 0xff, 0xff}, ping...),
	}
	streams := map[string][]byte{
		"of an application":      gossiped(8, fields{"UserMsgLen": 0}),
		"packed":                 gossiped(9, fields{"Algo": 0, "Buf": []byte{1}}),
		"with an application's":  state(fields{"Nodes": 0, "UserStateLen": 1}),
		"more nodes than can be": state(fields{"Nodes": maxGossipNodes + 1}),
		"fewer nodes than none":  state(fields{"Nodes": -1}),
		"a huge node":            state(huge, fields{"Meta": make([]byte, maxGossipStream)}),
		"a huge length":          append(state(huge), 0x81, 0xa1, 'x', 0xdb, 0xff, 0xff, 0xff, 0xff),
		"lists in lists":         deep,
		"alive":                  aliveAs("b"),
		"doubly encrypted":       sealedStream("c", ping),
	}
	for name, d := range testDoors() {
		for what, b := range packets {
			if err := d.packet(d.asPacket(b)); !errors.As(err, new(*FrameError)) {
				t.Errorf("%s: packet: %s: %v", name, what, err)
			}
		}
		for what, b := range streams {
			if _, err := d.stream(bytes.NewReader(d.asStream(b)), true); !errors.As(err, new(*FrameError)) {
				t.Errorf("%s: stream: %s: %v", name, what, err)
			}
		}
		if err := d.packet(labelled("other", nil)); !errors.As(err, new(*FrameError)) {
			t.Errorf("%s: another cluster's packet: %v", name, err)
		}
		if _, err := d.stream(bytes.NewReader(labelled("other", ping)), true); !errors.As(err, new(*FrameError)) {
			t.Errorf("%s: another cluster's stream: %v", name, err)
		}
	}
	d := testDoors()["encrypted"]
	for what, b := range map[string][]byte{"in the clear": ping, "padded": sealed(0, append(ping, 255), []byte("c")), "empty": sealed(1, nil, []byte("c")), "of nothing": nil} {
		if err := d.packet(labelled("c", b)); !errors.As(err, new(*FrameError)) {
			t.Errorf("%s: %v", what, err)
		}
		whole := append(binary.BigEndian.AppendUint32([]byte{messageEncrypted}, uint32(len(b))), b...)
		if _, err := d.stream(bytes.NewReader(labelled("c", whole)), true); !errors.As(err, new(*FrameError)) {
			t.Errorf("stream %s: %v", what, err)
		}
	}
	long := labelled("c", []byte{messageEncrypted, 0xff, 0xff, 0xff, 0xff})
	if _, err := d.stream(bytes.NewReader(long), true); !errors.As(err, new(*FrameError)) {
		t.Errorf("a long stream: %v", err)
	}
}

// FuzzGossip gives whatever the door lets in to a memberlist. A panic there is on a goroutine of its own, and ends the process.
func FuzzGossip(f *testing.F) {
	packets, streams := gossipSamples()
	for _, b := range packets {
		f.Add(b, false)
	}
	for _, b := range streams {
		f.Add(b, true)
	}
	f.Add([]byte{messageCompound, 255, 0}, false)
	f.Add([]byte{}, true)
	m, err := Listen(Options{Identity: Identity{Cluster: "c", Host: "a", Incarnation: "i"}, Addr: "127.0.0.1:0"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = m.Close() })
	doors := testDoors()
	clear, keyed := doors["in the clear"], doors["encrypted"]
	f.Fuzz(func(t *testing.T, b []byte, stream bool) {
		_ = keyed.packet(b)
		_, _ = keyed.stream(bytes.NewReader(b), false)
		if !stream {
			err := clear.packet(clear.asPacket(b))
			if sealedErr := keyed.packet(keyed.asPacket(b)); (err == nil) != (sealedErr == nil) && len(b) > 0 {
				t.Fatalf("in the clear: %v, encrypted: %v", err, sealedErr)
			}
			if err == nil {
				m.gossip.transport.packets <- &memberlist.Packet{Buf: clear.asPacket(b), From: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}}
			}
			return
		}
		whole := clear.asStream(b)
		got, err := clear.stream(bytes.NewReader(whole), true)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(whole, got) {
			t.Fatal("the stream was changed")
		}
		showStream(t, m, got)
	})
}

// showStream has memberlist read a stream to its end.
func showStream(t *testing.T, m *Mesh, b []byte) {
	near, far := net.Pipe()
	defer near.Close()
	done := make(chan struct{})
	m.gossip.transport.streams <- &gossipConn{Conn: far, raw: far, m: m, door: &m.gossip.transport.door, done: done}
	go func() { _, _ = near.Write(b) }()
	go func() { // what it answers
		buf := make([]byte, 4096)
		for {
			if _, err := near.Read(buf); err != nil {
				return
			}
		}
	}()
	<-done
	if n := fmt.Sprint(m.gossip.alive()); n == "" {
		t.Fatal("nobody is alive")
	}
}
