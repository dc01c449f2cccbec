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

// Import opens keys that were wrapped for the vault. It is the one operation of a key exchange key.
const Import Operation = "import"

func parseOperations(ops []Operation) ([]Operation, error) {
	known := []Operation{Encrypt, Decrypt, Sign, Verify, Wrap, Unwrap, Import}
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
		Vault: vault.vault(), Ref: Ref{vault.Name, k.Name, v.ID}, Public: v.Public, Operations: v.Operations,
		Tags:       v.Tags,
		Attributes: Attributes{v.Enabled, fromSeconds(v.NotBefore), fromSeconds(v.Expires)},
		Created:    fromSeconds(v.Created), Updated: fromSeconds(v.Updated),
		Deleted: fromNanos(k.Deleted), PurgeAt: fromNanos(k.PurgeAt),
	}
}

// enter returns the record of a vault in which the caller has a permission.
func (s *Service) enter(ctx context.Context, who visage.Caller, name string, need Permission) (vaultRecord, error) {
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
// may run twice. OnChange is called if the operation changes how the key may be used.
func (s *Service) with(
	ctx context.Context, who visage.Caller, ref Ref, need Permission, operation string,
	do func(sealed.Tx, vaultRecord, keyRecord, versionRecord) error,
) error {
	e := event{Operation: operation, Vault: ref.Vault, Who: storable(who), KeyID: s.KeyID(ref)}
	return s.audited(ctx, e, func(e *event) error {
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
			if need == MayUpdate {
				e.KeyID = s.KeyID(Ref{vault.Name, k.Name, v.ID})
			}
			ref.Name = k.Name
			return do(tx, vault, k, v)
		})
		if err == nil && (need == MayUpdate || need == MayDelete) {
			s.changed(ref)
		}
		return wrap("change key", err)
	})
}

// Key returns a version of a key, the newest when ref names none. Refusals: Forbidden, also for a key that is disabled;
// KeyNotFound, VaultNotFound.
func (s *Service) Key(ctx context.Context, who visage.Caller, ref Ref) (found Key, err error) {
	e := event{Operation: "KeyGet", Vault: ref.Vault, Who: storable(who), KeyID: s.KeyID(ref)}
	err = s.audited(ctx, e, func(e *event) error {
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
		if !found.Enabled && !who.Manager { // who manages keys looks at the disabled ones too
			return disabled(found.Ref)
		}
		return nil
	})
	if err != nil {
		return Key{}, err
	}
	return found, nil
}

// Release refuses to release a key to an attested environment: vaults keep keys in software, and only keys in hardware
// modules can be released. Each try is recorded. Refusals: as of Use, and Forbidden.
func (s *Service) Release(ctx context.Context, who visage.Caller, ref Ref) error {
	e := event{Operation: "KeyRelease", Vault: ref.Vault, Who: storable(who), KeyID: s.KeyID(ref)}
	return s.audited(ctx, e, func(e *event) error {
		vault, err := s.enter(ctx, who, ref.Vault, MayRelease)
		if err != nil {
			return err
		}
		var found Key
		err = s.space.View(ctx, func(r sealed.Reader) error {
			k, v, err := find(r, vault, ref)
			if err == nil {
				found = v.key(vault, k)
			}
			return err
		})
		if err != nil {
			return wrap("read key", err)
		}
		e.KeyID = s.KeyID(found.Ref)
		if !found.Enabled {
			return disabled(found.Ref)
		}
		return forbidden("", "The key %s/%s is not exportable: keys of this vault are in software and never leave it, "+
			"so none is released. Wrap and unwrap with the key in the vault instead.", found.Ref.Name,
			found.Ref.Version)
	})
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
func (s *Service) UpdateKey(
	ctx context.Context, who visage.Caller, ref Ref, change KeyChange,
) (changed Key, err error) {
	err = s.with(ctx, who, ref, MayUpdate, "KeyUpdate", func(
		tx sealed.Tx, vault vaultRecord, k keyRecord, v versionRecord,
	) error {
		if change.Operations != nil {
			ops, err := parseOperations(change.Operations)
			if err != nil {
				return err
			}
			if err := checkExchangeChange(v.Operations, ops); err != nil {
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
	slices.SortFunc(
		all, func(a, b keyRecord) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) },
	)
	return all, nil
}

// isRefusal reports whether an error is a refusal, and not a failure of the service.
func isRefusal(err error) bool {
	_, ok := errors.AsType[*visage.Refusal](err)
	return ok
}
