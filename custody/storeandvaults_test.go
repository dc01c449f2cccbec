package custody_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/audit/audittest"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// journal keeps the events of custody.
type journal struct {
	audittest.Recorder

	before func(audit.Event) // called before an event is kept; nil: nothing
}

// Append implements audit.Recorder.
func (j *journal) Append(ctx context.Context, events ...audit.Event) error {
	for _, e := range events {
		if j.before != nil {
			j.before(e)
		}
	}
	return j.Recorder.Append(ctx, events...)
}

type item struct {
	ID   string
	Text string
}

var items = sealed.NewTable[item]("items", 1)

const (
	principal = visage.PrincipalID("11111111-1111-1111-1111-111111111111")
	secretly  = "what nobody may read"
)

var spaceA = sealed.SpaceID{0xa}

// storeAndVaults is a store with one space of data, two vaults, and custody over them.
type storeAndVaults struct {
	t       *testing.T
	cfg     sealed.Config
	store   *sealed.Store
	custody *custody.Custody
	journal *journal
	vaults  vaults
	policy  custody.Policy

	stop context.CancelFunc
	done chan struct{}
}

const (
	firstVault  = "https://first.vault.example"
	secondVault = "https://second.vault.example"
)

func newStoreAndVaults(t *testing.T, cfg sealed.Config) *storeAndVaults {
	t.Helper()
	return newStoreAndVaultsWith(t, cfg, custody.Policy{})
}

func newStoreAndVaultsWith(t *testing.T, cfg sealed.Config, policy custody.Policy) *storeAndVaults {
	t.Helper()
	r := &storeAndVaults{t: t, cfg: cfg, policy: policy, journal: &journal{}, vaults: vaults{
		firstVault: newVault(firstVault), secondVault: newVault(secondVault),
	}}
	r.openStore()
	if err := r.store.Spaces().Create(t.Context(), spaceA); err != nil {
		t.Fatal(err)
	}
	r.write(spaceA, 3)
	r.openCustody()
	t.Cleanup(r.close)
	return r
}

func (r *storeAndVaults) first() *vault  { return r.vaults[firstVault] }
func (r *storeAndVaults) second() *vault { return r.vaults[secondVault] }

func memory() sealed.Config {
	return sealed.Config{Engine: "memory:",
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("test")}}}
}

func onDisk(t *testing.T) sealed.Config {
	cfg, dir := memory(), t.TempDir()
	cfg.Engine, cfg.KeyDir = "pebble:"+filepath.Join(dir, "data"), filepath.Join(dir, "keys")
	return cfg
}

func (r *storeAndVaults) openStore() {
	r.t.Helper()
	store, err := sealed.Open(r.t.Context(), r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.store = store
}

func (r *storeAndVaults) openCustody() {
	r.t.Helper()
	c, err := custody.New(r.t.Context(), custody.Config{
		Store: r.store, Open: r.vaults.open, Audit: r.journal, Policy: r.policy,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.custody = c
}

// run runs custody until close or halt.
func (r *storeAndVaults) run() {
	ctx, stop := context.WithCancel(r.t.Context())
	r.stop, r.done = stop, make(chan struct{})
	done, c := r.done, r.custody
	go func() {
		defer close(done)
		if err := c.Run(ctx); err != nil {
			r.t.Errorf("run: %v", err)
		}
	}()
}

// halt stops custody and waits for it.
func (r *storeAndVaults) halt() {
	if r.stop != nil {
		r.stop()
		<-r.done
		r.stop = nil
	}
}

func (r *storeAndVaults) close() {
	r.halt()
	if r.store != nil {
		if err := r.store.Close(); err != nil {
			r.t.Errorf("close the store: %v", err)
		}
		r.store = nil
	}
}

// restart opens the same store anew, with a new custody that does not run yet.
func (r *storeAndVaults) restart() {
	r.t.Helper()
	r.close()
	r.openStore()
	r.openCustody()
}

func (r *storeAndVaults) write(id sealed.SpaceID, n int) {
	r.t.Helper()
	err := r.store.Space(id).Update(r.t.Context(), func(tx sealed.Tx) error {
		for i := range n {
			name := fmt.Sprintf("item %d", i)
			if err := items.In("list").Put(tx, name, item{name, secretly}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// read reads an item and returns why it could not.
func (r *storeAndVaults) read(id sealed.SpaceID) error {
	return r.store.Space(id).View(r.t.Context(), func(rd sealed.Reader) error {
		got, err := items.In("list").Get(rd, "item 1")
		if err == nil && got.Text != secretly {
			err = fmt.Errorf("read %q", got.Text)
		}
		return err
	})
}

func (r *storeAndVaults) state(id sealed.SpaceID) custody.Status {
	r.t.Helper()
	s, err := r.custody.Status(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// enabled encrypts the space with a key and waits until the change is complete.
func (r *storeAndVaults) enabled(id sealed.SpaceID, key visage.KeyRef) {
	r.t.Helper()
	if _, err := r.custody.Enable(r.t.Context(), id, key, principal); err != nil {
		r.t.Fatal(err)
	}
	r.settled(id)
}

// settled waits until no change is running.
func (r *storeAndVaults) settled(id sealed.SpaceID) custody.Status {
	r.t.Helper()
	return r.until(id, "the end of the change",
		func(s custody.Status) bool { return s.Operation.Progress != custody.Running })
}

// until waits for a state. In a bubble its time is the bubble's.
func (r *storeAndVaults) until(id sealed.SpaceID, what string, is func(custody.Status) bool) custody.Status {
	r.t.Helper()
	for range 100_000 {
		s := r.state(id)
		if is(s) {
			return s
		}
		<-time.After(time.Millisecond)
	}
	r.t.Fatalf("%s did not happen in time: %+v", what, r.state(id))
	return custody.Status{}
}

func wantRefusal(t *testing.T, err error, code string) {
	t.Helper()
	refusal, ok := errors.AsType[*visage.Refusal](err)
	if !ok || refusal.Code != code {
		t.Errorf("got %v, want the refusal %s", err, code)
	}
	if ok && refusal.Message == "" {
		t.Errorf("the refusal %s has no sentence", code)
	}
}
