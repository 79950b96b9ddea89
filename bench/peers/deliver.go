package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
)

// deliver measures, and hands over what came of it, which may come along with an error. The file is made before the run,
// whose end it would spoil otherwise, and does not stay without a result.
func deliver[R any](d delivery, out io.Writer, table func(io.Writer, *R) error, measure func() (*R, error)) error {
	var file *os.File
	if d.out != "" {
		var err error
		if file, err = os.OpenFile(d.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
			return usageError{err}
		}
	}
	r, err := measure()
	if r == nil {
		if file != nil {
			err = errors.Join(err, file.Close(), os.Remove(d.out))
		}
		return err
	}
	text, failed := json.MarshalIndent(r, "", "  ")
	if failed != nil {
		return errors.Join(err, failed)
	}
	text = append(text, '\n')
	if file != nil {
		_, failed := file.Write(text)
		err = errors.Join(err, failed, file.Close())
	}
	if !d.json {
		return errors.Join(err, table(out, r))
	}
	_, failed = out.Write(text)
	return errors.Join(err, failed)
}
