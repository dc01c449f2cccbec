package custody_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
)

// holdStep has a change stay at a fail point for a time, as a step over a large resource or a slow disk does. there is
// closed when it is at the point, after do.
func (r *storeAndVaults) holdStep(point string, d time.Duration, do func()) (there chan struct{}) {
	there = make(chan struct{})
	once := sync.OnceFunc(func() {
		do()
		close(there)
		time.Sleep(d)
	})
	r.custody.SetFault(func(at string) error {
		if at == point {
			once()
		}
		return nil
	})
	return there
}

// longChanges are the changes that rewrite pages, and the vault whose key decides during the step that does.
var longChanges = map[string]struct {
	point  string // where the step takes long
	decide func(*storeAndVaults) *vault
	change func(*testing.T, *storeAndVaults) error
}{
	"enable": {"enable turned after", (*storeAndVaults).first, func(_ *testing.T, r *storeAndVaults) error {
		return r.enable(r.t.Context(), r.first().add("k1"))
	}},
	"switch": {"switch turned after", (*storeAndVaults).second, func(_ *testing.T, r *storeAndVaults) error {
		r.underFirst()
		return r.enable(r.t.Context(), r.second().add("k2"))
	}},
	"switch, the key before": {"switch turned before", (*storeAndVaults).first,
		func(_ *testing.T, r *storeAndVaults) error {
			r.underFirst()
			return r.enable(r.t.Context(), r.second().add("k2"))
		}},
	"disable": {"disable turned before", (*storeAndVaults).first, func(t *testing.T, r *storeAndVaults) error {
		r.underFirst()
		_, err := r.custody.Disable(t.Context(), spaceA)
		return err
	}},
	"remove": {"remove-store turned after", (*storeAndVaults).first, func(t *testing.T, r *storeAndVaults) error {
		_, two := r.underBoth()
		_, err := r.custody.RemoveStore(t.Context(), spaceA, two)
		return err
	}},
	"promote": {"promote-store turned after", (*storeAndVaults).second, func(t *testing.T, r *storeAndVaults) error {
		r.underBoth()
		r.first().silent(true)
		r.later("the fail-over", func(s custody.Status) bool { return s.Serving == 1 })
		time.Sleep(time.Hour)
		_, err := r.custody.PromoteStore(t.Context(), spaceA)
		return err
	}},
}

// TestRevokedDuringALongStep has the key that decides refuse while a step of a change takes long that can no longer be
// undone. The data is refused as soon as without a change.
func TestRevokedDuringALongStep(t *testing.T) {
	for name, c := range longChanges {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newStoreAndVaults(t, memory())
				var revoked time.Time
				there := r.holdStep(c.point, 10*time.Minute, func() {
					time.Sleep(3 * time.Second) // of the bubble: the keys have answered once beside the step
					c.decide(r).set(func(v *vault) { v.denied[principal] = keysource.Permission })
					revoked = time.Now()
				})
				r.run()
				if err := c.change(t, r); err != nil {
					t.Fatal(err)
				}
				<-there
				err := r.read(spaceA)
				for ; err == nil && time.Since(revoked) < 5*time.Minute; err = r.read(spaceA) {
					time.Sleep(500 * time.Millisecond)
				}
				if took := time.Since(revoked); err == nil || took > promised {
					t.Errorf("%v after the refusal, reading returns %v", took, err)
				}
				wantRefusal(t, err, "EncryptionKeyRevoked")
				c.decide(r).set(func(v *vault) { delete(v.denied, principal) })
				r.later("the end of the change", func(s custody.Status) bool {
					return s.Operation.Progress == custody.Succeeded && s.Code == ""
				})
				if err := r.read(spaceA); err != nil {
					t.Errorf("after the change: %v", err)
				}
			})
		})
	}
}

// TestALongStepKeepsTheLease: a step of a change that takes longer than the grace closes nothing while the keys answer.
// That holds for data that has returned to the service's key, too, when there is no key to be asked.
func TestALongStepKeepsTheLease(t *testing.T) {
	for name, point := range map[string]string{"switch": "switch turned after", "disable": "disable turned after"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newStoreAndVaults(t, memory())
				there := r.holdStep(point, 3*custody.DefaultGrace, func() {})
				r.run()
				if err := longChanges[name].change(t, r); err != nil {
					t.Fatal(err)
				}
				<-there
				for begun := time.Now(); time.Since(begun) < 3*custody.DefaultGrace; time.Sleep(time.Minute) {
					if err := r.read(spaceA); err != nil {
						t.Fatalf("%v after the step began: %v", time.Since(begun), err)
					}
				}
				r.settled(spaceA)
			})
		})
	}
}

// TestRecheckDuringALongStep asks a key at once that is reported as changed.
func TestRecheckDuringALongStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		r.underFirst()
		key := r.second().add("k2")
		there := r.holdStep("switch turned after", 10*time.Minute, func() {})
		if err := r.enable(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		<-there
		time.Sleep(5 * time.Second) // of the bubble: the next question is far away
		r.second().enable("k2", false)
		begun := time.Now()
		r.custody.Recheck(key)
		synctest.Wait()
		wantRefusal(t, r.read(spaceA), "EncryptionKeyRevoked")
		if took := time.Since(begun); took > 0 {
			t.Errorf("took %v", took)
		}
	})
}

// ownVaults gives a process that shares vaults with another one vaults of its own, with the same keys.
func (r *storeAndVaults) ownVaults() {
	shared := r.vaults
	r.vaults = vaults{}
	for address, v := range shared {
		same := newVault(address)
		same.keys = v.keys
		r.vaults[address] = same
	}
	r.halt()
	r.store.Bundle(spaceA).LockNow(errors.New("restart"))
	r.openCustody()
	r.run()
	r.later("the opening", in(custody.Active))
}

// TestReplicasAskDuringALongStep: a process that waits for another one to make a change asks the keys itself, and its
// refusal closes the data in both.
func TestReplicasAskDuringALongStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := replicas(t)
		a.underFirst()
		b.within(soon, "the key", in(custody.Active))
		key := a.second().add("k2")
		b.ownVaults()
		there := a.holdStep("switch turned after", 10*time.Minute, func() { a.second().silent(true) })
		if err := a.enable(context.WithoutCancel(t.Context()), key); err != nil {
			t.Fatal(err)
		}
		<-there
		time.Sleep(time.Minute)
		for _, r := range []*storeAndVaults{a, b} {
			if err := r.read(spaceA); err != nil {
				t.Errorf("during the step: %v", err)
			}
		}
		b.second().refuses()
		time.Sleep(promised)
		for _, r := range []*storeAndVaults{a, b} {
			if err := r.read(spaceA); err == nil {
				t.Error("open a minute after the refusal")
			}
		}
	})
}

// TestLateRefusalOfTheKeyBefore has the key that a change has replaced refuse, at a process that has asked it before
// the change ended and hears it afterwards. It decides nothing any more.
func TestLateRefusalOfTheKeyBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := replicas(t)
		a.underFirst()
		b.within(soon, "the key", in(custody.Active))
		key := a.second().add("k2")
		b.ownVaults()
		a.holdStep("switch pending after", 6500*time.Millisecond, func() {})
		late, calls, before := make(chan struct{}), 0, b.first().called("unwrapKey")
		answer := sync.OnceFunc(func() { close(late) })
		defer answer()
		b.first().set(func(v *vault) {
			v.denied[principal] = keysource.Permission
			v.onReply = func(string) {
				if calls++; calls == 2 { // the refusal is confirmed
					<-late
				}
			}
		})
		if err := a.enable(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		a.settled(spaceA)
		b.within(soon, "the change", func(s custody.Status) bool { return s.Operation.Progress == custody.Succeeded })
		if n := b.first().called("unwrapKey") - before; n != 2 {
			t.Fatalf("the key before was asked %d times in between", n)
		}
		answer()
		for range 60 {
			synctest.Wait()
			if s := b.state(spaceA); s.Condition == custody.Revoked {
				t.Fatalf("after the switch: %+v", s)
			}
			time.Sleep(time.Second)
		}
	})
}
