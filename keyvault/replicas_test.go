package keyvault_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/keyvault"
	"github.com/visage-face/visage/sealed"
)

// replica is a service of a process that shares the store with others.
type replica struct {
	*auditedService
	store *sealed.Store
	stop  func() error // ends the process
}

// newReplica opens the store of a test once more.
func newReplica(t *testing.T, root keysource.Source) *replica {
	t.Helper()
	store, err := sealed.Open(t.Context(), sealed.Config{
		Engine: "memory:" + t.Name(), Shared: true,
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: root}},
	})
	ok(t, err)
	r := &replica{auditedService: newAuditedServiceOn(t, store), store: store}
	r.stop = sync.OnceValue(store.Close)
	t.Cleanup(func() { ok(t, r.stop()) })
	return r
}

// run runs the background work until the process ends.
func (r *replica) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return errors.Join(<-ended, r.store.Close())
	})
}

// rotations counts those that the audits of replicas have.
func rotations(all ...*replica) (n int) {
	for _, r := range all {
		events, _ := r.taken()
		n += count(events, "KeyRotateIfDue done")
	}
	return n
}

// wantVersions wants every replica to know as many versions of a key after the first one.
func wantVersions(t *testing.T, first keyvault.Key, want int, all ...*replica) {
	t.Helper()
	for i, r := range all {
		newer, err := r.NewerVersions(t.Context(), first.Ref)
		ok(t, err)
		if len(newer) != want {
			t.Errorf("replica %d knows %d new versions of %s, want %d", i, len(newer), first.Name, want)
		}
	}
}

// dueIn creates a key that its policy rotates after a time.
func (r *replica) dueIn(name string, after time.Duration) keyvault.Key {
	r.t.Helper()
	const month = 30 * 24 * time.Hour
	k := r.create(name, "EC", func(k *keyvault.NewKey) { k.Expires = time.Now().Add(month + after) })
	_, err := r.SetRotationPolicy(r.t.Context(), caller(alice), key(name), keyvault.RotationPolicy{
		Rotate: keyvault.Trigger{BeforeExpiry: "P30D"}, Expiry: "P90D",
	})
	ok(r.t, err)
	return k
}

// TestReplicasRotateAKeyOnce: of two replicas, one rotates a key that is due, and the other one takes over when it has
// ended.
func TestReplicasRotateAKeyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := sourcetest.NewFake("root")
		a, b := newReplica(t, root), newReplica(t, root)
		a.vault("safe")
		a.run()
		synctest.Wait() // it has the claim
		b.run()
		first, second := a.dueIn("first", time.Minute), b.dueIn("second", 10*time.Minute)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		wantVersions(t, first, 1, a, b)
		wantVersions(t, second, 0, a, b)
		if got := rotations(a, b); got != 1 {
			t.Errorf("there were %d rotations of the first key", got)
		}
		ok(t, a.stop())
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		wantVersions(t, first, 1, b)
		wantVersions(t, second, 1, b)
		if got := rotations(b); got != 1 {
			t.Errorf("there were %d rotations of the second key", got)
		}
		ok(t, b.stop())
	})
}

// TestReplicasThatRotateAtOnce: two replicas find the same keys due at the same moment, as when the one that has the
// claim was paused. Each key gets one version.
func TestReplicasThatRotateAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := sourcetest.NewFake("root")
		a, b := newReplica(t, root), newReplica(t, root)
		a.vault("safe")
		var first []keyvault.Key
		for i := range 20 {
			first = append(first, a.dueIn(fmt.Sprint("k", i), time.Second))
		}
		time.Sleep(2 * time.Second)
		var both sync.WaitGroup
		for _, r := range []*replica{a, b} {
			both.Go(func() {
				if err := r.Attend(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		for _, k := range first {
			wantVersions(t, k, 1, a, b)
		}
		if got := rotations(a, b); got != len(first) {
			t.Errorf("%d rotations of %d keys", got, len(first))
		}
	})
}
