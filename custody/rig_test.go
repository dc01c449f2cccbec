package custody_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// vault is a customer's vault as a test wants it to be. Its keys wrap truly: what it answered without being told to lie
// opens with that version and nothing else.
type vault struct {
	mu      sync.Mutex
	address string
	keys    map[string]*vaultKey
	denied  map[visage.PrincipalID]keysource.Reason // who may do nothing, and why
	verbs   map[string]error                        // what a verb answers instead: "get", "wrapKey", "unwrapKey"
	fail    error                                   // what everything answers instead
	lie     bool                                    // answers with other bytes than it should
	calls   map[string]int
	sources int
	onCall  func(verb string) // before each answer; not under mu
	wrapped [][]byte          // everything it was given to wrap
}

type vaultKey struct {
	versions []*vaultVersion // the newest last
}

type vaultVersion struct {
	id          string
	aead        cipher.AEAD
	description keysource.Description
	gone        bool
}

func newVault(address string) *vault {
	return &vault{address: address, keys: map[string]*vaultKey{}, denied: map[visage.PrincipalID]keysource.Reason{},
		verbs: map[string]error{}, calls: map[string]int{}}
}

// add makes a new version of a key and returns a reference with that version.
func (v *vault) add(name string) visage.KeyRef {
	v.mu.Lock()
	defer v.mu.Unlock()
	random := make([]byte, 48)
	rand.Read(random)
	block, err := aes.NewCipher(random[:32])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	id := fmt.Sprintf("%x", random[32:])
	key := v.keys[name]
	if key == nil {
		key = &vaultKey{}
		v.keys[name] = key
	}
	key.versions = append(key.versions, &vaultVersion{id: id, aead: aead, description: keysource.Description{
		Ref: keysource.Ref{URI: v.address + "/keys/" + name, Version: id}, Algorithm: "RSA-OAEP-256", Enabled: true,
		KeyType: "RSA", Bits: 2048, Operations: []string{"wrapKey", "unwrapKey"}, Recovery: "Recoverable",
	}})
	return visage.KeyRef{Vault: v.address, Name: name, Version: id}
}

// change changes the newest version of a key.
func (v *vault) change(name string, fn func(*keysource.Description)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	versions := v.keys[name].versions
	fn(&versions[len(versions)-1].description)
}

// enable sets whether the versions of a key may be used.
func (v *vault) enable(name string, on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, version := range v.keys[name].versions {
		version.description.Enabled = on
	}
}

func (v *vault) set(fn func(*vault)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	fn(v)
}

func (v *vault) called(verb string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.calls[verb]
}

// vaults are all vaults there are, and the way to them.
type vaults map[string]*vault

func (all vaults) open(_ context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
	v := all[key.Vault]
	if v == nil {
		return nil, visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties", "The vault is none of those spoken to.")
	}
	v.set(func(v *vault) { v.sources++ })
	return &vaultSource{v, key, as}, nil
}

type vaultSource struct {
	v   *vault
	key visage.KeyRef
	as  visage.PrincipalID
}

func refuse(class error, reason keysource.Reason, text string) error {
	return &keysource.Error{Class: class, Reason: reason, Text: text}
}

// version finds a version; empty: the newest. v.mu is held.
func (s *vaultSource) version(ctx context.Context, verb, version string) (*vaultVersion, error) {
	v := s.v
	v.calls[verb]++
	switch reason, denied := v.denied[s.as]; {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case v.fail != nil:
		return nil, v.fail
	case denied:
		return nil, refuse(keysource.ErrDenied, reason, verb+" is not for "+string(s.as))
	case v.verbs[verb] != nil:
		return nil, v.verbs[verb]
	}
	if key := v.keys[s.key.Name]; key != nil {
		for i := len(key.versions) - 1; i >= 0; i-- {
			if found := key.versions[i]; !found.gone && (version == "" || version == found.id) {
				return found, nil
			}
		}
	}
	return nil, refuse(keysource.ErrDenied, keysource.Missing, "no such key")
}

func (s *vaultSource) hook(verb string) {
	s.v.mu.Lock()
	hook := s.v.onCall
	s.v.mu.Unlock()
	if hook != nil {
		hook(verb)
	}
}

func (s *vaultSource) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	s.hook("wrapKey")
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	version, err := s.version(ctx, "wrapKey", s.key.Version)
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	if err := version.usable(); err != nil {
		return nil, keysource.Ref{}, err
	}
	s.v.wrapped = append(s.v.wrapped, bytes.Clone(inner))
	return version.aead.Seal(nil, nil, inner, nil), version.description.Ref, nil
}

func (s *vaultSource) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	s.hook("unwrapKey")
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	if ref.URI != s.key.Unversioned() {
		return nil, refuse(keysource.ErrWrong, "", "another key")
	}
	version, err := s.version(ctx, "unwrapKey", ref.Version)
	if err != nil {
		return nil, err
	}
	if err := version.usable(); err != nil {
		return nil, err
	}
	inner, err := version.aead.Open(nil, nil, blob, nil)
	if err != nil {
		return nil, refuse(keysource.ErrWrong, "", "does not open")
	}
	if s.v.lie {
		inner[0] ^= 1
	}
	return inner, nil
}

func (v *vaultVersion) usable() error {
	if !v.description.Enabled {
		return refuse(keysource.ErrDenied, keysource.Disabled, "the key is disabled")
	}
	return nil
}

func (s *vaultSource) Describe(ctx context.Context, ref keysource.Ref) (keysource.Description, error) {
	s.hook("get")
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	want := s.key.Version
	if ref != (keysource.Ref{}) {
		want = ref.Version
	}
	version, err := s.version(ctx, "get", want)
	if err != nil {
		return keysource.Description{}, err
	}
	return version.description, nil
}

// journal keeps what custody tells the audit.
type journal struct {
	mu     sync.Mutex
	events []audit.Event
	fail   error
}

func (j *journal) Append(_ context.Context, e audit.Event) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fail != nil {
		return j.fail
	}
	j.events = append(j.events, e)
	return nil
}

func (j *journal) count(kind audit.Kind, outcome audit.Outcome) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.events {
		if e.Kind == kind && e.Outcome == outcome {
			n++
		}
	}
	return n
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

// rig is a store with one space of data, two vaults, and custody over them.
type rig struct {
	t       *testing.T
	cfg     sealed.Config
	store   *sealed.Store
	custody *custody.Custody
	journal *journal
	vaults  vaults
	policy  custody.Policy
	check   custody.Vaults

	stop context.CancelFunc
	done chan struct{}
}

const (
	firstVault  = "https://first.vault.example"
	secondVault = "https://second.vault.example"
)

func newRig(t *testing.T, cfg sealed.Config) *rig {
	t.Helper()
	return newRigWith(t, cfg, custody.Policy{}, nil)
}

func newRigWith(t *testing.T, cfg sealed.Config, policy custody.Policy, check custody.Vaults) *rig {
	t.Helper()
	r := &rig{t: t, cfg: cfg, policy: policy, check: check, journal: &journal{}, vaults: vaults{
		firstVault: newVault(firstVault), secondVault: newVault(secondVault),
	}}
	r.openStore()
	if err := r.store.Create(t.Context(), spaceA); err != nil {
		t.Fatal(err)
	}
	r.write(spaceA, 3)
	r.openCustody()
	t.Cleanup(r.close)
	return r
}

func (r *rig) first() *vault  { return r.vaults[firstVault] }
func (r *rig) second() *vault { return r.vaults[secondVault] }

func memory() sealed.Config {
	return sealed.Config{Engine: "memory:", Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("test")}}}
}

func onDisk(t *testing.T) sealed.Config {
	cfg, dir := memory(), t.TempDir()
	cfg.Engine, cfg.KeyDir = "pebble:"+filepath.Join(dir, "data"), filepath.Join(dir, "keys")
	return cfg
}

func (r *rig) openStore() {
	r.t.Helper()
	store, err := sealed.Open(r.t.Context(), r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.store = store
}

func (r *rig) openCustody() {
	r.t.Helper()
	c, err := custody.New(r.t.Context(), custody.Config{
		Store: r.store, Open: r.vaults.open, Audit: r.journal, Policy: r.policy, Vaults: r.check,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.custody = c
}

// run has custody run until close or halt.
func (r *rig) run() {
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

// halt ends what run began.
func (r *rig) halt() {
	if r.stop != nil {
		r.stop()
		<-r.done
		r.stop = nil
	}
}

func (r *rig) close() {
	r.halt()
	if r.store != nil {
		if err := r.store.Close(); err != nil {
			r.t.Errorf("close the store: %v", err)
		}
		r.store = nil
	}
}

// restart opens the same store anew, with a new custody that does not run yet.
func (r *rig) restart() {
	r.t.Helper()
	r.close()
	r.openStore()
	r.openCustody()
}

func (r *rig) write(id sealed.SpaceID, n int) {
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
func (r *rig) read(id sealed.SpaceID) error {
	return r.store.Space(id).View(r.t.Context(), func(rd sealed.Reader) error {
		got, err := items.In("list").Get(rd, "item 1")
		if err == nil && got.Text != secretly {
			err = fmt.Errorf("read %q", got.Text)
		}
		return err
	})
}

func (r *rig) state(id sealed.SpaceID) custody.State {
	r.t.Helper()
	s, err := r.custody.State(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// enabled puts the space under a key and waits until that is done.
func (r *rig) enabled(id sealed.SpaceID, key visage.KeyRef) {
	r.t.Helper()
	if _, err := r.custody.Enable(r.t.Context(), id, key, principal); err != nil {
		r.t.Fatal(err)
	}
	r.settled(id)
}

// settled waits until no change is under way.
func (r *rig) settled(id sealed.SpaceID) custody.State {
	r.t.Helper()
	return r.until(id, "the change to end", func(s custody.State) bool { return s.Operation.Progress != custody.Running })
}

// until waits for a state. In a bubble its time is the bubble's.
func (r *rig) until(id sealed.SpaceID, what string, is func(custody.State) bool) custody.State {
	r.t.Helper()
	for range 100_000 {
		s := r.state(id)
		if is(s) {
			return s
		}
		<-time.After(time.Millisecond)
	}
	r.t.Fatalf("waited in vain for %s: %+v", what, r.state(id))
	return custody.State{}
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
