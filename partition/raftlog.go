package partition

import (
	"bytes"
	"context"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLogger passes Raft's own lines on at debug level: what an operator must know, the partition says itself.
func raftLogger(l *slog.Logger, partition uint32) hclog.Logger {
	if !l.Enabled(context.Background(), slog.LevelDebug) {
		return hclog.NewNullLogger()
	}
	return hclog.New(&hclog.LoggerOptions{Name: "raft", Level: hclog.Debug, DisableTime: true, Output: slogWriter{l, partition}})
}

type slogWriter struct {
	logger    *slog.Logger
	partition uint32
}

func (w slogWriter) Write(b []byte) (int, error) {
	w.logger.Debug(string(bytes.TrimSpace(b)), "partition", w.partition)
	return len(b), nil
}
