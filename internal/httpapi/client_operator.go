package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/adamantdb/adamant"
)

// Status returns what the first reachable host knows, and the same as it was sent.
func (c *Client) Status(ctx context.Context) (adamant.Status, json.RawMessage, error) {
	var raw json.RawMessage
	var s adamant.Status
	if err := c.call(ctx, http.MethodGet, "/v1/status", nil, &raw); err != nil {
		return s, nil, err
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, nil, fmt.Errorf("status: %w", err)
	}
	return s, raw, nil
}

// Locate asks where a document lives.
func (c *Client) Locate(ctx context.Context, key adamant.Key) (adamant.Location, error) {
	var l adamant.Location
	return l, c.call(ctx, http.MethodGet, withQuery("/v1/routing", "key", key.String()), nil, &l)
}

// Transfer hands the leadership of a partition to another host.
func (c *Client) Transfer(ctx context.Context, partition uint32, host string) error {
	in := struct {
		Host string `json:"host"`
	}{host}
	return c.call(ctx, http.MethodPost, fmt.Sprintf("/v1/partitions/%d/transfer", partition), in, nil)
}

// SetSafeMode puts the host's member of a partition in safe mode, or takes it out when the reason is empty.
func (c *Client) SetSafeMode(ctx context.Context, partition uint32, reason string) error {
	in := struct {
		Reason string `json:"reason"`
	}{reason}
	return c.call(ctx, http.MethodPost, fmt.Sprintf("/v1/partitions/%d/safemode", partition), in, nil)
}

// atMember does one request at the first endpoint whose host is a member of the partition.
func (c *Client) atMember(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = marshal(in); err != nil {
			return err
		}
	}
	var err error
	for _, e := range c.endpoints {
		err = e.call(ctx, method, path, body, out)
		var gone *UnreachableError
		var answer *Error
		none := errors.As(err, &answer) && answer.status == http.StatusNotFound
		if !none && (!errors.As(err, &gone) || gone.Sent) || ctx.Err() != nil {
			break
		}
	}
	return err
}

// SafeMode asks a member of a partition whether, and why, it is in safe mode.
func (c *Client) SafeMode(ctx context.Context, partition uint32) (SafeMode, error) {
	var s SafeMode
	return s, c.atMember(ctx, http.MethodGet, fmt.Sprintf("/v1/partitions/%d/safemode", partition), nil, &s)
}

// ClearSafeMode ends the safe mode of a partition on all its members, and returns those that follow later. keep may be "".
func (c *Client) ClearSafeMode(ctx context.Context, partition uint32, keep string) (waiting []string, err error) {
	in := struct {
		Keep string `json:"keep"`
	}{keep}
	var out clearAnswer
	err = c.atMember(ctx, http.MethodPost, fmt.Sprintf("/v1/partitions/%d/safemode/clear", partition), in, &out)
	return out.Waiting, err
}

// Compare asks how the members of a partition hold a document.
func (c *Client) Compare(ctx context.Context, partition uint32, key adamant.Key) (adamant.Comparison, error) {
	var out adamant.Comparison
	path := withQuery(fmt.Sprintf("/v1/partitions/%d/versions", partition), "key", key.String())
	return out, c.atMember(ctx, http.MethodGet, path, nil, &out)
}

// EndpointStatus is what one endpoint answered.
type EndpointStatus struct {
	Addr   string
	Status adamant.Status
	Err    error
}

// Statuses asks all endpoints, one after the other.
func (c *Client) Statuses(ctx context.Context) []EndpointStatus {
	var list []EndpointStatus
	for _, e := range c.endpoints {
		s := EndpointStatus{Addr: e.addr}
		s.Err = e.call(ctx, http.MethodGet, "/v1/status", nil, &s.Status)
		list = append(list, s)
	}
	return list
}

// Drain has the first reachable host give its leaderships away.
func (c *Client) Drain(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/drain", nil, nil)
}
