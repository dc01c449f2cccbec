package identity

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Passkey is a WebAuthn credential of a person.
type Passkey struct {
	ID         []byte // that the authenticator chose, 1 to 1,023 bytes
	Name       string // that the person chose; 1 to 128 characters
	Created    time.Time
	Used       time.Time // for the last time; zero: never
	Credential []byte    // public key, counter and flags, as the WebAuthn library encodes them; at most 4 KiB
}

// What passkeys may be.
const (
	maxPasskeys      = 20   // of one person
	maxPasskeyID     = 1023 // bytes (Web Authentication Level 3 §4)
	maxPasskeyRecord = 4 << 10
)

// passkeyRecord is a passkey as it is stored, within its person's record.
type passkeyRecord struct {
	ID         []byte
	Name       string
	Created    int64 // nanoseconds since 1970, UTC
	Used       int64 // likewise; 0: never
	Credential []byte
}

// passkey returns all of a passkey.
func (r passkeyRecord) passkey() Passkey {
	p := Passkey{
		ID: slices.Clone(r.ID), Name: r.Name, Created: time.Unix(0, r.Created).UTC(),
		Credential: slices.Clone(r.Credential),
	}
	if r.Used != 0 {
		p.Used = time.Unix(0, r.Used).UTC()
	}
	return p
}

// AddPasskey gives a person another passkey; its times are set here. Refusals: PrincipalNotFound; InvalidPasskey;
// PasskeyExists when some person has it.
func (d *Directory) AddPasskey(ctx context.Context, principal string, key Passkey) error {
	rec := passkeyRecord{
		ID: slices.Clone(key.ID), Name: strings.TrimSpace(key.Name), Created: time.Now().UnixNano(),
		Credential: slices.Clone(key.Credential),
	}
	err := d.updatePrincipal(ctx, change{Operation: passkeyAdded, Subject: principal, Secret: rec.publicID()},
		func(p *principalRecord, _ *change) error {
			if p.Kind != Person || len(p.Passkeys) >= maxPasskeys {
				return visage.Refuse(visage.Invalid, "InvalidPasskey",
					"Only people can have passkeys, at most %d: remove one that is no longer used.", maxPasskeys)
			}
			if !isPersonName(rec.Name) {
				return visage.Refuse(visage.Invalid, "InvalidPasskey",
					"Give the passkey a name of 1 to %d characters, such as the name of the device.", maxPersonName)
			}
			if len(rec.ID) == 0 || len(rec.ID) > maxPasskeyID || !fitsPasskey(rec.Credential) {
				return refusePasskeySize()
			}
			if _, taken := d.state.Now().passkeys[string(rec.ID)]; taken {
				return visage.Refuse(visage.Conflict, "PasskeyExists",
					"This passkey is already registered: use it to sign in, or register another one.")
			}
			p.Passkeys = append(p.Passkeys, rec)
			return nil
		})
	if err != nil {
		return fmt.Errorf("add passkey: %w", err)
	}
	return nil
}

// RemovePasskey takes a passkey from a person. Sessions that were opened with it go on. Refusals: PrincipalNotFound;
// PasskeyNotFound.
func (d *Directory) RemovePasskey(ctx context.Context, principal string, id []byte) error {
	about := change{Operation: passkeyRemoved, Subject: principal, Secret: passkeyRecord{ID: id}.publicID()}
	err := d.updatePrincipal(ctx, about, func(p *principalRecord, _ *change) error {
		i := p.passkeyAt(id)
		if i < 0 {
			return refusePasskey()
		}
		p.Passkeys = slices.Delete(p.Passkeys, i, i+1)
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove passkey: %w", err)
	}
	return nil
}

// UsePasskey keeps what the WebAuthn library returned for a passkey that has just been used, such as its new counter,
// and the time. The sign-in itself is recorded by OpenSession. Refusals: InvalidPasskey; PasskeyNotFound.
func (d *Directory) UsePasskey(ctx context.Context, principal string, id, credential []byte) error {
	if !fitsPasskey(credential) {
		return refusePasskeySize()
	}
	principal = lower(principal)
	err := d.update(ctx, func(tx sealed.Tx) error {
		return changePrincipal(tx, principal, func(p *principalRecord) error {
			i := p.passkeyAt(id)
			if i < 0 {
				return refusePasskey()
			}
			p.Passkeys[i].Credential, p.Passkeys[i].Used = slices.Clone(credential), time.Now().UnixNano()
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("use passkey: %w", err)
	}
	return nil
}

// LookupPasskey returns the passkey with an id, and the person who has it.
func (d *Directory) LookupPasskey(id []byte) (Principal, Passkey, bool) {
	rec, found := d.holder(id)
	if !found && d.state.Missed(context.Background()) {
		rec, found = d.holder(id)
	}
	if !found {
		return Principal{}, Passkey{}, false
	}
	return rec.principal(), rec.Passkeys[rec.passkeyAt(id)].passkey(), true
}

// holder returns the person who has a passkey.
func (d *Directory) holder(id []byte) (principalRecord, bool) {
	s := d.state.Now()
	rec, found := s.principals[s.passkeys[string(id)]]
	return rec, found
}

func (r principalRecord) passkeyAt(id []byte) int {
	return slices.IndexFunc(r.Passkeys, func(k passkeyRecord) bool { return bytes.Equal(k.ID, id) })
}

// publicID is a passkey's id as the audit log has it.
func (r passkeyRecord) publicID() string { return base64.RawURLEncoding.EncodeToString(r.ID) }

func fitsPasskey(credential []byte) bool {
	return len(credential) > 0 && len(credential) <= maxPasskeyRecord
}

func refusePasskeySize() error {
	return visage.Refuse(visage.Invalid, "InvalidPasskey",
		"The authenticator sent an id or a credential of a length that is not accepted: use another authenticator.")
}

func refusePasskey() error {
	return visage.Refuse(visage.NotFound, "PasskeyNotFound", "The person has no such passkey.")
}
