package custody_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/sealed"
)

// TestLife walks the whole life of a key: on, a new version, another key, off.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memory())
		r.run()
		if s := r.state(spaceA); s.Condition != custody.ServiceManaged || s.Version != "" || s.Code != "" {
			t.Errorf("before: %+v", s)
		}
		one := r.first().add("k1")
		r.enabled(spaceA, one)
		s := r.state(spaceA)
		if s.Condition != custody.Active || s.Version != one.Version || s.Key != one || s.As != principal {
			t.Errorf("enabled: %+v", s)
		}
		if s.Operation.Kind != custody.Enabling || s.Operation.Progress != custody.Succeeded || s.Operation.ID == "" {
			t.Errorf("enabled: %+v", s.Operation)
		}
		two := r.first().add("k1")
		op, err := r.custody.Enable(t.Context(), spaceA, two, principal)
		if err != nil || op.Kind != custody.Updating || op.Progress != custody.Succeeded {
			t.Fatalf("a new version: %+v, %v", op, err)
		}
		if s := r.state(spaceA); s.Version != two.Version || s.Condition != custody.Active {
			t.Errorf("a new version: %+v", s)
		}
		other := r.second().add("k2")
		r.enabled(spaceA, other)
		if s := r.state(spaceA); s.Version != other.Version || s.Key != other || s.Operation.Kind != custody.Switching {
			t.Errorf("another vault: %+v", s)
		}
		if err := r.read(spaceA); err != nil {
			t.Error(err)
		}
		if _, err := r.custody.Disable(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		if s := r.settled(spaceA); s.Condition != custody.ServiceManaged || s.Version != "" || s.Key.Name != "" {
			t.Errorf("disabled: %+v", s)
		}
		if err := r.read(spaceA); err != nil {
			t.Error(err)
		}
		for _, kind := range []audit.Kind{audit.CustodyEnable, audit.CustodySwitch, audit.CustodyFollow, audit.CustodyDisable} {
			if r.journal.count(kind, audit.Unknown) != 1 || r.journal.count(kind, audit.Done) != 1 {
				t.Errorf("%s was not audited as intended and as done", kind)
			}
		}
	})
}

// TestRevoke takes a key away and gives it back.
func TestRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, memory())
		r.run()
		r.enabled(spaceA, r.first().add("k1"))
		r.first().enable("k1", false)
		s := r.until(spaceA, "the lock", func(s custody.State) bool { return s.Condition == custody.Revoked })
		if s.Code != "EncryptionKeyRevoked" || s.Reason == "" || s.Since.IsZero() {
			t.Errorf("revoked: %+v", s)
		}
		err := r.read(spaceA)
		if !errors.Is(err, sealed.ErrLocked) {
			t.Errorf("read: %v", err)
		}
		wantRefusal(t, err, "EncryptionKeyRevoked")
		r.first().enable("k1", true)
		r.until(spaceA, "the restoration", func(s custody.State) bool { return s.Condition == custody.Active })
		if err := r.read(spaceA); err != nil {
			t.Error(err)
		}
	})
}
