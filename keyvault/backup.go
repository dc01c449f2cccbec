package keyvault

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/visage-face/visage/sealed"
)

// A backup is "VKB" and the number of its format, then HPKE (RFC 9180) of the key with all its versions, to a key pair
// that never leaves the operator's space: what was backed up opens in the same instance and nowhere else, and since nobody
// else has the public half either, only what was made here opens.
// The suite is DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, in base mode; each backup has an encapsulation of its
// own, so no nonce is ever used twice.
const (
	backupMagic = "VKB\x01"
	backupInfo  = "visage/v1/keyvault/backup"

	// maxBackup bounds a blob: hundreds of versions of the largest keys.
	maxBackup = 4 << 20
)

type backupKeyRecord struct{ Scalar []byte }

var backupKeys = sealed.NewTable[backupKeyRecord]("keyvault/backup-key", 1)

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
func (s *Service) BackupKey(ctx context.Context, who Caller, ref Ref) (blob []byte, err error) {
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
		if plaintext, err = json.Marshal(b); err != nil {
			return err
		}
		key, err := backupKey(tx)
		if err != nil {
			return err
		}
		sealedTo, err := hpke.NewDHKEMPublicKey(key.PublicKey())
		if err != nil {
			return err
		}
		body, err := hpke.Seal(sealedTo, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(backupInfo), plaintext)
		blob = append([]byte(backupMagic), body...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return blob, nil
}

// backupKey returns the instance's key for backups, making it when there is none yet.
func backupKey(tx sealed.Tx) (*ecdh.PrivateKey, error) {
	rec, err := backupKeys.In().Get(tx, "backup")
	defer clear(rec.Scalar)
	if err == nil {
		return ecdh.P256().NewPrivateKey(rec.Scalar)
	}
	if !errors.Is(err, sealed.ErrNotFound) {
		return nil, err
	}
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key for backups: %w", err)
	}
	return key, backupKeys.In().Put(tx, "backup", backupKeyRecord{key.Bytes()})
}

// RestoreKey stores the key of a backup in a vault, under the name and with the versions it had. Refusals: BadParameter
// for what is no backup of this instance; Conflict when the vault has a key of the name, deleted or not; Forbidden,
// VaultNotFound.
func (s *Service) RestoreKey(ctx context.Context, who Caller, vaultName string, blob []byte) (restored Key, err error) {
	err = s.audited(ctx, Event{Operation: "KeyRestore", Vault: vaultName, Who: who}, func(e *Event) error {
		vault, err := s.enter(ctx, who, vaultName, MayRestore)
		if err != nil {
			return err
		}
		err = s.space.Update(ctx, func(tx sealed.Tx) error {
			if vault, err = liveVault(tx, vaultName); err != nil {
				return err
			}
			b, err := openBackup(tx, blob)
			if err != nil {
				return err
			}
			defer b.wipe()
			ref := Ref{Vault: vault.Name, Name: b.Name}
			e.KeyID = s.KeyID(ref)
			k, err := keyForVersion(tx, vault, ref)
			if err != nil {
				return err
			}
			if k.Current != "" {
				return conflict("", "The vault has a key %s already; a backup cannot be restored over it.", b.Name)
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

func (b backup) wipe() {
	for _, v := range b.Versions {
		clear(v.PKCS8)
	}
}

// openBackup reads a blob of BackupKey.
func openBackup(tx sealed.Tx, blob []byte) (b backup, err error) {
	refused := invalid("The value is not a backup of a key of this instance.")
	body, ok := bytes.CutPrefix(blob, []byte(backupMagic))
	if !ok || len(blob) > maxBackup {
		return b, refused
	}
	key, err := backupKey(tx)
	if err != nil {
		return b, err
	}
	private, err := hpke.NewDHKEMPrivateKey(key)
	if err != nil {
		return b, err
	}
	plaintext, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(backupInfo), body)
	if err != nil {
		return b, refused
	}
	defer clear(plaintext)
	if err := json.Unmarshal(plaintext, &b); err != nil || len(b.Versions) == 0 {
		return b, errors.New("a backup that was sealed here cannot be read: it is of another version of the program")
	}
	return b, nil
}
