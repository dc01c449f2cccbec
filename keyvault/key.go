package keyvault

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Operation is what a key can be used for, spelled as the contract has it (§A4).
type Operation string

// The operations of keys.
const (
	Encrypt Operation = "encrypt"
	Decrypt Operation = "decrypt"
	Sign    Operation = "sign"
	Verify  Operation = "verify"
	Wrap    Operation = "wrapKey"
	Unwrap  Operation = "unwrapKey"
)

// importOp may stand among the operations of a key; only hardware modules have a use for it.
const importOp Operation = "import"

func parseOperations(ops []Operation) ([]Operation, error) {
	known := []Operation{Encrypt, Decrypt, Sign, Verify, Wrap, Unwrap, importOp}
	out := make([]Operation, 0, len(ops))
	for _, op := range ops {
		i := slices.IndexFunc(known, func(k Operation) bool { return strings.EqualFold(string(k), string(op)) })
		if i < 0 {
			return nil, invalid("The key operation %q is not one of %v.", op, known)
		}
		if !slices.Contains(out, known[i]) {
			out = append(out, known[i])
		}
	}
	return out, nil
}

// Attributes are when a key may be used.
type Attributes struct {
	Enabled   bool
	NotBefore time.Time // zero: not said; whole seconds
	Expires   time.Time // likewise
}

// Key is one version of a key, without its private part.
type Key struct {
	Vault Vault // the vault it lies in
	Ref         // with the version; Vault and Name as they were given at creation
	Attributes
	Public     Public
	Operations []Operation
	Tags       map[string]string
	Created    time.Time
	Updated    time.Time
	Deleted    time.Time // zero: it is not
	PurgeAt    time.Time // when a deleted key goes for good
}

// keyRecord is what all versions of a key share, stored under its name in lower case in the vault's container.
type keyRecord struct {
	ID      string // random: containers of versions are named by it
	Name    string
	Current string // the newest version
	Count   int    // of versions, which numbers them
	Policy  *RotationPolicy
	Deleted int64 // nanoseconds since 1970; 0: it is not
	PurgeAt int64
}

// versionRecord is one version. Times are seconds since 1970, as the contract has them; 0: not said.
type versionRecord struct {
	ID         string
	Number     int // from 1
	Public     Public
	Operations []Operation
	Tags       map[string]string
	Enabled    bool
	NotBefore  int64
	Expires    int64
	Created    int64
	Updated    int64
	Notified   bool // the rotation policy's notice was given
}

// privateRecord is a private key in PKCS #8 (RFC 5958). It is opened for one operation and wiped.
type privateRecord struct{ PKCS8 []byte }

var (
	keys     = sealed.NewTable[keyRecord]("keyvault/key", 1)
	versions = sealed.NewTable[versionRecord]("keyvault/version", 1)
	privates = sealed.NewTable[privateRecord]("keyvault/private", 1)
)

func fromSeconds(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

func toSeconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func (v versionRecord) key(vault vaultRecord, k keyRecord) Key {
	return Key{
		Vault: vault.vault(), Ref: Ref{vault.Name, k.Name, v.ID}, Public: v.Public, Operations: v.Operations, Tags: v.Tags,
		Attributes: Attributes{v.Enabled, fromSeconds(v.NotBefore), fromSeconds(v.Expires)},
		Created:    fromSeconds(v.Created), Updated: fromSeconds(v.Updated),
		Deleted: fromNanos(k.Deleted), PurgeAt: fromNanos(k.PurgeAt),
	}
}

// NewKey says what key to make.
type NewKey struct {
	Type       string // RSA, RSA-HSM, EC, EC-HSM
	Bits       int    // RSA: 2048 (also for 0), 3072, 4096
	Curve      string // EC: P-256 (also for empty), P-384, P-521
	Operations []Operation
	Attributes
	Tags map[string]string
}

// CreateKey makes a key, or a new version of one that exists. Refusals: BadParameter, Forbidden, VaultNotFound, Conflict
// when a deleted key has the name.
func (s *Service) CreateKey(ctx context.Context, who Caller, ref Ref, want NewKey) (Key, error) {
	e := Event{Operation: "KeyCreate"}
	return s.add(ctx, who, ref, MayCreate, e, func(vault vaultRecord, _ *versionRecord) (material, versionRecord, error) {
		v, err := fresh(want.Operations, want.Type, want.Attributes, want.Tags)
		if err != nil {
			return material{}, v, err
		}
		m, err := generate(want.Type, want.Bits, want.Curve, vault.Premium)
		v.Public = m.public
		return m, v, err
	})
}

// ImportedKey is a key that was made elsewhere.
type ImportedKey struct {
	JWK        JWK // with its private parts
	HSM        bool
	Operations []Operation
	Attributes
	Tags map[string]string
}

// ImportKey stores a key that was made elsewhere, as a key or as a new version of one. Refusals: as CreateKey.
func (s *Service) ImportKey(ctx context.Context, who Caller, ref Ref, want ImportedKey) (Key, error) {
	e := Event{Operation: "KeyImport"}
	return s.add(ctx, who, ref, MayImport, e, func(vault vaultRecord, _ *versionRecord) (material, versionRecord, error) {
		m, err := want.JWK.material(want.HSM, vault.Premium)
		if err != nil {
			return material{}, versionRecord{}, err
		}
		v, err := fresh(want.Operations, m.public.Type, want.Attributes, want.Tags)
		v.Public = m.public
		return m, v, err
	})
}

// fresh checks what a client may say about a new version.
func fresh(ops []Operation, kty string, a Attributes, tags map[string]string) (versionRecord, error) {
	ops, err := parseOperations(ops)
	if err != nil {
		return versionRecord{}, err
	}
	if len(ops) == 0 {
		ops = []Operation{Encrypt, Decrypt, Sign, Verify, Wrap, Unwrap} // the order that clients know
		if isEC(kty) {
			ops = []Operation{Sign, Verify}
		}
	}
	if err := checkTags(tags); err != nil {
		return versionRecord{}, err
	}
	if err := checkDates(a.NotBefore, a.Expires); err != nil {
		return versionRecord{}, err
	}
	return versionRecord{
		Operations: ops, Tags: tags, Enabled: a.Enabled, NotBefore: toSeconds(a.NotBefore), Expires: toSeconds(a.Expires),
	}, nil
}

func checkDates(notBefore, expires time.Time) error {
	if !notBefore.IsZero() && !expires.IsZero() && !expires.After(notBefore) {
		return invalid("The attribute exp must be later than nbf.")
	}
	return nil
}

// add puts a new version into a key, which it makes when there is none. build makes the version, outside of any
// transaction, since making a key takes long; it gets the present version, nil when there is none.
func (s *Service) add(
	ctx context.Context, who Caller, ref Ref, need Permission, e Event,
	build func(vaultRecord, *versionRecord) (material, versionRecord, error),
) (made Key, err error) {
	e.Vault, e.Who, e.KeyID = ref.Vault, who, s.KeyID(Ref{Vault: ref.Vault, Name: ref.Name})
	err = s.audited(ctx, e, func(e *Event) error {
		if err := checkKeyName(ref.Name); err != nil {
			return err
		}
		vault, err := s.enter(ctx, who, ref.Vault, need)
		if err != nil {
			return err
		}
		present, err := s.present(ctx, vault, ref)
		if need == MayRotate && isRefusal(err) {
			return noKey(ref) // it is deleted, and only a name that is to be used again is in conflict with that
		}
		if err != nil {
			return err
		}
		m, v, err := build(vault, present)
		if err != nil {
			return err
		}
		defer m.wipe()
		v.ID = newVersion()
		err = s.space.Update(ctx, func(tx sealed.Tx) error {
			if vault, err = liveVault(tx, ref.Vault); err != nil {
				return err
			}
			k, err := keyForVersion(tx, vault, ref)
			if err != nil {
				return err
			}
			if need == MayRotate && (present == nil || k.Current != present.ID) {
				return conflict("", "Key %s got another version while it was rotated. Try again.", ref.Name)
			}
			v, err := appendVersion(tx, vault, &k, v, m.pkcs8)
			if err != nil {
				return err
			}
			made = v.key(vault, k)
			return keys.In(vault.ID).Put(tx, strings.ToLower(ref.Name), k)
		})
		if err != nil {
			return wrap("store key", err)
		}
		e.KeyID = s.KeyID(made.Ref)
		return nil
	})
	if err != nil {
		return Key{}, err
	}
	s.changed(made.Ref)
	s.poke()
	return made, nil
}

// enter returns the record of a vault in which the caller has a permission.
func (s *Service) enter(ctx context.Context, who Caller, name string, need Permission) (vaultRecord, error) {
	var rec vaultRecord
	err := s.space.View(ctx, func(r sealed.Reader) error {
		var err error
		rec, err = liveVault(r, name)
		return err
	})
	if err != nil {
		return vaultRecord{}, wrap("read vault", err)
	}
	return rec, s.authorise(ctx, who, rec.vault(), need)
}

// present returns the newest version of a key; nil when there is no such key. A deleted one is a refusal.
func (s *Service) present(ctx context.Context, vault vaultRecord, ref Ref) (*versionRecord, error) {
	var v *versionRecord
	err := s.space.View(ctx, func(r sealed.Reader) error {
		v = nil
		k, err := keyForVersion(r, vault, ref)
		if err != nil || k.Current == "" {
			return err
		}
		rec, err := versions.In(vault.ID, k.ID).Get(r, k.Current)
		v = &rec
		return err
	})
	return v, wrap("read key", err)
}

// keyForVersion returns the record of a key that gets a version; a new one when there is none.
func keyForVersion(r sealed.Reader, vault vaultRecord, ref Ref) (keyRecord, error) {
	k, err := keys.In(vault.ID).Get(r, strings.ToLower(ref.Name))
	if errors.Is(err, sealed.ErrNotFound) {
		return keyRecord{ID: newVersion(), Name: ref.Name}, nil
	}
	if err == nil && k.Deleted != 0 {
		return k, conflict("ObjectIsDeletedButRecoverable",
			"Key %s is currently in a deleted but recoverable state, and its name cannot be reused: recover or purge it.", k.Name)
	}
	return k, err
}

// appendVersion stores v as the newest version of k.
func appendVersion(
	tx sealed.Tx, vault vaultRecord, k *keyRecord, v versionRecord, pkcs8 []byte,
) (versionRecord, error) {
	k.Count++
	k.Current = v.ID
	v.Number = k.Count
	if v.Created == 0 {
		v.Created = time.Now().Unix()
		v.Updated = v.Created
	}
	if err := versions.In(vault.ID, k.ID).Put(tx, v.ID, v); err != nil {
		return v, err
	}
	return v, privates.In(vault.ID, k.ID).Put(tx, v.ID, privateRecord{pkcs8})
}

// find returns a live key and the version that ref names, the newest when it names none.
func find(r sealed.Reader, vault vaultRecord, ref Ref) (keyRecord, versionRecord, error) {
	k, err := keys.In(vault.ID).Get(r, strings.ToLower(ref.Name))
	if errors.Is(err, sealed.ErrNotFound) || err == nil && k.Deleted != 0 {
		return k, versionRecord{}, noKey(ref)
	}
	if err != nil {
		return k, versionRecord{}, err
	}
	id := strings.ToLower(ref.Version)
	if id == "" {
		id = k.Current
	}
	v, err := versions.In(vault.ID, k.ID).Get(r, id)
	if errors.Is(err, sealed.ErrNotFound) && ref.Version != "" {
		return k, v, noKey(ref)
	}
	return k, v, err
}

// with runs do on the live key that ref names, as one operation of the audit, inside a transaction that may write. do
// may run twice.
func (s *Service) with(
	ctx context.Context, who Caller, ref Ref, need Permission, operation string,
	do func(sealed.Tx, vaultRecord, keyRecord, versionRecord) error,
) error {
	e := Event{Operation: operation, Vault: ref.Vault, Who: who, KeyID: s.KeyID(ref)}
	return s.audited(ctx, e, func(e *Event) error {
		if _, err := s.enter(ctx, who, ref.Vault, need); err != nil {
			return err
		}
		err := s.space.Update(ctx, func(tx sealed.Tx) error {
			vault, err := liveVault(tx, ref.Vault)
			if err != nil {
				return err
			}
			k, v, err := find(tx, vault, ref)
			if err != nil {
				return err
			}
			return do(tx, vault, k, v)
		})
		return wrap("change key", err)
	})
}

// Key returns a version of a key, the newest when ref names none. Refusals: Forbidden, also for a key that is disabled;
// KeyNotFound, VaultNotFound.
func (s *Service) Key(ctx context.Context, who Caller, ref Ref) (found Key, err error) {
	e := Event{Operation: "KeyGet", Vault: ref.Vault, Who: who, KeyID: s.KeyID(ref)}
	err = s.audited(ctx, e, func(e *Event) error {
		vault, err := s.enter(ctx, who, ref.Vault, MayGet)
		if err != nil {
			return err
		}
		err = s.space.View(ctx, func(r sealed.Reader) error {
			k, v, err := find(r, vault, ref)
			if err != nil {
				return err
			}
			found = v.key(vault, k)
			return nil
		})
		if err != nil {
			return wrap("read key", err)
		}
		e.KeyID = s.KeyID(found.Ref)
		if !found.Enabled {
			return disabled(found.Ref)
		}
		return nil
	})
	if err != nil {
		return Key{}, err
	}
	return found, nil
}

func disabled(ref Ref) error {
	return forbidden("KeyDisabled", "Operation is not allowed on a disabled key: %s/%s. Enable it first.", ref.Name,
		ref.Version)
}

// KeyChange is what to change about a version; nil is left as it is.
type KeyChange struct {
	Operations         []Operation
	Enabled            *bool
	NotBefore, Expires *time.Time        // a zero time takes the date away
	Tags               map[string]string // in place of all there were
}

// UpdateKey changes a version of a key, the newest when ref names none. Its material never changes. Refusals: as Key,
// but a disabled key can be changed; BadParameter.
func (s *Service) UpdateKey(ctx context.Context, who Caller, ref Ref, change KeyChange) (changed Key, err error) {
	err = s.with(ctx, who, ref, MayUpdate, "KeyUpdate", func(
		tx sealed.Tx, vault vaultRecord, k keyRecord, v versionRecord,
	) error {
		if change.Operations != nil {
			ops, err := parseOperations(change.Operations)
			if err != nil {
				return err
			}
			v.Operations = ops
		}
		if change.Enabled != nil {
			v.Enabled = *change.Enabled
		}
		if change.NotBefore != nil {
			v.NotBefore = toSeconds(*change.NotBefore)
		}
		if change.Expires != nil {
			v.Expires, v.Notified = toSeconds(*change.Expires), false
		}
		if change.Tags != nil {
			v.Tags = change.Tags
		}
		if err := checkTags(v.Tags); err != nil {
			return err
		}
		if err := checkDates(fromSeconds(v.NotBefore), fromSeconds(v.Expires)); err != nil {
			return err
		}
		v.Updated = time.Now().Unix()
		changed = v.key(vault, k)
		return versions.In(vault.ID, k.ID).Put(tx, v.ID, v)
	})
	if err != nil {
		return Key{}, err
	}
	s.changed(changed.Ref)
	s.poke()
	return changed, nil
}

// keysOf returns the records of all keys of a vault, deleted or not, sorted by name.
func keysOf(r sealed.Reader, vault vaultRecord) ([]keyRecord, error) {
	var all []keyRecord
	for k, err := range keys.In(vault.ID).All(r) {
		if err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b keyRecord) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	return all, nil
}

// isRefusal tells what a caller is told from failures of ours.
func isRefusal(err error) bool {
	_, ok := errors.AsType[*visage.Refusal](err)
	return ok
}
