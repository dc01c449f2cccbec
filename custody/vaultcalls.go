package custody

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"time"

	"github.com/visage-face/visage/keysource"
)

// maxCalls is how many calls to vaults are under way at once, so that a start with very many keys is no storm. It is so
// large that vaults that take their whole time do not hold up the questions to others: with 5 s an answer, this many
// calls at once ask 5,000 keys within a poll's time.
const maxCalls = 1024

// callTime is how long a call to a vault may take: more than a source takes for itself, which is 5 s.
const callTimeout = 7 * time.Second

// calls lets maxCalls calls to vaults be under way: it holds one token a call.
type vaultCalls chan struct{}

// do makes a call to a vault when there is room for it, within callTime.
func (c vaultCalls) do(ctx context.Context, call func(context.Context) error) error {
	select {
	case c <- struct{}{}:
		defer func() { <-c }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return call(ctx)
}

// bounded makes every call of a source one of those under way, within callTime. A router bounds its own.
type boundedSource struct {
	calls vaultCalls
	src   keysource.Source
}

// Wrap implements keysource.Source.
func (s boundedSource) Wrap(ctx context.Context, inner []byte) (blob []byte, ref keysource.Ref, err error) {
	err = s.calls.do(ctx, func(ctx context.Context) error {
		blob, ref, err = s.src.Wrap(ctx, inner)
		return err
	})
	return blob, ref, err
}

// Unwrap implements keysource.Source.
func (s boundedSource) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) (inner []byte, err error) {
	err = s.calls.do(ctx, func(ctx context.Context) error {
		inner, err = s.src.Unwrap(ctx, ref, blob)
		return err
	})
	return inner, err
}

// Describe implements keysource.Source.
func (s boundedSource) Describe(ctx context.Context, ref keysource.Ref) (d keysource.Description, err error) {
	err = s.calls.do(ctx, func(ctx context.Context) error {
		d, err = s.src.Describe(ctx, ref)
		return err
	})
	return d, err
}

// pause waits, and reports false when ctx has ended.
func waitFor(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// roundTrip wraps a random secret and unwraps it again; verb is what failed.
func roundTrip(ctx context.Context, src keysource.Source) (verb string, err error) {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails: the runtime ends the process instead
	blob, ref, err := src.Wrap(ctx, secret)
	if err != nil {
		return "wrapKey", err
	}
	back, err := src.Unwrap(ctx, ref, blob)
	if err == nil && subtle.ConstantTimeCompare(back, secret) != 1 {
		err = fmt.Errorf("what was wrapped unwraps to something else: %w", keysource.ErrWrong)
	}
	return "unwrapKey", err
}
