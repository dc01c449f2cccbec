package postgres

import (
	"context"
	"sync/atomic"
)

// longShare is which part of the snapshots may last for seconds: all of them need connections for as long, and the rest
// is left to those that end soon.
const longShare = 3

// longViews is the places of snapshots that last. Loads and scans, for which requests wait, may take all of them.
// Maintenance lasts for as long as its reader takes, which may be hours: it leaves one place to loads and scans.
type longViews struct {
	all         chan struct{} // filled by every snapshot that lasts
	maintenance chan struct{} // filled by those of maintenance, before they wait for one of all
	waiting     atomic.Int64
}

// minLongViews is one place for maintenance, and one that it cannot take.
const minLongViews = 2

func newLongViews(views int) longViews {
	n := max(minLongViews, views/longShare)
	return longViews{all: make(chan struct{}, n), maintenance: make(chan struct{}, n-1)}
}

// LongView waits for the place of a snapshot that lasts for seconds, as the load of a gallery does. It waits for the
// engine's patience; then its error is an *OutageError. The caller calls leave when the snapshot has ended.
func (e *Engine) LongView(ctx context.Context) (leave func(), err error) {
	err = e.long.take(e.long.all, func() error { return e.slot(ctx, e.long.all, errBusyLong) })
	if err != nil {
		return nil, err
	}
	return func() { <-e.long.all }, nil
}

// MaintenanceView waits for the place of a snapshot that may last for hours: a backup, an export of the keyring or a
// verification. It waits for as long as ctx lasts, since those before it may take as long. The caller calls leave when
// the snapshot has ended.
func (e *Engine) MaintenanceView(ctx context.Context) (leave func(), err error) {
	unbounded := func(of chan struct{}) error {
		return e.long.take(of, func() error {
			select {
			case of <- struct{}{}:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	}
	if err := unbounded(e.long.maintenance); err != nil {
		return nil, err
	}
	if err := unbounded(e.long.all); err != nil {
		<-e.long.maintenance
		return nil, err
	}
	return func() {
		<-e.long.all
		<-e.long.maintenance
	}, nil
}

// take takes a place if one is free; otherwise wait waits for one, and is counted meanwhile.
func (l *longViews) take(of chan struct{}, wait func() error) error {
	select {
	case of <- struct{}{}:
		return nil
	default:
	}
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	return wait()
}
