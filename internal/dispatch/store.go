package dispatch

import (
	"context"

	"reparto/internal/task"
)

// Store remembers durable tasks. Its methods may be called concurrently, but for
// Write, which one goroutine calls. What they are given belongs to the caller
// again once they return; what they return is the caller's.
type Store interface {
	// Load hands over every task without a final state, payloads and metadata
	// left out, in any order, and returns the functions that are paused. It is
	// called once, before anything else.
	Load(ctx context.Context, each func(*task.Record) error) (paused []string, err error)

	// Write returns once all changes are on disk, or with an error: then each may
	// be there or not, and the same tasks will be in a later Write. Later changes
	// of a task win. A Write of nothing tells whether writing works.
	Write(changes []task.Change) error

	// Get returns a task with its payload, or nil when there is none.
	Get(ctx context.Context, id string) (*task.Record, error)

	// List returns a page of records without payloads, metadata, results and
	// attempts, in the descending order of their ids; next continues it as
	// Query.Before, and is empty when nothing is left. A page may be short, or
	// empty, and yet have a next: a store need not look further than it can in a
	// moment.
	List(ctx context.Context, q task.Query) (page []task.Record, next string, err error)
}
