package custody

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
)

// maxCalls limits how many calls to vaults are under way at once, so that a start with very many keys does not overload
// them. It is large enough that slow vaults do not delay the polls of others: with 5 s for each answer, 5,000 keys are
// asked within one poll interval.
const maxCalls = 1024

// callTimeout limits a call to a vault. It is longer than the 5 s after which a source gives up by itself.
const callTimeout = 7 * time.Second

// vaultCalls is a semaphore of maxCalls tokens, one for each call under way.
type vaultCalls chan struct{}

// do waits for a token and makes a call to a vault, which ends after callTimeout.
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

// opener opens a key as one principal. See Config.Open.
type opener = func(context.Context, visage.KeyRef, visage.PrincipalID) (keysource.Source, error)

// bound returns an opener whose sources make every call through vaultCalls.
func (c vaultCalls) bound(open opener) opener {
	return func(ctx context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
		src, err := open(ctx, key, as)
		if err != nil {
			return nil, err
		}
		return boundedSource{c, src}, nil
	}
}

// boundedSource makes every call of a source through vaultCalls.
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

// Unwrap implements keysource.Source. A key that has expired still unwraps, so one that does not because it has expired
// refuses.
func (s boundedSource) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) (inner []byte, err error) {
	err = s.calls.do(ctx, func(ctx context.Context) error {
		inner, err = s.src.Unwrap(ctx, ref, blob)
		return err
	})
	if errors.Is(err, keysource.ErrExpired) {
		err = &keysource.Error{Class: keysource.ErrDenied, Reason: keysource.Expired, Text: err.Error()}
	}
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

// waitFor waits, and reports false if ctx has ended first.
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

// about returns a context for calls that try whether a key can protect a resource, with the label of its next data key:
// the policy of the key may demand it.
func about(ctx context.Context, sp *space) (context.Context, error) {
	label, err := sp.bundle.NextLabel(ctx)
	return keysource.WithLabel(ctx, label), err
}

// roundTrip wraps a random secret and unwraps it again. verb is the operation that failed.
func roundTrip(ctx context.Context, src keysource.Source) (verb string, err error) {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails: the runtime ends the process instead
	blob, ref, err := src.Wrap(ctx, secret)
	if err != nil {
		return "wrapKey", err
	}
	back, err := src.Unwrap(ctx, ref, blob)
	if err == nil && subtle.ConstantTimeCompare(back, secret) != 1 {
		err = fmt.Errorf("the wrapped secret unwraps to another value: %w", keysource.ErrWrong)
	}
	return "unwrapKey", err
}
