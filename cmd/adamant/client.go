package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/adamantdb/adamant"
	"github.com/adamantdb/adamant/internal/httpapi"
)

// defaultHTTP is where serve listens and the other commands ask, unless told otherwise.
const defaultHTTP = "127.0.0.1:7480"

// clientFlags say which hosts to ask, and how.
type clientFlags struct {
	addrs   []string
	tls     httpapi.ClientTLS
	timeout time.Duration
}

func (c *clientFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&c.addrs, "http", []string{defaultHTTP}, "HTTP address of a running host, or unix:PATH; of several, the leader is found among them")
	f.StringVar(&c.tls.CA, "tls-ca", "", "authority of the hosts' HTTP certificates")
	f.StringVar(&c.tls.Cert, "tls-cert", "", "certificate to identify with")
	f.StringVar(&c.tls.Key, "tls-key", "", "its key")
	f.DurationVar(&c.timeout, "timeout", 10*time.Second, "give up after this time")
}

// connect returns a client and a context with the deadline.
func (c *clientFlags) connect(cmd *cobra.Command) (*httpapi.Client, context.Context, context.CancelFunc, error) {
	var files *httpapi.ClientTLS
	if c.tls != (httpapi.ClientTLS{}) {
		files = &c.tls
	}
	client, err := httpapi.NewClient(c.addrs, files)
	if err != nil {
		return nil, nil, nil, usageError{err}
	}
	client.Patience = c.timeout / 2 // the rest is for the answer
	ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
	return client, ctx, cancel, nil
}

// asking builds a command that asks a running host.
func asking(cmd *cobra.Command, do func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, args []string) error) *cobra.Command {
	var flags clientFlags
	return askingWith(&flags, cmd, do)
}

// askingWith is asking for a command that looks at the flags itself.
func askingWith(flags *clientFlags, cmd *cobra.Command, do func(ctx context.Context, c *httpapi.Client, cmd *cobra.Command, args []string) error) *cobra.Command {
	flags.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, ctx, cancel, err := flags.connect(cmd)
		if err != nil {
			return err
		}
		defer cancel()
		return do(ctx, client, cmd, args)
	}
	return cmd
}

// keyOf reads the argument SPACE/KEY.
func keyOf(text string) (adamant.Key, error) {
	key, err := adamant.ParseKey(text)
	if err != nil {
		return key, usageError{err}
	}
	return key, nil
}

// maxInput bounds what is read from a file or the input.
const maxInput = 256 << 20

// inputOf reads a file, or the command's input for "-".
func inputOf(cmd *cobra.Command, path string) ([]byte, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err == nil && len(data) > maxInput {
		err = fmt.Errorf("%s has more than %d bytes", path, maxInput)
	}
	return data, err
}
