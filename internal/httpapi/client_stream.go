package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"

	"github.com/adamantdb/adamant"
)

// stream reads an answer of many lines.
func stream[T any](ctx context.Context, c *Client, path string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		var resp *http.Response
		err := c.patiently(ctx, func() (err error) { resp, err = c.open(ctx, path); return err })
		if err != nil {
			yield(zero, err)
			return
		}
		defer resp.Body.Close()
		r := bufio.NewReaderSize(resp.Body, 64<<10)
		for {
			line, err := readLine(r)
			if errors.Is(err, io.EOF) && len(line) == 0 {
				return
			}
			var v T
			if err == nil {
				v, err = decodeLine[T](line)
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// open starts a stream, at the leader if the first endpoint names one that is among the endpoints.
func (c *Client) open(ctx context.Context, path string) (*http.Response, error) {
	var resp *http.Response
	var err error
	for _, e := range c.endpoints {
		resp, err = e.send(ctx, http.MethodGet, path, nil)
		var gone *UnreachableError
		if !errors.As(err, &gone) {
			break
		}
	}
	var elsewhere *adamant.NotLeaderError
	if errors.As(err, &elsewhere) && elsewhere.Leader != "" {
		if e := c.leader(ctx, elsewhere); e != nil {
			return e.send(ctx, http.MethodGet, path, nil)
		}
	}
	return resp, err
}

// readLine returns one line with its line feed. A stream that breaks off inside of a line is an error.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && len(line) < maxAnswer:
			continue
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		}
		return line, err
	}
}

// decodeLine decodes a line of a stream. A failure is the only object with the key "error".
func decodeLine[T any](line []byte) (T, error) {
	var v T
	var failed struct {
		Error *string `json:"error"`
	}
	var failure Error
	if json.Unmarshal(line, &failed) == nil && failed.Error != nil && json.Unmarshal(line, &failure) == nil {
		return v, failure.Typed()
	}
	err := json.Unmarshal(line, &v)
	return v, err
}
