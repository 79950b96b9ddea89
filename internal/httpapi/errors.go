package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/store"
)

// Kind names an error in JSON. Kinds are for programs, as codes are; texts may change.
type Kind string

// The kinds. The first group stands for the typed errors of package adamant.
const (
	KindExists      Kind = "exists"
	KindSeqMismatch Kind = "seqMismatch"
	KindNotFound    Kind = "notFound"
	KindFuture      Kind = "future"
	KindHorizon     Kind = "horizon"
	KindHistory     Kind = "history"
	KindKey         Kind = "key"
	KindTooLarge    Kind = "tooLarge"
	KindInvalid     Kind = "invalid"
	KindNotJSON     Kind = "notJSON"
	KindNotLeader   Kind = "notLeader"
	KindAmbiguous   Kind = "ambiguous"
	KindUnavailable Kind = "unavailable"
	KindSafeMode    Kind = "safeMode"
	KindEpoch       Kind = "epoch"
	KindClosed      Kind = "closed"
	KindCorruption  Kind = "corruption"

	KindBadRequest Kind = "badRequest" // the HTTP request itself: route, method, body, parameters
	KindForbidden  Kind = "forbidden"  // refused because of where it seems to come from
	KindBusy       Kind = "busy"       // too many requests at work; nothing was done
	KindTimeout    Kind = "timeout"    // the deadline passed before anything was proposed, or in a read
	KindInternal   Kind = "internal"
)

// Error is the JSON form of every failure: the body of an answer, or the last line of a stream that broke off.
type Error struct {
	Code    int      `json:"code"` // adamant.Code; 0 when it has none
	Kind    Kind     `json:"kind"`
	Message string   `json:"error"`
	Details *Details `json:"details,omitempty"`

	status int
}

// Details are the fields of the typed errors; only those of the error's kind are present.
type Details struct {
	Document  string  `json:"document,omitempty"` // "space/key"
	Head      *int64  `json:"head,omitempty"`
	Seq       *int64  `json:"seq,omitempty"`
	Horizon   *int64  `json:"horizon,omitempty"`
	Operation string  `json:"operation,omitempty"` // "compact", "headpatch" or "rewind"
	History   *int    `json:"history,omitempty"`
	Partition *uint32 `json:"partition,omitempty"`
	Leader    string  `json:"leader,omitempty"` // host name
	Addr      string  `json:"addr,omitempty"`   // of the leader's links to other hosts, not of its HTTP endpoint
	HTTP      string  `json:"http,omitempty"`   // of the leader's HTTP endpoint, if the cluster file says
	Epoch     uint64  `json:"epoch,omitempty"`
	What      string  `json:"what,omitempty"`
	Size      int64   `json:"size,omitempty"`
	Limit     int64   `json:"limit,omitempty"`
	Reason    string  `json:"reason,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// badRequest is a failure of the HTTP request itself.
func badRequest(status int, format string, args ...any) *Error {
	return &Error{Kind: KindBadRequest, Message: fmt.Sprintf(format, args...), status: status}
}

// fromError gives an error its JSON form and its status.
func fromError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	e = &Error{Code: adamant.Code(err), Message: err.Error(), Details: &Details{}}
	if !fromDocument(e, err) && !fromHost(e, err) {
		e.Details = nil
		e.Kind, e.status = KindInternal, http.StatusInternalServerError
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			e.Kind, e.status = KindTimeout, http.StatusServiceUnavailable
		case errors.Is(err, context.Canceled): // by the client, who is gone, or by the shutdown
			e.Kind, e.status = KindTimeout, http.StatusServiceUnavailable
		}
	}
	return e
}

// fromDocument handles the errors about one document.
func fromDocument(e *Error, err error) bool {
	set := func(kind Kind, status int, key adamant.Key) *Details {
		e.Kind, e.status = kind, status
		e.Details.Document = key.String()
		return e.Details
	}
	var (
		exists   *adamant.ExistsError
		mismatch *adamant.SeqMismatchError
		missing  *adamant.NotFoundError
		future   *adamant.FutureError
		horizon  *adamant.HorizonError
		history  *adamant.HistoryError
		key      *adamant.KeyError
		large    *adamant.TooLargeError
		invalid  *adamant.InvalidError
		notJSON  *adamant.NotJSONError
	)
	switch {
	case errors.As(err, &exists):
		set(KindExists, http.StatusConflict, exists.Key)
	case errors.As(err, &mismatch):
		set(KindSeqMismatch, http.StatusConflict, mismatch.Key).Head = &mismatch.Head
	case errors.As(err, &missing):
		set(KindNotFound, http.StatusNotFound, missing.Key)
	case errors.As(err, &future):
		d := set(KindFuture, http.StatusUnprocessableEntity, future.Key)
		d.Operation, d.Seq, d.Head = string(future.Op), &future.Seq, &future.Head
	case errors.As(err, &horizon):
		d := set(KindHorizon, http.StatusGone, horizon.Key)
		d.Operation, d.Seq, d.Horizon = string(horizon.Op), &horizon.Seq, &horizon.Horizon
	case errors.As(err, &history):
		set(KindHistory, http.StatusUnprocessableEntity, history.Key).History = &history.History
	case errors.As(err, &key):
		set(KindKey, http.StatusBadRequest, key.Key).Reason = key.Reason
		e.Details.Document = clip(e.Details.Document)
	case errors.As(err, &large):
		d := set(KindTooLarge, http.StatusRequestEntityTooLarge, large.Key)
		d.What, d.Size, d.Limit = large.What, large.Size, large.Limit
	case errors.As(err, &invalid):
		set(KindInvalid, http.StatusBadRequest, invalid.Key).Reason = invalid.Reason
	case errors.As(err, &notJSON):
		set(KindNotJSON, http.StatusUnprocessableEntity, notJSON.Key).Seq = &notJSON.Seq
	default:
		return false
	}
	return true
}

// fromHost handles the errors about this host or a partition of it.
func fromHost(e *Error, err error) bool {
	d := e.Details
	var (
		elsewhere   *adamant.NotLeaderError
		ambiguous   *adamant.AmbiguousError
		unavailable *adamant.UnavailableError
		safeMode    *adamant.SafeModeError
		epoch       *adamant.EpochError
		closed      *adamant.ClosedError
		corruption  *adamant.CorruptionError
	)
	switch {
	case errors.As(err, &elsewhere):
		e.Kind, e.status = KindNotLeader, http.StatusMisdirectedRequest
		d.Partition, d.Leader, d.Addr, d.HTTP, d.Epoch = &elsewhere.Partition, elsewhere.Leader, elsewhere.Addr, elsewhere.HTTP, elsewhere.Epoch
	case errors.As(err, &ambiguous):
		e.Kind, e.status = KindAmbiguous, http.StatusGatewayTimeout
		d.Partition, d.Document, d.Reason = &ambiguous.Partition, ambiguous.Key.String(), ambiguous.Reason
	case errors.As(err, &unavailable):
		e.Kind, e.status = KindUnavailable, http.StatusServiceUnavailable
		d.Partition, d.Reason = &unavailable.Partition, unavailable.Reason
	case errors.As(err, &safeMode):
		e.Kind, e.status = KindSafeMode, http.StatusServiceUnavailable
		d.Partition, d.Reason = &safeMode.Partition, safeMode.Reason
	case errors.As(err, &epoch):
		e.Kind, e.status = KindEpoch, http.StatusConflict
		d.Partition, d.Epoch = &epoch.Partition, epoch.Epoch
	case errors.As(err, &closed):
		e.Kind, e.status = KindClosed, http.StatusServiceUnavailable
	case errors.As(err, &corruption):
		e.Kind, e.status = KindCorruption, http.StatusInternalServerError
		d.Partition = &corruption.Partition
	default:
		return false
	}
	return true
}

// Typed returns the error of package adamant that e stands for, or e itself. A detail that is missing is zero.
func (e *Error) Typed() error {
	d := e.Details
	if d == nil {
		d = &Details{}
	}
	key, _ := store.ParseKey(d.Document)
	switch e.Kind {
	case KindExists:
		return &adamant.ExistsError{Key: key}
	case KindSeqMismatch:
		return &adamant.SeqMismatchError{Key: key, Head: value(d.Head)}
	case KindNotFound:
		return &adamant.NotFoundError{Key: key}
	case KindFuture:
		return &adamant.FutureError{Key: key, Op: store.Op(d.Operation), Seq: value(d.Seq), Head: value(d.Head)}
	case KindHorizon:
		return &adamant.HorizonError{Key: key, Op: store.Op(d.Operation), Seq: value(d.Seq), Horizon: value(d.Horizon)}
	case KindHistory:
		return &adamant.HistoryError{Key: key, History: value(d.History)}
	case KindTooLarge:
		return &adamant.TooLargeError{Key: key, What: d.What, Size: d.Size, Limit: d.Limit}
	case KindInvalid:
		return &adamant.InvalidError{Key: key, Reason: d.Reason}
	case KindNotLeader:
		return &adamant.NotLeaderError{Partition: value(d.Partition), Leader: d.Leader, Addr: d.Addr, HTTP: d.HTTP, Epoch: d.Epoch}
	case KindAmbiguous:
		return &adamant.AmbiguousError{Partition: value(d.Partition), Key: key, Reason: d.Reason}
	case KindUnavailable:
		return &adamant.UnavailableError{Partition: value(d.Partition), Reason: d.Reason}
	case KindSafeMode:
		return &adamant.SafeModeError{Partition: value(d.Partition), Reason: d.Reason}
	case KindEpoch:
		return &adamant.EpochError{Partition: value(d.Partition), Epoch: d.Epoch}
	}
	return e
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
