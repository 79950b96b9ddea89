package mesh

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// rpcType is the first byte of every payload of ServiceRaft; a response has
// that of its request.
type rpcType uint8

const (
	rpcAppendEntries rpcType = iota + 1
	rpcRequestVote
	rpcRequestPreVote
	rpcTimeoutNow
	rpcInstallSnapshot
)

func (t rpcType) String() string {
	names := [...]string{"", "AppendEntries", "RequestVote", "RequestPreVote", "TimeoutNow", "InstallSnapshot"}
	if int(t) < len(names) && t != 0 {
		return names[t]
	}
	return fmt.Sprintf("RPC %d", uint8(t))
}

// Bounds of what is decoded. hashicorp/raft sends at most 1024 entries at a
// time; its snapshots here are markers of a few hundred bytes.
const (
	maxEntries       = 4096
	minEntryBytes    = 5 // index, term, type, flags, length of the data
	maxServerBytes   = 1 << 10
	maxPeersBytes    = 256 << 10
	maxSnapshotBytes = 1 << 20
	maxFieldBytes    = 1 << 30 // what a frame can hold bounds it further
)

// Flags of an entry: which optional fields follow.
const (
	entryHasExtensions = 1 << iota
	entryHasTime
)

func appendRPCHeader(b []byte, h *raft.RPCHeader) []byte {
	b = binary.AppendUvarint(b, uint64(h.ProtocolVersion))
	b = appendBytes(b, h.ID)
	return appendBytes(b, h.Addr)
}

func (d *decoder) rpcHeader() raft.RPCHeader {
	v := d.uvarint("protocol version")
	if v > 1<<16 {
		d.fail("protocol version %d", v)
	}
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersion(v), ID: d.bytes("server id", maxServerBytes), Addr: d.bytes("server address", maxServerBytes)}
}

// entryBytes bounds from above what appendEntry adds.
func entryBytes(e *raft.Log) int {
	return 6*binary.MaxVarintLen64 + 2 + len(e.Data) + len(e.Extensions)
}

func appendEntry(b []byte, e *raft.Log) []byte {
	b = binary.AppendUvarint(b, e.Index)
	b = binary.AppendUvarint(b, e.Term)
	flags := byte(0)
	if len(e.Extensions) > 0 {
		flags |= entryHasExtensions
	}
	if !e.AppendedAt.IsZero() {
		flags |= entryHasTime
	}
	b = append(b, byte(e.Type), flags)
	b = appendBytes(b, e.Data)
	if flags&entryHasExtensions != 0 {
		b = appendBytes(b, e.Extensions)
	}
	if flags&entryHasTime != 0 {
		b = binary.AppendVarint(b, e.AppendedAt.Unix())
		b = binary.AppendUvarint(b, uint64(e.AppendedAt.Nanosecond()))
	}
	return b
}

func (d *decoder) entry(e *raft.Log) {
	e.Index, e.Term = d.uvarint("entry index"), d.uvarint("entry term")
	e.Type = raft.LogType(d.u8("entry type"))
	flags := d.u8("entry flags")
	if flags&^(entryHasExtensions|entryHasTime) != 0 {
		d.fail("entry flags %#x", flags)
	}
	e.Data = d.bytes("entry data", maxFieldBytes)
	if flags&entryHasExtensions != 0 {
		e.Extensions = d.bytes("entry extensions", maxFieldBytes)
		if len(e.Extensions) == 0 {
			d.fail("empty entry extensions")
		}
	}
	if flags&entryHasTime != 0 {
		sec, nsec := d.varint("entry time"), d.uvarint("entry time")
		if nsec >= 1e9 {
			d.fail("entry time with %d nanoseconds", nsec)
			return
		}
		e.AppendedAt = time.Unix(sec, int64(nsec))
	}
}

// appendRequest appends an RPC to b; data is the snapshot of an InstallSnapshot. Raft's deprecated fields that repeat the
// header's address (Leader of AppendEntries, Candidate) do not travel.
func appendRequest(b []byte, command any, data []byte) ([]byte, error) {
	switch r := command.(type) {
	case *raft.AppendEntriesRequest:
		b = append(b, byte(rpcAppendEntries))
		b = appendRPCHeader(b, &r.RPCHeader)
		b = binary.AppendUvarint(b, r.Term)
		b = binary.AppendUvarint(b, r.PrevLogEntry)
		b = binary.AppendUvarint(b, r.PrevLogTerm)
		b = binary.AppendUvarint(b, r.LeaderCommitIndex)
		b = binary.AppendUvarint(b, uint64(len(r.Entries)))
		for _, e := range r.Entries {
			b = appendEntry(b, e)
		}
	case *raft.RequestVoteRequest:
		b = append(b, byte(rpcRequestVote))
		b = appendRPCHeader(b, &r.RPCHeader)
		b = binary.AppendUvarint(b, r.Term)
		b = binary.AppendUvarint(b, r.LastLogIndex)
		b = binary.AppendUvarint(b, r.LastLogTerm)
		b = appendBool(b, r.LeadershipTransfer)
	case *raft.RequestPreVoteRequest:
		b = append(b, byte(rpcRequestPreVote))
		b = appendRPCHeader(b, &r.RPCHeader)
		b = binary.AppendUvarint(b, r.Term)
		b = binary.AppendUvarint(b, r.LastLogIndex)
		b = binary.AppendUvarint(b, r.LastLogTerm)
	case *raft.TimeoutNowRequest:
		b = append(b, byte(rpcTimeoutNow))
		b = appendRPCHeader(b, &r.RPCHeader)
	case *raft.InstallSnapshotRequest:
		b = append(b, byte(rpcInstallSnapshot))
		b = appendRPCHeader(b, &r.RPCHeader)
		b = binary.AppendVarint(b, int64(r.SnapshotVersion))
		b = binary.AppendUvarint(b, r.Term)
		b = appendBytes(b, r.Leader)
		b = binary.AppendUvarint(b, r.LastLogIndex)
		b = binary.AppendUvarint(b, r.LastLogTerm)
		b = appendBytes(b, r.Peers)
		b = appendBytes(b, r.Configuration)
		b = binary.AppendUvarint(b, r.ConfigurationIndex)
		b = appendBytes(b, data)
	default:
		return nil, fmt.Errorf("mesh: no encoding for a %T", command)
	}
	return b, nil
}

// decodeRequest reads an RPC. Everything it yields aliases the payload.
func decodeRequest(payload []byte) (command any, data []byte, err error) {
	d := decoder{b: payload}
	switch t := rpcType(d.u8("RPC type")); t {
	case rpcAppendEntries:
		command = d.appendEntries()
	case rpcRequestVote:
		command = &raft.RequestVoteRequest{
			RPCHeader: d.rpcHeader(), Term: d.uvarint("term"),
			LastLogIndex: d.uvarint("last index"), LastLogTerm: d.uvarint("last term"), LeadershipTransfer: d.boolean("transfer"),
		}
	case rpcRequestPreVote:
		command = &raft.RequestPreVoteRequest{
			RPCHeader: d.rpcHeader(), Term: d.uvarint("term"),
			LastLogIndex: d.uvarint("last index"), LastLogTerm: d.uvarint("last term"),
		}
	case rpcTimeoutNow:
		command = &raft.TimeoutNowRequest{RPCHeader: d.rpcHeader()}
	case rpcInstallSnapshot:
		command, data = d.installSnapshot()
	default:
		d.fail("%s", t)
	}
	if err := d.finish(); err != nil {
		return nil, nil, err
	}
	return command, data, nil
}

func (d *decoder) appendEntries() *raft.AppendEntriesRequest {
	r := &raft.AppendEntriesRequest{
		RPCHeader: d.rpcHeader(), Term: d.uvarint("term"),
		PrevLogEntry: d.uvarint("previous index"), PrevLogTerm: d.uvarint("previous term"),
		LeaderCommitIndex: d.uvarint("commit index"),
	}
	n := d.uvarint("number of entries")
	if d.err != nil || n == 0 {
		return r
	}
	if n > maxEntries || n > uint64(len(d.b)/minEntryBytes) {
		d.fail("%d entries in %d bytes", n, len(d.b))
		return r
	}
	entries := make([]raft.Log, n)
	r.Entries = make([]*raft.Log, n)
	for i := range entries {
		d.entry(&entries[i])
		r.Entries[i] = &entries[i]
	}
	return r
}

func (d *decoder) installSnapshot() (*raft.InstallSnapshotRequest, []byte) {
	r := &raft.InstallSnapshotRequest{RPCHeader: d.rpcHeader()}
	r.SnapshotVersion = raft.SnapshotVersion(d.varint("snapshot version"))
	r.Term = d.uvarint("term")
	r.Leader = d.bytes("leader", maxServerBytes)
	r.LastLogIndex, r.LastLogTerm = d.uvarint("last index"), d.uvarint("last term")
	r.Peers = d.bytes("peers", maxPeersBytes)
	r.Configuration = d.bytes("configuration", maxPeersBytes)
	r.ConfigurationIndex = d.uvarint("configuration index")
	data := d.bytes("snapshot", maxSnapshotBytes)
	r.Size = int64(len(data))
	return r, data
}

// appendResponse appends the answer to an RPC to b.
func appendResponse(b []byte, response any) ([]byte, error) {
	switch r := response.(type) {
	case *raft.AppendEntriesResponse:
		b = append(b, byte(rpcAppendEntries))
		b = appendRPCHeader(b, &r.RPCHeader)
		b = binary.AppendUvarint(b, r.Term)
		b = binary.AppendUvarint(b, r.LastLog)
		b = appendBool(b, r.Success)
		b = appendBool(b, r.NoRetryBackoff)
	case *raft.RequestVoteResponse:
		b = append(b, byte(rpcRequestVote))
		b = appendRPCHeader(b, &r.RPCHeader)
		b = binary.AppendUvarint(b, r.Term)
		b = appendBytes(b, r.Peers)
		b = appendBool(b, r.Granted)
	case *raft.RequestPreVoteResponse:
		b = append(b, byte(rpcRequestPreVote))
		b = appendRPCHeader(b, &r.RPCHeader)
		b = binary.AppendUvarint(b, r.Term)
		b = appendBool(b, r.Granted)
	case *raft.TimeoutNowResponse:
		b = append(b, byte(rpcTimeoutNow))
		b = appendRPCHeader(b, &r.RPCHeader)
	case *raft.InstallSnapshotResponse:
		b = append(b, byte(rpcInstallSnapshot))
		b = appendRPCHeader(b, &r.RPCHeader)
		b = binary.AppendUvarint(b, r.Term)
		b = appendBool(b, r.Success)
	default:
		return nil, fmt.Errorf("mesh: no encoding for a %T", response)
	}
	return b, nil
}

// decodeResponse reads the answer to an RPC into response, whose type says
// which RPC it was.
func decodeResponse(payload []byte, response any) error {
	d := decoder{b: payload}
	t := rpcType(d.u8("RPC type"))
	var want rpcType
	switch r := response.(type) {
	case *raft.AppendEntriesResponse:
		want = rpcAppendEntries
		*r = raft.AppendEntriesResponse{
			RPCHeader: d.rpcHeader(), Term: d.uvarint("term"), LastLog: d.uvarint("last index"),
			Success: d.boolean("success"), NoRetryBackoff: d.boolean("no backoff"),
		}
	case *raft.RequestVoteResponse:
		want = rpcRequestVote
		*r = raft.RequestVoteResponse{RPCHeader: d.rpcHeader(), Term: d.uvarint("term"), Peers: d.bytes("peers", maxPeersBytes), Granted: d.boolean("granted")}
	case *raft.RequestPreVoteResponse:
		want = rpcRequestPreVote
		*r = raft.RequestPreVoteResponse{RPCHeader: d.rpcHeader(), Term: d.uvarint("term"), Granted: d.boolean("granted")}
	case *raft.TimeoutNowResponse:
		want = rpcTimeoutNow
		*r = raft.TimeoutNowResponse{RPCHeader: d.rpcHeader()}
	case *raft.InstallSnapshotResponse:
		want = rpcInstallSnapshot
		*r = raft.InstallSnapshotResponse{RPCHeader: d.rpcHeader(), Term: d.uvarint("term"), Success: d.boolean("success")}
	default:
		return fmt.Errorf("mesh: no encoding for a %T", response)
	}
	if t != want {
		d.fail("%s answered with %s", want, t)
	}
	return d.finish()
}
