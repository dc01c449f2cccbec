package keyvault

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// A backup is a portable value of the store: what was backed up opens in the same instance and nowhere else, and only
// what was made here opens.
const (
	backupPurpose = "keyvault/backup/1" // the number is that of the format inside

	// maxBackup bounds a blob: hundreds of versions of the largest keys.
	maxBackup = 4 << 20
)

// backup is what lies inside.
type backup struct {
	Name     string          `json:"name"`
	Policy   *RotationPolicy `json:"policy,omitempty"`
	Versions []backupVersion `json:"versions"`
}

type backupVersion struct {
	Version versionRecord `json:"version"`
	PKCS8   []byte        `json:"pkcs8"`
}

// BackupKey returns a key with all its versions as a blob that RestoreKey of the same instance takes. Refusals:
// Forbidden, KeyNotFound, VaultNotFound.
func (s *Service) BackupKey(ctx context.Context, who visage.Caller, ref Ref) (blob []byte, err error) {
	ref.Version = ""
	var plaintext []byte
	defer func() { clear(plaintext) }()
	err = s.with(ctx, who, ref, MayBackup, "KeyBackup", func(
		tx sealed.Tx, vault vaultRecord, k keyRecord, _ versionRecord,
	) error {
		clear(plaintext) // of a run before
		all, err := versionsOf(tx, vault, k)
		if err != nil {
			return err
		}
		b := backup{Name: k.Name, Policy: k.Policy}
		for _, v := range all {
			private, err := privates.In(vault.ID, k.ID).Get(tx, v.ID)
			if err != nil {
				return err
			}
			defer clear(private.PKCS8)
			b.Versions = append(b.Versions, backupVersion{v, private.PKCS8})
		}
		plaintext, err = json.Marshal(b)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.cfg.Store.Portable(backupPurpose).Seal(plaintext)
}

// RestoreKey stores the key of a backup in a vault, under the name and with the versions it had. Refusals: BadParameter
// for what is no backup of this instance and for a key that is refused as an import; Conflict when the vault has a key
// of the name, deleted or not; Forbidden, VaultNotFound.
func (s *Service) RestoreKey(
	ctx context.Context, who visage.Caller, vaultName string, blob []byte,
) (restored Key, err error) {
	err = s.audited(ctx, event{Operation: "KeyRestore", Vault: vaultName, Who: storable(who)}, func(e *event) error {
		vault, err := s.enter(ctx, who, vaultName, MayRestore)
		if err != nil {
			return err
		}
		b, err := s.openBackup(blob)
		if err != nil {
			return err
		}
		defer b.wipe()
		if err := b.check(ctx); err != nil {
			return err
		}
		if err := s.space.MayGrow(); err != nil {
			return err
		}
		err = s.space.Update(ctx, func(tx sealed.Tx) error {
			if vault, err = liveVault(tx, vaultName); err != nil {
				return err
			}
			ref := Ref{Vault: vault.Name, Name: b.Name}
			e.KeyID = s.KeyID(ref)
			k, err := keyForVersion(tx, vault, ref)
			if err != nil {
				return err
			}
			if k.Current != "" {
				return conflict("", "The vault already has a key %s: delete and purge it before you restore the "+
					"backup.", b.Name)
			}
			k.Policy = b.Policy
			for _, v := range b.Versions {
				last, err := appendVersion(tx, vault, &k, v.Version, v.PKCS8)
				if err != nil {
					return err
				}
				restored = last.key(vault, k)
			}
			return keys.In(vault.ID).Put(tx, strings.ToLower(k.Name), k)
		})
		if err == nil {
			s.changed(restored.Ref)
		}
		return wrap("restore key", err)
	})
	if err != nil {
		return Key{}, err
	}
	return restored, nil
}

// check refuses a backup with a key that would be refused as an import: earlier builds took weaker ones.
func (b backup) check(ctx context.Context) error {
	for _, v := range b.Versions {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := checkStored(v.Version.Public, v.PKCS8); err != nil {
			if refusal, ok := errors.AsType[*visage.Refusal](err); ok {
				return invalid("Version %s of key %s cannot be restored. %s", v.Version.ID, b.Name, refusal.Message)
			}
			return err
		}
	}
	return nil
}

func (b backup) wipe() {
	for _, v := range b.Versions {
		clear(v.PKCS8)
	}
}

// openBackup reads a blob of BackupKey.
func (s *Service) openBackup(blob []byte) (b backup, err error) {
	refused := invalid("The value is not a backup of a key of this instance.")
	if len(blob) > maxBackup {
		return b, refused
	}
	plaintext, err := s.cfg.Store.Portable(backupPurpose).Open(blob)
	if errors.Is(err, sealed.ErrNotPortable) {
		return b, refused
	}
	if err != nil {
		return b, err
	}
	defer clear(plaintext)
	if err := json.Unmarshal(plaintext, &b); err != nil || len(b.Versions) == 0 {
		return b, errors.New("a backup that was sealed here cannot be read: it is of another version of the program")
	}
	return b, nil
}
