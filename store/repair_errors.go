package store

import "fmt"

// This file's numbers continue those of errors.go.
const (
	CodeBadQuery    = 662111
	CodeBadChunk    = 662112
	CodeStaleRepair = 662113
)

// QueryError: a repair query that makes no sense to this member. The asker is at fault.
type QueryError struct {
	Partition uint32
	Bucket    uint8
	Reason    string
}

func (e *QueryError) Error() string {
	return fmt.Sprintf("repair query to partition %d, bucket %d: %s", e.Partition, e.Bucket, e.Reason)
}

// Code returns CodeBadQuery.
func (e *QueryError) Code() int { return CodeBadQuery }

// ChunkError: a chunk was damaged on its way, or its sender contradicts itself. Nothing of it was taken.
type ChunkError struct {
	Bucket uint8
	Key    Key // zero when it concerns no single document
	Reason string
	Err    error // may be nil
}

func (e *ChunkError) Error() string {
	text := fmt.Sprintf("repair chunk for bucket %d", e.Bucket)
	if e.Key != (Key{}) {
		text += ", document " + e.Key.String()
	}
	text += ": " + e.Reason
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *ChunkError) Unwrap() error { return e.Err }

// Code returns CodeBadChunk.
func (e *ChunkError) Code() int { return CodeBadChunk }
