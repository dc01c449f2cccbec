package custody_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
)

var errFault = errors.New("injected fault")

// journey is a kind of change, with its preparation.
type journey struct {
	kind   custody.OperationKind
	before func(r *storeAndVaults) visage.KeyRef // leaves custody running, and returns the key in use
	change func(ctx context.Context, r *storeAndVaults) error
}

// journeys are all kinds of change.
var journeys = []journey{
	{custody.Enabling, func(r *storeAndVaults) visage.KeyRef { r.first().add("k1"); return visage.KeyRef{} },
		func(ctx context.Context, r *storeAndVaults) error {
			return r.enable(ctx, visage.KeyRef{Vault: firstVault, Name: "k1"})
		}},
	{custody.Switching, func(r *storeAndVaults) visage.KeyRef { r.second().add("k2"); return r.underFirst() },
		func(ctx context.Context, r *storeAndVaults) error {
			return r.enable(ctx, visage.KeyRef{Vault: secondVault, Name: "k2"})
		}},
	{custody.Updating, func(r *storeAndVaults) visage.KeyRef { key := r.underFirst(); r.first().add("k1"); return key },
		func(ctx context.Context, r *storeAndVaults) error {
			return r.enable(ctx, visage.KeyRef{Vault: firstVault, Name: "k1"})
		}},
	{custody.Disabling, func(r *storeAndVaults) visage.KeyRef { return r.underFirst() },
		func(ctx context.Context, r *storeAndVaults) error {
			_, err := r.custody.Disable(ctx, spaceA)
			return err
		}},
}

func (r *storeAndVaults) enable(ctx context.Context, key visage.KeyRef) error {
	_, err := r.custody.Enable(ctx, spaceA, key, principal)
	return err
}

func (r *storeAndVaults) underFirst() visage.KeyRef {
	key := r.first().add("k1")
	r.enabled(spaceA, key)
	return key
}

// TestFaults makes every step of every change fail once, before and after it runs, and checks each result against the
// table of states: up to the point of no return the change is undone, with everything as before; from there on it is
// finished.
func TestFaults(t *testing.T) {
	for _, j := range journeys {
		for _, point := range custody.Points(j.kind) {
			t.Run(point, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { faulty(t, j, point) })
			})
		}
	}
}

func faulty(t *testing.T, j journey, point string) {
	r := newStoreAndVaults(t, memory())
	var armed, made atomic.Bool
	r.custody.SetFault(func(at string) error {
		if at == point && armed.Load() && made.CompareAndSwap(false, true) {
			return errFault
		}
		return nil
	})
	r.run()
	old := j.before(r)
	armed.Store(true)
	err := j.change(t.Context(), r)
	s := r.settled(spaceA)
	if !made.Load() {
		t.Fatalf("the point was not passed: %v", err)
	}
	done := s.Operation.Kind == j.kind && s.Operation.Progress == custody.Succeeded
	if done != (err == nil) || custody.Forward(j.kind, point) && !done {
		t.Errorf("the change returned %v and is %+v", err, s.Operation)
	}
	r.consistent(j, old, done)
}

// TestKilled stops at every step of every change, as a killed process would: the next step does not run, and the store
// is opened anew. The change is finished or undone without a command.
func TestKilled(t *testing.T) {
	for _, j := range journeys {
		for _, point := range custody.Points(j.kind) {
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				r := newStoreAndVaults(t, onDisk(t))
				r.run()
				old := j.before(r)
				r.halt()
				killed := make(chan struct{})
				r.custody.SetFault(func(at string) error {
					if at == point {
						close(killed)
						runtime.Goexit()
					}
					return nil
				})
				go func() {
					if err := j.change(t.Context(), r); err != nil {
						t.Errorf("before the point: %v", err)
						close(killed)
						return
					}
					select {
					case <-killed:
					default:
						r.run()
					}
				}()
				<-killed
				if r.stop != nil {
					r.halt()
				}
				r.restart()
				if s := r.state(spaceA); s.Condition != custody.ServiceManaged && s.Condition != custody.Unavailable {
					t.Errorf("at the start: %+v", s)
				}
				r.run()
				s := r.settled(spaceA)
				done := s.Operation.Kind == j.kind && s.Operation.Progress == custody.Succeeded
				if custody.Forward(j.kind, point) && !done {
					t.Errorf("the change is %+v", s.Operation)
				}
				r.consistent(j, old, done)
			})
		}
	}
}

// consistent checks that everything agrees with the key in use: its version, that no other key is needed, and that the
// data is readable.
func (r *storeAndVaults) consistent(j journey, old visage.KeyRef, done bool) {
	r.t.Helper()
	want := custody.Active
	if j.kind == custody.Enabling && !done || j.kind == custody.Disabling && done {
		want = custody.ServiceManaged
	}
	s := r.until(spaceA, "the state "+string(want), func(s custody.Status) bool { return s.Condition == want })
	if s.Code != "" || s.Reason != "" {
		r.t.Errorf("state %+v", s)
	}
	switch {
	case want == custody.ServiceManaged:
		if s.Version != "" {
			r.t.Errorf("the service's key has the version %s", s.Version)
		}
	case !done && s.Version != old.Version:
		r.t.Errorf("not done, but the version is %s, was %s", s.Version, old.Version)
	case done && s.Version == old.Version:
		r.t.Errorf("done, but the version is still %s", s.Version)
	}
	keys, err := r.store.Bundle(spaceA).Keys(r.t.Context())
	if err != nil || len(keys.Slots) != 1 || keys.Turning {
		r.t.Errorf("keys are left over: %+v, %v", keys, err)
	}
	if err := r.read(spaceA); err != nil {
		r.t.Error(err)
	}
	// The other keys are not needed: without them everything still opens, also after a restart.
	for address, v := range r.vaults {
		if want == custody.ServiceManaged || s.Key.Vault != address {
			v.set(func(v *vault) { v.fail = errFault })
		}
	}
	if r.cfg.KeyDir == "" {
		return
	}
	r.restart()
	r.run()
	r.until(spaceA, "the state after a restart", func(s custody.Status) bool { return s.Condition == want })
	if err := r.read(spaceA); err != nil {
		r.t.Error(err)
	}
}
