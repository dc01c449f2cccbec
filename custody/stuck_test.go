package custody_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
)

// TestRevokedWhileUndoIsStuck checks that a change that can be neither finished nor undone, because the audit log
// fails, locks nothing while the key answers, and does not hide a revocation.
func TestRevokedWhileUndoIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		var broken atomic.Bool
		r.custody.SetFault(func(at string) error {
			if at == "update rewrapped after" && broken.CompareAndSwap(false, true) {
				r.journal.Fail(errFault)
				return errFault
			}
			return nil
		})
		r.run()
		r.underFirst()
		if err := r.enable(t.Context(), r.first().add("k1")); err == nil {
			t.Fatal("the change did not get stuck")
		}
		time.Sleep(3 * time.Hour)
		if err := r.read(spaceA); err != nil {
			t.Errorf("stuck while its key answers: %v", err)
		}
		r.first().enable("k1", false)
		time.Sleep(promised)
		wantRefusal(t, r.read(spaceA), "EncryptionKeyRevoked")
		r.journal.Fail(nil)
		r.first().enable("k1", true)
		r.until(spaceA, "the opening", func(s custody.Status) bool {
			return s.Condition == custody.Active && s.Operation.Progress != custody.Running
		})
		if err := r.read(spaceA); err != nil {
			t.Error(err)
		}
	})
}

// slowOn is a log handler that takes a second for one message.
type slowOn struct {
	slog.Handler
	message string
}

func (h slowOn) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.message {
		time.Sleep(time.Second)
	}
	return nil
}

func (slowOn) Enabled(context.Context, slog.Level) bool { return true }

// TestStuckFollowerGoesOn checks that a move to a newer version that can at first be neither finished nor undone is
// resumed as soon as it is possible.
func TestStuckFollowerGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		c, err := custody.New(t.Context(), custody.Config{
			Store: r.store, Open: r.vaults.open, Audit: r.journal,
			Logger: slog.New(slowOn{slog.DiscardHandler, "newer version of a key not followed"}),
		})
		if err != nil {
			t.Fatal(err)
		}
		r.custody = c
		var broken atomic.Bool
		c.SetFault(func(at string) error {
			if at == "follow rewrapped after" && broken.CompareAndSwap(false, true) {
				r.journal.Fail(errFault)
				return errFault
			}
			return nil
		})
		r.run()
		one := r.first().add("k1")
		r.enabled(spaceA, visage.KeyRef{Vault: one.Vault, Name: one.Name})
		two := r.first().add("k1")
		c.Recheck(one)
		time.Sleep(time.Minute)
		if !broken.Load() {
			t.Fatal("no newer version was followed")
		}
		r.journal.Fail(nil)
		s := r.settled(spaceA)
		if s.Operation.Kind != custody.Following || s.Operation.Progress != custody.Succeeded ||
			s.Version != two.Version {
			t.Errorf("%+v", s)
		}
	})
}

// TestClaimEndsWithItsCaller: a change that waits for the records of the one before is given up with its caller's
// context.
func TestClaimEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.custody.SetFault(func(at string) error {
			if at == "enable wrapped after" {
				return errFault
			}
			return nil
		})
		recording, recorded := make(chan struct{}), make(chan struct{})
		r.journal.before = func(e audit.Event) {
			if e.Kind == audit.CustodyEnable && e.Outcome == audit.Failed {
				close(recording)
				<-recorded
			}
		}
		key, undone := r.first().add("k1"), make(chan error, 1)
		go func() { undone <- r.enable(t.Context(), key) }()
		<-recording
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.custody.Disable(ctx, spaceA)
		wantRefusal(t, err, "RequestConflict")
		close(recorded)
		if err := <-undone; !errors.Is(err, errFault) {
			t.Errorf("undone with %v", err)
		}
	})
}
