package audit

import "context"

// Streams is where the tests put a log whose streams they can get at.
type Streams struct{ Entries, Checkpoints stream }

// OpenOn is Open on the streams of a test.
func OpenOn(ctx context.Context, cfg Config, s Streams) (*Log, error) {
	return openOn(ctx, cfg, s.Entries, s.Checkpoints)
}

// ReadOn is Read on the streams of a test.
func ReadOn(cfg Config, s Streams) *History { return newHistory(cfg.Store, s.Entries, s.Checkpoints) }

// Sign is the tick of Run.
func (l *Log) Sign(ctx context.Context) error { return l.work(ctx, true) }

// Details returns every detail there is.
func Details() []Detail { return details }
