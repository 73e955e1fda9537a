package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reparto/internal/dispatch"
	"reparto/internal/task"
)

// Store measures how long another store takes.
func (m *Metrics) Store(s dispatch.Store) dispatch.Store {
	return &timedStore{s, m.store.WithLabelValues("load"), m.store.WithLabelValues("write"), m.store.WithLabelValues("get"), m.store.WithLabelValues("list")}
}

type timedStore struct {
	dispatch.Store
	load, write, get, list prometheus.Observer
}

func since(start time.Time, in prometheus.Observer) { in.Observe(time.Since(start).Seconds()) }

// Load and those below implement dispatch.Store.
func (s *timedStore) Load(ctx context.Context, each func(*task.Record) error) ([]string, error) {
	defer since(time.Now(), s.load)
	return s.Store.Load(ctx, each)
}

func (s *timedStore) Write(changes []task.Change) error {
	defer since(time.Now(), s.write)
	return s.Store.Write(changes)
}

func (s *timedStore) Get(ctx context.Context, id string) (*task.Record, error) {
	defer since(time.Now(), s.get)
	return s.Store.Get(ctx, id)
}

func (s *timedStore) List(ctx context.Context, q task.Query) ([]task.Record, string, error) {
	defer since(time.Now(), s.list)
	return s.Store.List(ctx, q)
}
