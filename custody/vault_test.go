package custody_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
)

// vault is a customer's vault that a test controls. Its keys really wrap: an answer that is not set to lie opens only
// with its own version.
type vault struct {
	mu      sync.Mutex
	address string
	keys    map[string]*vaultKey
	denied  map[visage.PrincipalID]keysource.Reason // principals without access, and why
	verbs   map[string]error                        // the error of a verb: "get", "wrapKey", "unwrapKey"
	fail    error                                   // the error of every verb
	lie     bool                                    // answer with wrong bytes
	calls   map[string]int
	sources int
	delay   map[string]time.Duration // how long a verb takes, unless its context ends
	onCall  func(verb string)        // before each answer; not under mu
	onReply func(verb string)        // when an answer is settled and before it is sent; not under mu
	onRead  func()                   // as onReply, of "get"
	wrapped [][]byte                 // everything that it was asked to wrap
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

// enable enables or disables the versions of a key.
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

// vaults are all vaults by host, and open their keys.
type vaults map[string]*vault

func (all vaults) open(_ context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
	v := all[key.Vault]
	if v == nil {
		return nil, visage.Refuse(visage.Invalid, "InvalidKeyVaultProperties", "The vault is unknown.")
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

func (s *vaultSource) hook(ctx context.Context, verb string) {
	s.v.mu.Lock()
	hook, delay := s.v.onCall, s.v.delay[verb]
	s.v.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-time.After(delay):
	}
	if hook != nil {
		hook(verb)
	}
}

func (s *vaultSource) Wrap(ctx context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	s.hook(ctx, "wrapKey")
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	version, err := s.version(ctx, "wrapKey", s.key.Version)
	if err != nil {
		return nil, keysource.Ref{}, err
	}
	if err := version.usable(); err != nil {
		return nil, keysource.Ref{}, err
	}
	if ends := version.description.Expires; !ends.IsZero() && !time.Now().Before(ends) {
		return nil, keysource.Ref{}, refuse(keysource.ErrExpired, keysource.Expired, "the key has expired")
	}
	s.v.wrapped = append(s.v.wrapped, bytes.Clone(inner))
	return version.aead.Seal(nil, nil, inner, nil), version.description.Ref, nil
}

func (s *vaultSource) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) ([]byte, error) {
	s.hook(ctx, "unwrapKey")
	defer func() {
		s.v.mu.Lock()
		hook := s.v.onReply
		s.v.mu.Unlock()
		if hook != nil {
			hook("unwrapKey")
		}
	}()
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
	s.hook(ctx, "get")
	defer func() {
		s.v.mu.Lock()
		hook := s.v.onRead
		s.v.mu.Unlock()
		if hook != nil {
			hook()
		}
	}()
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
