package rowkey

import (
	"context"
	"errors"
	"iter"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
)

// Placed wraps an engine: damage that the engine reports becomes a *CorruptError with the row's place, as a row has
// whose tag does not verify.
func Placed(eng engine.Engine, report event.Report) engine.Engine { return placed{eng, report} }

type placed struct {
	engine.Engine
	report event.Report
}

// View implements engine.Engine.
func (e placed) View(ctx context.Context, fn func(engine.Reader) error) error {
	return e.Engine.View(ctx, func(r engine.Reader) error { return fn(placedReader{r, e.report}) })
}

// Read implements engine.Engine.
func (e placed) Read(ctx context.Context, fn func(engine.Reader) error) error {
	return e.Engine.Read(ctx, func(r engine.Reader) error { return fn(placedReader{r, e.report}) })
}

// Update implements engine.Engine.
func (e placed) Update(ctx context.Context, fn func(engine.Writer) error) error {
	return e.Engine.Update(ctx, func(w engine.Writer) error { return fn(placedWriter{placedReader{w, e.report}, w}) })
}

// Commit implements engine.Engine.
func (e placed) Commit(
	ctx context.Context, scope format.ID, fn func(engine.Writer) error,
) (wait func() error, err error) {
	return e.Engine.Commit(ctx, scope,
		func(w engine.Writer) error { return fn(placedWriter{placedReader{w, e.report}, w}) })
}

type placedReader struct {
	r      engine.Reader
	report event.Report
}

func (p placedReader) Get(key []byte) ([]byte, bool, error) {
	value, ok, err := p.r.Get(key)
	if err != nil {
		err = p.place(key, true, err)
	}
	return value, ok, err
}

// Within returns what it reads from.
func (p placedReader) Within() engine.Reader { return p.r }

func (p placedReader) Scan(from, to []byte) iter.Seq2[engine.Row, error] {
	return func(yield func(engine.Row, error) bool) {
		for row, err := range p.r.Scan(from, to) {
			if err != nil {
				err = p.place(from, false, err)
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

// place adds the place that key names to damage. A scan that began at key met it in a row it cannot name: the container
// has to do.
func (p placedReader) place(key []byte, exact bool, err error) error {
	if !errors.Is(err, engine.ErrDamaged) {
		return err
	}
	if of, ok := errors.AsType[*engine.RowError](err); ok {
		key, exact = of.Key, true
	}
	e := &event.CorruptError{What: "row", Err: err}
	if len(key) >= 16 {
		e.Space = format.SpaceID(key[:16])
	}
	if len(key) >= 33 {
		e.Container = format.ID(key[17:33]).String()
	}
	if exact && len(key) == Size {
		e.Record = format.ID(key[33:49]).String()
	}
	return p.report.Corrupt(e)
}

// placedWriter is a placedReader that writes.
type placedWriter struct {
	placedReader
	w engine.Writer
}

func (p placedWriter) Put(key []byte, value format.Sealed) error { return p.w.Put(key, value) }
func (p placedWriter) Delete(key []byte) error                   { return p.w.Delete(key) }
