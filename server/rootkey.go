package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/keysource/tpm"
	"github.com/visage-face/visage/sealed"
)

// protectors makes the protectors of Config.RootKeys. On the first start of an instance, a missing key file is created.
// Later it is not: a new key would not open the existing data, and would hide that the old key is missing.
func (c Config) protectors(first bool) ([]sealed.Protector, error) {
	var protectors []sealed.Protector
	for _, entry := range c.RootKeys {
		p, err := c.protector(entry)
		if err != nil {
			return nil, err
		}
		source, err := p.open(first)
		if err != nil {
			return nil, fmt.Errorf("root key %s: %w", entry, err)
		}
		// A name is the kind, not the place: a key file that was moved is the same protector. A second one of a kind
		// has a number.
		name, nth := p.kind, 1
		for slices.ContainsFunc(protectors, func(p sealed.Protector) bool { return p.Name == name }) {
			nth++
			name = fmt.Sprintf("%s %d", p.kind, nth)
		}
		protectors = append(protectors,
			sealed.Protector{Name: name, Kind: p.kind, Entry: cmp.Or(p.spelled, entry), Exposed: p.exposed,
				Fingerprint: p.spelled == "", Source: source})
	}
	return protectors, nil
}

// openStoreInTime opens the store, and waits for a protector, or a place of the epoch keys, that may answer later.
func (s *Server) openStoreInTime(ctx context.Context) (*sealed.Store, error) {
	const longest = 30 * time.Second // between two tries
	until := time.Now().Add(s.cfg.RootKeyWait)
	for pause := time.Second; ; pause = min(2*pause, longest) {
		store, err := s.cfg.openStore(ctx, s.note)
		_, away := errors.AsType[*sealed.KeysAwayError](err)
		away = away && !errors.Is(err, keysource.ErrDenied) // a refusal does not end by itself
		if err == nil || !away && !mayAnswerLater(err) {
			return store, err
		}
		if err := s.cfg.rootStores.close(); err != nil { // the next try makes its own connections
			return nil, err
		}
		left := time.Until(until)
		if left <= 0 {
			return nil, fmt.Errorf("%w; this start has waited %v for an answer (root-key-wait)", err,
				s.cfg.RootKeyWait)
		}
		what := "no protector opens the root key, and one does not answer: the start tries again"
		if away {
			what = "the place of the epoch keys does not answer: the start tries again"
		}
		s.log.Warn(what, "until", until.UTC().Format(time.RFC3339), "err", err)
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(min(pause, left)):
		}
	}
}

// mayAnswerLater reports whether a root that was not opened may open later: a protector gave no answer that is not a
// file, a variable or a passphrase, whose absence does not end by itself. A TPM that is locked out is not asked again,
// which may prolong that.
func mayAnswerLater(err error) bool {
	root, ok := errors.AsType[*sealed.RootError](err)
	return ok && slices.ContainsFunc(root.Tried, func(p sealed.ProtectorError) bool {
		kind, _, _ := strings.Cut(p.Name, " ")
		return !slices.Contains([]string{"file", "env", "passphrase"}, kind) &&
			errors.Is(p.Err, keysource.ErrUnknown) && !errors.Is(p.Err, tpm.ErrLockedOut)
	})
}

// PINError says that the token with a key that protects the root key accepts no login with the PIN that it was given.
// After a start that ends with one, nothing may start the service again by itself: each start tries the PIN once, and
// tokens lock it after a few attempts.
type PINError struct{ err error }

// Error returns what the token has said.
func (e *PINError) Error() string { return e.err.Error() }

// Unwrap returns the *keysource.Error.
func (e *PINError) Unwrap() error { return e.err }

// rootStores are the key stores that protect the root key, with their connections.
type rootStores struct {
	mu   sync.Mutex // guards sets
	sets []rootStore
}

// rootStore is the key store of one protector.
type rootStore struct {
	entry string // of the settings, in its one spelling
	set   *stores.Set
}

// add adds the store of a protector.
func (r *rootStores) add(entry string, set *stores.Set) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sets = append(r.sets, rootStore{entry, set})
}

// forget ends the helpers of the store of a protector that is not used after all.
func (r *rootStores) forget(source keysource.Source) {
	if in, stored := source.(impatient); stored {
		r.end(func(s rootStore) bool { return s.set == in.set })
	}
}

// removed ends the helpers of the store of a protector that was removed.
func (r *rootStores) removed(entry string) {
	r.end(func(s rootStore) bool { return s.entry == entry })
}

func (r *rootStores) end(which func(rootStore) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sets = slices.DeleteFunc(r.sets, func(s rootStore) bool {
		if which(s) {
			s.set.Close()
			return true
		}
		return false
	})
}

// close ends the helpers of the stores.
func (r *rootStores) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sets {
		s.set.Close()
	}
	r.sets = nil
	return nil
}

// storedProtector is a key in a key store of the settings. A store that was added while the server ran will not do: its
// description is sealed under the root key.
func (c Config) storedProtector(entry string) (protector, error) {
	key, err := stores.ParseKey(entry, "", "")
	if err != nil {
		return protector{}, err
	}
	scheme, _, _ := strings.Cut(strings.ToLower(entry), ":")
	return protector{kind: scheme, spelled: key.String(), open: func(bool) (keysource.Source, error) {
		all := c.KeyStores
		if c.KeyStoresFile != "" {
			read, err := stores.Read(c.KeyStoresFile)
			if err != nil {
				return nil, err
			}
			all = slices.Concat(all, read)
		}
		for _, store := range all {
			if address, err := stores.AddressOf(store.Address); err != nil || address != key.Vault {
				continue
			}
			if store.Federates() {
				return nil, fmt.Errorf("the login to the key store %s is by federation (%s): its tokens are signed "+
					"with a key that the root key seals, so they cannot open the root key; describe the store with a "+
					"login by a secret, in an instance of its own if need be", key.Vault, store.Login.Method)
			}
			set, err := stores.NewSet([]stores.Store{store}, c.Logger, c.keyStoreMemory)
			if err != nil {
				return nil, err
			}
			source, err := set.OpenForInstance(key, rootPrincipal)
			if err != nil {
				set.Close()
				return nil, err
			}
			c.rootStores.add(key.String(), set)
			return impatient{source, set, scheme == "pkcs11"}, nil
		}
		return nil, fmt.Errorf("the key store %s of the root key is not in the settings (key-stores): one that was "+
			"added while the server ran cannot be used, since its description is sealed under the root key", key.Vault)
	}}, nil
}

// rootPrincipal stands for an identity where the names of keys have one. The ids of identities are UUIDs, so that no
// resource reaches the key of the root key.
const rootPrincipal = "root"

// impatient ends calls of a source that take too long, as calls without an answer.
type impatient struct {
	keysource.Source
	set *stores.Set // with its store alone
	pin bool        // it logs in with a PIN
}

// rootCallTime bounds one call of a protector in a key store.
const rootCallTime = 20 * time.Second

func (i impatient) limited(ctx context.Context, call func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, rootCallTime)
	defer cancel()
	err := call(bounded)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
		return &keysource.Error{Class: keysource.ErrUnknown,
			Text: fmt.Sprintf("the key store has not answered within %v", rootCallTime)}
	}
	if e, answered := errors.AsType[*keysource.Error](err); i.pin && answered && e.Reason == keysource.NoIdentity {
		return &PINError{err}
	}
	return err
}

// Wrap implements keysource.Source.
func (i impatient) Wrap(ctx context.Context, inner []byte) (blob []byte, ref keysource.Ref, err error) {
	err = i.limited(ctx, func(ctx context.Context) error {
		blob, ref, err = i.Source.Wrap(ctx, inner)
		return err
	})
	return blob, ref, err
}

// Unwrap implements keysource.Source.
func (i impatient) Unwrap(ctx context.Context, ref keysource.Ref, blob []byte) (inner []byte, err error) {
	err = i.limited(ctx, func(ctx context.Context) error {
		inner, err = i.Source.Unwrap(ctx, ref, blob)
		return err
	})
	return inner, err
}
