package commit

import (
	"context"
	"errors"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
)

// held is a transaction of the engine that a goroutine of its own holds open, while those who have the floor read and
// write in it. Where processes share the engine, a group has one from its beginning on: what its members read is then
// what their commit follows.
type held struct {
	writer  chan engine.Writer
	outcome chan error
	result  chan transactionResult
	stop    context.CancelFunc
	now     engine.Writer
}

type transactionResult struct {
	wait func() error
	err  error
}

// Why a transaction of the engine is not committed.
var (
	errAbandoned = errors.New("the transaction was given up")
	errAgain     = errors.New("the engine begins the transaction anew")
)

// hold begins a transaction, or returns why it did not begin before ctx ended.
func hold(ctx context.Context, e engine.Engine, scope format.ID) (*held, error) {
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	h := &held{writer: make(chan engine.Writer), outcome: make(chan error, 1), result: make(chan transactionResult, 1),
		stop: stop}
	go func() {
		begun := false
		wait, err := e.Commit(life, scope, func(w engine.Writer) error {
			if begun { // the members have gone: each has to see what there is now
				return errAgain
			}
			select {
			case h.writer <- w:
			case <-life.Done():
				return context.Cause(life)
			}
			begun = true
			return <-h.outcome
		})
		h.result <- transactionResult{wait, err}
	}()
	select {
	case h.now = <-h.writer:
		return h, nil
	case r := <-h.result:
		stop()
		return nil, r.err
	case <-ctx.Done():
		stop()
		return nil, context.Cause(ctx)
	}
}

// end commits the transaction if outcome is nil, and returns what came of it.
func (h *held) end(outcome error) (wait func() error, err error) {
	h.outcome <- outcome
	r := <-h.result
	h.stop()
	return r.wait, r.err
}
