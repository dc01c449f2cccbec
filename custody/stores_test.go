package custody_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
)

var errSilent = refuse(keysource.ErrUnknown, "", "nobody there")

func (v *vault) silent(on bool) {
	v.set(func(v *vault) {
		if v.fail = nil; on {
			v.fail = errSilent
		}
	})
}

// underBoth has two keys protect the space, in the first vault and in the second.
func (r *storeAndVaults) underBoth() (first, second visage.KeyRef) {
	r.t.Helper()
	first, second = r.first().add("k1"), r.second().add("k2")
	r.enabled(spaceA, first)
	r.added(second)
	return first, second
}

func (r *storeAndVaults) added(key visage.KeyRef) {
	r.t.Helper()
	op, err := r.custody.AddStore(r.t.Context(), spaceA, key, principal)
	if err != nil || op.Progress != custody.Succeeded {
		r.t.Fatalf("add a store: %+v, %v", op, err)
	}
}

func (r *storeAndVaults) removed(key visage.KeyRef) {
	r.t.Helper()
	if _, err := r.custody.RemoveStore(r.t.Context(), spaceA, key); err != nil {
		r.t.Fatalf("remove a store: %v", err)
	}
	if s := r.settled(spaceA); s.Operation.Progress != custody.Succeeded {
		r.t.Fatalf("remove a store: %+v", s.Operation)
	}
}

// reborn starts custody anew over the same store, which is locked by that.
func (r *storeAndVaults) reborn() {
	r.t.Helper()
	r.halt()
	r.openCustody()
	r.run()
}

// later waits up to an hour of the bubble for a state.
func (r *storeAndVaults) later(what string, is func(custody.Status) bool) custody.Status {
	r.t.Helper()
	for range 36_000 {
		if s := r.state(spaceA); is(s) {
			return s
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.t.Fatalf("%s did not happen in time: %+v", what, r.state(spaceA))
	return custody.Status{}
}

// TestFailover silences the first key at a random time between two polls, and reads all the while: no read fails, the
// second key serves within 65 s, and the first one decides again when it answers.
func TestFailover(t *testing.T) {
	for _, grace := range []time.Duration{custody.MinGrace, custody.DefaultGrace} {
		t.Run(grace.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newStoreAndVaultsWith(t, memory(), custody.Policy{Grace: grace})
				r.run()
				_, second := r.underBoth()
				for range 5 {
					time.Sleep(time.Minute + rand.N(time.Minute))
					r.first().silent(true)
					start := time.Now()
					for s := r.state(spaceA); s.Serving == 0; s = r.state(spaceA) {
						if err := r.read(spaceA); err != nil {
							t.Fatalf("%v after the silence began: %v", time.Since(start), err)
						}
						if time.Since(start) > 65*time.Second {
							t.Fatalf("the second key does not serve: %+v", s)
						}
						time.Sleep(200 * time.Millisecond)
					}
					s := r.state(spaceA)
					if s.Condition != custody.Degraded || !s.Stores[0].Silent() || s.Stores[1].Key != second ||
						!strings.Contains(s.Reason, second.Name) {
						t.Errorf("failed over: %+v", s)
					}
					for end := time.Now().Add(2 * grace); time.Now().Before(end); time.Sleep(grace / 100) {
						if err := r.read(spaceA); err != nil {
							t.Fatalf("served by the second key: %v", err)
						}
					}
					r.first().silent(false)
					s = r.later("the return", func(s custody.Status) bool { return s.Serving == 0 })
					if s.Condition != custody.Active || s.Reason != "" {
						t.Errorf("returned: %+v", s)
					}
					if err := r.read(spaceA); err != nil {
						t.Fatalf("returned: %v", err)
					}
				}
				if over, back := r.journal.Count(audit.CustodyFailover, audit.Unknown),
					r.journal.Count(audit.CustodyFailover, audit.Done); over != 5 || back != 5 {
					t.Errorf("audited %d fail-overs and %d returns", over, back)
				}
			})
		})
	}
}

// TestFailoverAtStart starts while the first key is silent: the second opens the data after 60 s, and not earlier.
func TestFailoverAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		r.underBoth()
		r.first().silent(true)
		r.reborn()
		start := time.Now()
		for r.read(spaceA) != nil {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(start); took < time.Minute || took > 65*time.Second {
			t.Errorf("opened after %v", took)
		}
		s := r.state(spaceA)
		if s.Serving != 1 || s.Condition != custody.Degraded || !s.Stores[0].LastSuccess.IsZero() {
			t.Errorf("%+v", s)
		}
	})
}

// TestRefusalOfFirst has the first key refuse and then be silent. The second key, which says yes all the while, opens
// nothing: not after a restart, and not after an unlock.
func TestRefusalOfFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		r.underBoth()
		r.first().enable("k1", false)
		r.later("the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
		r.first().silent(true)
		stays := func(what string) {
			t.Helper()
			for range 20 {
				time.Sleep(5 * time.Minute)
				if r.read(spaceA) == nil {
					t.Fatalf("%s, the second key opens what the first has refused: %+v", what, r.state(spaceA))
				}
			}
		}
		stays("in silence")
		r.reborn()
		stays("after a restart")
		if err := r.custody.Unlock(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		stays("after an unlock")
		r.reborn()
		stays("after an unlock and a restart")
		_, err := r.custody.PromoteStore(t.Context(), spaceA)
		wantRefusal(t, err, "PromotionNotAllowed")
		r.first().enable("k1", true)
		r.first().silent(false)
		r.later("the restoration", func(s custody.Status) bool { return s.Condition == custody.Active })
	})
}

// TestRevocationOfTwo revokes the first key at random times, with the second saying yes or no or nothing; and both
// while the first is silent. No data is read more than 60 s later.
func TestRevocationOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		r.underBoth()
		var most time.Duration
		for i := range 100 {
			time.Sleep(time.Minute + rand.N(time.Minute))
			outage := i%4 == 3
			switch i % 4 {
			case 1:
				r.second().enable("k2", false)
			case 2:
				r.second().silent(true)
			case 3:
				r.first().silent(true)
				r.later("the fail-over", func(s custody.Status) bool { return s.Serving == 1 })
				time.Sleep(rand.N(time.Minute))
				r.second().enable("k2", false)
			}
			r.first().enable("k1", false)
			start := time.Now()
			for r.read(spaceA) == nil {
				time.Sleep(250 * time.Millisecond)
			}
			most = max(most, time.Since(start))
			r.second().enable("k2", true)
			r.second().silent(false)
			if outage { // what the customer has revoked during the outage stays so when it ends
				r.first().silent(false)
				time.Sleep(2 * time.Minute)
				if r.read(spaceA) == nil {
					t.Fatal("the first key refuses, and the data is open")
				}
			}
			r.first().enable("k1", true)
			r.later("the restoration", func(s custody.Status) bool { return s.Condition == custody.Active })
		}
		t.Logf("at most %v", most)
		if most > promised {
			t.Errorf("a revocation took %v", most)
		}
	})
}

// TestRefusalOfSecond checks that a refusal of the second key is an alarm and not a lock, and that a key which has
// refused for long shortens no grace.
func TestRefusalOfSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaultsWith(t, memory(), custody.Policy{Grace: 10 * time.Minute})
		r.run()
		r.underBoth()
		refusing := func(want float64) {
			t.Helper()
			const name = "visage_custody_stores_refusing"
			text := fmt.Sprintf("# HELP %s Customer-managed keys beside the first of a resource that refuse.\n"+
				"# TYPE %s gauge\n%s %v\n", name, name, name, want)
			for _, c := range r.custody.Collectors() {
				if err := testutil.CollectAndCompare(c, strings.NewReader(text), name); err == nil {
					return
				}
			}
			t.Errorf("the metric does not say %v", want)
		}
		refusing(0)
		r.second().enable("k2", false)
		s := r.later("the alarm", func(s custody.Status) bool { return s.Stores[1].Refuses() })
		if s.Condition != custody.Active || s.Stores[1].Cause != string(keysource.Disabled) {
			t.Errorf("%+v", s)
		}
		refusing(1)
		time.Sleep(time.Hour)
		if err := r.read(spaceA); err != nil {
			t.Errorf("the second key locks: %v", err)
		}
		if n := r.journal.Count(audit.CustodyRefusal, audit.Refused); n != 1 {
			t.Errorf("%d alarms", n)
		}
		r.first().silent(true)
		time.Sleep(9 * time.Minute)
		if err := r.read(spaceA); err != nil {
			t.Errorf("within the grace: %v", err)
		}
		r.later("the end of the grace", func(s custody.Status) bool { return s.Condition == custody.Unavailable })
		r.second().enable("k2", true)
		r.later("the fail-over", func(s custody.Status) bool { return s.Serving == 1 })
		refusing(0)
		if n := r.journal.Count(audit.CustodyRefusal, audit.Done); n != 1 {
			t.Errorf("%d ends of the alarm", n)
		}
	})
}

// TestGraceOfTwo silences both keys: the grace begins with the last yes of either.
func TestGraceOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const grace = 10 * time.Minute
		r := newStoreAndVaultsWith(t, memory(), custody.Policy{Grace: grace})
		r.run()
		r.underBoth()
		r.first().silent(true)
		time.Sleep(5 * time.Minute)
		r.second().silent(true)
		start := time.Now()
		for r.read(spaceA) == nil {
			time.Sleep(time.Second)
		}
		if took := time.Since(start); took < grace-40*time.Second || took > grace+time.Second {
			t.Errorf("locked after %v", took)
		}
	})
}

// slotsAre checks which keys wrap the data key, in their order, and that each of them opens the data alone.
func (r *storeAndVaults) slotsAre(want ...visage.KeyRef) {
	r.t.Helper()
	keys, err := r.store.Bundle(spaceA).Keys(r.t.Context())
	if err != nil || keys.Turning {
		r.t.Fatalf("keys: %+v, %v", keys, err)
	}
	var got, wanted []string
	for _, s := range keys.Slots {
		got = append(got, s.Ref.URI+"/"+s.Ref.Version)
	}
	for _, k := range want {
		wanted = append(wanted, k.String())
	}
	if !slices.Equal(got, wanted) {
		r.t.Errorf("wrapped by %q, want %q", got, wanted)
	}
	s := r.state(spaceA)
	var shown []visage.KeyRef
	for _, store := range s.Stores {
		key := store.Key
		key.Version = store.Version
		shown = append(shown, key)
	}
	if !slices.Equal(shown, want) {
		r.t.Errorf("the state shows %v, want %v", shown, want)
	}
}

// TestStoreChanges adds, rotates, switches, removes and disables.
func TestStoreChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		const third, fourth = "https://third.vault.example", "https://fourth.vault.example"
		r.vaults[third], r.vaults[fourth] = newVault(third), newVault(fourth)
		r.run()
		one := r.first().add("k1")
		_, err := r.custody.AddStore(t.Context(), spaceA, one, principal)
		wantRefusal(t, err, "CustomerManagedKeyNotEnabled")
		r.enabled(spaceA, one)
		_, err = r.custody.AddStore(t.Context(), spaceA, r.first().add("k1"), principal)
		wantRefusal(t, err, "KeyAlreadyInUse")
		two := r.second().add("k2")
		r.second().change("k2", func(d *keysource.Description) { d.Recovery = "Purgeable" })
		_, err = r.custody.AddStore(t.Context(), spaceA, two, principal)
		wantRefusal(t, err, "KeyVaultSoftDeleteRequired")
		r.second().change("k2", func(d *keysource.Description) { d.Recovery = "Recoverable" })
		r.added(two)
		r.slotsAre(one, two)
		three := r.vaults[third].add("k3")
		r.added(visage.KeyRef{Vault: third, Name: "k3"})
		r.slotsAre(one, two, three)
		_, err = r.custody.AddStore(t.Context(), spaceA, r.vaults[fourth].add("k4"), principal)
		wantRefusal(t, err, "TooManyKeyStores")
		_, err = r.custody.Enable(t.Context(), spaceA, two, principal)
		wantRefusal(t, err, "KeyAlreadyInUse")

		// The third key, without a version, follows; the first moves by command, even while the others are silent.
		three = r.vaults[third].add("k3")
		r.custody.Recheck(three)
		r.later("the new version", func(s custody.Status) bool {
			return len(s.Stores) == 3 && s.Stores[2].Version == three.Version
		})
		r.second().silent(true)
		one = r.first().add("k1")
		r.enabled(spaceA, one)
		r.slotsAre(one, two, three)

		// Another first key is wrapped for by all; a silent one is named.
		four := r.vaults[fourth].add("k4")
		_, err = r.custody.Enable(t.Context(), spaceA, four, principal)
		wantRefusal(t, err, "KeyVaultUnavailable")
		if !strings.Contains(err.Error(), two.Name) || !strings.Contains(err.Error(), "remove") {
			t.Errorf("the refusal helps nobody: %v", err)
		}
		r.second().silent(false)
		r.enabled(spaceA, four)
		r.slotsAre(four, two, three)
		r.removed(two)
		r.slotsAre(four, three)
		_, err = r.custody.RemoveStore(t.Context(), spaceA, two)
		wantRefusal(t, err, "FurtherKeyNotFound")
		r.removed(four) // the third key is the first now
		r.slotsAre(three)
		_, err = r.custody.RemoveStore(t.Context(), spaceA, three)
		wantRefusal(t, err, "FurtherKeyNotFound")
		r.added(r.first().add("k1"))
		if _, err := r.custody.Disable(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		if s := r.settled(spaceA); s.Condition != custody.ServiceManaged || s.Stores != nil {
			t.Errorf("disabled: %+v", s)
		}
		if err := r.read(spaceA); err != nil {
			t.Error(err)
		}
	})
}

// TestFollowsAlone has the second key follow a new version while the first is silent and the second serves.
func TestFollowsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		one := r.first().add("k1")
		r.enabled(spaceA, one)
		two := r.second().add("k2")
		r.added(visage.KeyRef{Vault: two.Vault, Name: two.Name})
		r.first().silent(true)
		r.later("the fail-over", func(s custody.Status) bool { return s.Serving == 1 })
		before := r.state(spaceA)
		two = r.second().add("k2")
		r.custody.Recheck(two)
		s := r.later("the new version", func(s custody.Status) bool { return s.Stores[1].Version == two.Version })
		if s.Stores[0].LastSuccess != before.Stores[0].LastSuccess {
			t.Errorf("the first key has answered: %+v", s)
		}
		r.slotsAre(one, two)
		r.reborn()
		r.later("the opening", func(s custody.Status) bool { return s.Serving == 1 })
		r.first().silent(false)
		r.later("the return", func(s custody.Status) bool { return s.Condition == custody.Active })
	})
}

// TestFirstRefusesDuringFollow has the first key, after a silence in which the second serves, say no for the first time
// to a move of the second to a new version: the move fails, and the no locks.
func TestFirstRefusesDuringFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		one := r.first().add("k1")
		r.enabled(spaceA, one)
		two := r.second().add("k2")
		r.added(visage.KeyRef{Vault: two.Vault, Name: two.Name})
		r.first().silent(true)
		r.later("the fail-over", func(s custody.Status) bool { return s.Serving == 1 })
		r.custody.SetFault(func(at string) error {
			if at == "follow rewrapped before" {
				r.first().silent(false)
				r.first().refuses()
			}
			return nil
		})
		r.custody.Recheck(r.second().add("k2"))
		s := r.later("the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
		if s.Operation.Kind != custody.Following || s.Operation.Progress != custody.Failed {
			t.Errorf("the move ended as %+v", s.Operation)
		}
		r.slotsAre(one, two)
		if r.read(spaceA) == nil {
			t.Error("the second key opens what the first has refused")
		}
	})
}

// TestPromotion replaces a first key that is lost.
func TestPromotion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newStoreAndVaults(t, memory())
		r.run()
		one, two := r.underBoth()
		refused := func(why string) {
			t.Helper()
			_, err := r.custody.PromoteStore(t.Context(), spaceA)
			wantRefusal(t, err, "PromotionNotAllowed")
			if err != nil && !strings.Contains(err.Error(), why) {
				t.Errorf("refused because %v, want %q", err, why)
			}
		}
		refused("not silent")
		r.first().silent(true)
		r.later("the fail-over", func(s custody.Status) bool { return s.Serving == 1 })
		refused("at the earliest")
		_, err := r.custody.RemoveStore(t.Context(), spaceA, one)
		wantRefusal(t, err, "KeyVaultUnavailable")
		time.Sleep(time.Hour)
		if err := r.custody.Lock(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		refused("locked")
		if err := r.custody.Unlock(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		r.later("the opening", func(s custody.Status) bool { return s.Serving == 1 })
		r.second().silent(true)
		time.Sleep(time.Minute)
		refused("one must answer")
		r.second().silent(false)
		r.later("the fail-over", func(s custody.Status) bool { return s.Serving == 1 })
		if _, err := r.custody.PromoteStore(t.Context(), spaceA); err != nil {
			t.Fatal(err)
		}
		r.settled(spaceA)
		r.slotsAre(two)
		if n := r.journal.Count(audit.CustodyStore, audit.Done); n != 2 {
			t.Errorf("%d changes of stores are audited", n)
		}
		s := r.later("the state", func(s custody.Status) bool { return s.Condition == custody.Active })
		if s.Key != two || s.Serving != 0 {
			t.Errorf("%+v", s)
		}
		calls := r.first().called("unwrapKey")
		time.Sleep(time.Hour)
		if n := r.first().called("unwrapKey"); n != calls {
			t.Errorf("the old key was asked %d times", n-calls)
		}
		r.second().enable("k2", false)
		r.later("the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
	})
}

// TestFirstNotAsked has this instance not ask the first key any more, because of its own settings, from the start and
// while the second key serves: no other key keeps the data open beyond the grace or takes the place of the first.
func TestFirstNotAsked(t *testing.T) {
	for _, served := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newStoreAndVaults(t, memory())
			r.run()
			r.underBoth()
			if served {
				r.first().silent(true)
				r.later("the fail-over", func(s custody.Status) bool { return s.Serving == 1 })
			}
			const why = "The description of the store does not list the resource."
			r.first().set(func(v *vault) {
				v.fail = visage.Refuse(visage.Invalid, "KeyStoreNotPermitted", why)
			})
			s := r.later("the reason", func(s custody.Status) bool { return strings.Contains(s.Reason, why) })
			if s.Condition != custody.Degraded || s.Serving != 0 {
				t.Errorf("not asked: %+v", s)
			}
			start := time.Now()
			for r.read(spaceA) == nil && time.Since(start) < 2*custody.DefaultGrace {
				if s := r.state(spaceA); s.Serving != 0 {
					t.Fatalf("another key serves: %+v", s)
				}
				time.Sleep(time.Second)
			}
			r.later("the end of the grace", func(s custody.Status) bool { return s.Condition == custody.Unavailable })
			r.reborn()
			time.Sleep(2 * time.Hour)
			if r.read(spaceA) == nil {
				t.Error("another key has opened the data after a restart")
			}
			_, err := r.custody.PromoteStore(t.Context(), spaceA)
			wantRefusal(t, err, "PromotionNotAllowed")
			r.first().silent(true)
			r.later("the fail-over", func(s custody.Status) bool { return s.Serving == 1 })
			_, err = r.custody.PromoteStore(t.Context(), spaceA)
			wantRefusal(t, err, "PromotionNotAllowed") // its silence has only begun
			r.first().silent(false)
			r.later("the answer", func(s custody.Status) bool { return s.Condition == custody.Active })
		})
	}
}

// storeJourney is a change of the stores, with the keys before it and after it.
type storeJourney struct {
	kind   custody.OperationKind
	before func(r *storeAndVaults) []visage.KeyRef
	change func(r *storeAndVaults) error
	after  func(before []visage.KeyRef, r *storeAndVaults) []visage.KeyRef
}

var storeJourneys = []storeJourney{
	{custody.Adding, func(r *storeAndVaults) []visage.KeyRef { return []visage.KeyRef{r.underFirst()} },
		func(r *storeAndVaults) error {
			_, err := r.custody.AddStore(r.t.Context(), spaceA, r.second().newest("k2"), principal)
			return err
		}, func(before []visage.KeyRef, r *storeAndVaults) []visage.KeyRef {
			return append(before, r.second().newest("k2"))
		}},
	{custody.Removing, func(r *storeAndVaults) []visage.KeyRef {
		one, two := r.underBoth()
		return []visage.KeyRef{one, two}
	}, func(r *storeAndVaults) error {
		_, err := r.custody.RemoveStore(r.t.Context(), spaceA, r.first().newest("k1"))
		return err
	}, func(before []visage.KeyRef, _ *storeAndVaults) []visage.KeyRef { return before[1:] }},
	{custody.Promoting, func(r *storeAndVaults) []visage.KeyRef {
		one, two := r.underBoth()
		r.first().silent(true)
		r.later("the fail-over", func(s custody.Status) bool { return s.Serving == 1 })
		time.Sleep(time.Hour)
		return []visage.KeyRef{one, two}
	}, func(r *storeAndVaults) error {
		_, err := r.custody.PromoteStore(r.t.Context(), spaceA)
		return err
	}, func(before []visage.KeyRef, _ *storeAndVaults) []visage.KeyRef { return before[1:] }},
}

func (v *vault) newest(name string) visage.KeyRef {
	v.mu.Lock()
	defer v.mu.Unlock()
	versions := v.keys[name].versions
	return visage.KeyRef{Vault: v.address, Name: name, Version: versions[len(versions)-1].id}
}

// TestStoreFaults makes every step of every change of the stores fail once, and stops at every one as a killed process
// would: afterwards either the keys from before protect the data or those of the change, and nothing in between.
func TestStoreFaults(t *testing.T) {
	for _, j := range storeJourneys {
		for _, point := range custody.Points(j.kind) {
			for _, killed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s killed %v", point, killed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { storeFault(t, j, point, killed) })
				})
			}
		}
	}
}

func storeFault(t *testing.T, j storeJourney, point string, killed bool) {
	r := newStoreAndVaults(t, memory())
	if j.kind == custody.Adding {
		r.second().add("k2")
	}
	r.run()
	before := j.before(r)
	passed, stop := make(chan struct{}), make(chan struct{})
	var fired atomic.Bool
	r.custody.SetFault(func(at string) error {
		if at != point {
			return nil
		}
		first := fired.CompareAndSwap(false, true)
		if first {
			close(passed)
		}
		switch { // the steps after the point are not taken by a killed process
		case killed && custody.Forward(j.kind, point):
			runtime.Goexit() // Run waits for its goroutines
		case killed:
			<-stop
		case !first:
			return nil
		}
		return errFault
	})
	ended := make(chan error, 1)
	go func() {
		defer close(ended)
		ended <- j.change(r)
	}()
	<-passed
	var err error
	if killed {
		r.halt()
		r.openCustody()
		r.run()
	} else {
		err = <-ended
	}
	want := j.after(before, r)
	if s := r.settled(spaceA); s.Operation.Kind != j.kind || s.Operation.Progress != custody.Succeeded {
		want = before
	}
	if !killed && (err == nil) != (len(want) == len(j.after(before, r))) {
		t.Errorf("the change returned %v", err)
	}
	time.Sleep(2 * time.Minute)
	r.slotsAre(want...)
	if err := r.read(spaceA); err != nil {
		t.Error(err)
	}
	// Each of the keys opens the data without the others.
	for i := range want {
		for address, v := range r.vaults {
			v.silent(address != want[i].Vault)
		}
		r.reborn()
		r.later("the opening", func(s custody.Status) bool { return s.Code == "" })
		if err := r.read(spaceA); err != nil {
			t.Errorf("with key %d alone: %v", i, err)
		}
	}
	if killed {
		r.halt()
		r.store.Close()
		r.store = nil
		close(stop)
		<-ended
	}
}
