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

// NewKey says what key to make.
type NewKey struct {
	Type       string // RSA, RSA-HSM, EC, EC-HSM
	Bits       int    // RSA: 2048 (also for 0), 3072, 4096
	Curve      string // EC: P-256 (also for empty), P-384, P-521
	Operations []Operation
	Attributes
	Tags map[string]string
}

// CreateKey makes a key, or a new version of one that exists. Refusals: BadParameter, Forbidden, VaultNotFound,
// Conflict when a deleted key has the name.
func (s *Service) CreateKey(ctx context.Context, who visage.Caller, ref Ref, want NewKey) (Key, error) {
	e := event{Operation: "KeyCreate"}
	return s.add(ctx, who, ref, MayCreate, e,
		func(vault vaultRecord, _ *versionRecord) (material, versionRecord, error) {
			v, err := fresh(want.Operations, want.Type, want.Attributes, want.Tags)
			if err != nil {
				return material{}, v, err
			}
			m, err := s.forge.make(ctx, who, want.Type, func() (material, error) {
				return s.generate(want.Type, want.Bits, want.Curve, vault.Premium)
			})
			v.Public = m.public
			return m, v, err
		})
}

// ImportedKey is a key that was made elsewhere.
type ImportedKey struct {
	JWK JWK // with its private parts; with a Blob, its type and curve alone
	// Blob is a private key that was wrapped for this vault by another store of keys: the JSON document of Azure's BYOK
	// specification. It names the key exchange key in this vault that opens it. Empty: the key comes in its parts.
	Blob       []byte
	HSM        bool
	Operations []Operation
	Attributes
	Tags map[string]string
}

// ImportKey stores a key that was made elsewhere, as a key or as a new version of one. Refusals: as CreateKey;
// Forbidden too, when the state of a key exchange key does not allow its use.
func (s *Service) ImportKey(ctx context.Context, who visage.Caller, ref Ref, want ImportedKey) (Key, error) {
	e := event{Operation: "KeyImport"}
	return s.add(ctx, who, ref, MayImport, e,
		func(vault vaultRecord, _ *versionRecord) (material, versionRecord, error) {
			v, err := fresh(want.Operations, want.JWK.Type, want.Attributes, want.Tags)
			if err == nil && slices.Contains(v.Operations, Import) {
				err = invalid("A key exchange key (key_ops import) is made in the vault, not imported.")
			}
			if err != nil {
				return material{}, v, err
			}
			m, err := s.forge.make(ctx, who, want.JWK.Type, func() (material, error) {
				key := want.JWK
				if len(want.Blob) > 0 {
					var err error
					if key, err = s.blobKey(ctx, vault, want); err != nil {
						return material{}, err
					}
					defer key.Wipe()
				}
				return key.material(want.HSM, vault.Premium) // to look for weakness takes long too
			})
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
	if err := checkExchange(ops, kty); err != nil {
		return versionRecord{}, err
	}
	if err := checkTags(tags); err != nil {
		return versionRecord{}, err
	}
	if err := checkDates(a.NotBefore, a.Expires); err != nil {
		return versionRecord{}, err
	}
	return versionRecord{
		Operations: ops, Tags: tags, Enabled: a.Enabled, NotBefore: toSeconds(a.NotBefore),
		Expires: toSeconds(a.Expires),
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
	ctx context.Context, who visage.Caller, ref Ref, need Permission, e event,
	build func(vaultRecord, *versionRecord) (material, versionRecord, error),
) (made Key, err error) {
	e.Vault, e.Who, e.KeyID = ref.Vault, storable(who), s.KeyID(Ref{Vault: ref.Vault, Name: ref.Name})
	err = s.audited(ctx, e, func(e *event) error {
		vault, err := s.enter(ctx, who, ref.Vault, need)
		if err != nil {
			return err
		}
		if err := CheckKeyName(ref.Name); err != nil {
			return err
		}
		if need != MayRotate { // the successor of a key that must go has to be made on a full disk too
			if err := s.space.MayGrow(); err != nil {
				return err
			}
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
				return conflict("", "Another request changed key %s during the rotation. Try again.", ref.Name)
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
		s.changed(made.Ref)
		return nil
	})
	if err != nil {
		return Key{}, err
	}
	return made, nil
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
			"Key %s is currently in a deleted but recoverable state, and its name cannot be reused: recover or purge "+
				"it.", k.Name)
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
