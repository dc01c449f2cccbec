package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/visage-face/visage"
)

// secretRecord is what is kept of a secret. Secrets are made here and nowhere else, of 256 random bits, so that a keyed
// hash under a salt is enough: there is nothing to guess that a slow hash would make dearer (SP 800-132 is for
// passwords; this is HMAC, FIPS 198-1).
type secretRecord struct {
	ID      string
	Salt    []byte // 32 random bytes
	Hash    []byte // HMAC-SHA-256 of the secret under the salt
	Created int64  // nanoseconds since 1970, UTC
	Expires int64
}

// What secrets may be.
const (
	secretBytes   = 32
	maxSecrets    = 32                         // of one application
	maxSecretLife = 2 * 365 * 24 * time.Hour   // as long as Azure's portal offers
	unending      = 100 * 365 * 24 * time.Hour // longer than anything that is stored here
)

// AddSecret makes a secret for an application, beside those it has, and returns its value, which is not kept: this is
// the only time it is returned. life is at most two years; 0 stands for a secret that ends with the application.
// Refusals: PrincipalNotFound; InvalidPrincipal for an identity that has no secrets, or as many as it can have.
func (d *Directory) AddSecret(
	ctx context.Context, id string, life time.Duration,
) (secret Secret, value string, err error) {
	tooLong := life < 0 || life > maxSecretLife
	if life == 0 {
		life = unending
	}
	random, salt := make([]byte, secretBytes), make([]byte, sha256.Size)
	rand.Read(salt) // never fails: the runtime ends the process instead
	// Tools that get it as an argument of its own, such as az, take a first "-" for an option.
	for value = "-"; value[0] == '-'; {
		rand.Read(random)
		value = base64.RawURLEncoding.EncodeToString(random)
	}
	now := time.Now()
	rec := secretRecord{
		ID: visage.NewUUID().String(), Salt: salt, Hash: hash(salt, value),
		Created: now.UnixNano(), Expires: now.Add(life).UnixNano(),
	}
	about := change{Operation: secretMade, Subject: id, Secret: rec.ID,
		After: time.Unix(0, rec.Expires).UTC().Format(time.RFC3339)}
	err = d.updatePrincipal(ctx, about, func(p *principalRecord, e *change) error {
		if tooLong {
			return visage.Refuse(visage.Invalid, "InvalidPrincipal", "The lifetime of a secret may be at most "+
				"%v.", maxSecretLife)
		}
		if p.Kind != Application || len(p.Secrets) >= maxSecrets {
			return visage.Refuse(visage.Invalid, "InvalidPrincipal",
				"Only applications can have secrets, at most %d at the same time.", maxSecrets)
		}
		p.Secrets = append(p.Secrets, rec)
		return nil
	})
	if err != nil {
		return Secret{}, "", fmt.Errorf("add secret: %w", err)
	}
	return Secret{rec.ID, time.Unix(0, rec.Created).UTC(), time.Unix(0, rec.Expires).UTC()}, value, nil
}

// RemoveSecret ends a secret. Tokens that were got with it live out their hour. Refusals: PrincipalNotFound; LastOwner
// if no other owner of the subscription can sign in.
func (d *Directory) RemoveSecret(ctx context.Context, id, secret string) error {
	about := change{Operation: secretEnded, Subject: id, Secret: secret}
	err := d.updatePrincipal(ctx, about, func(p *principalRecord, e *change) error {
		i := slices.IndexFunc(p.Secrets, func(s secretRecord) bool { return s.ID == lower(secret) })
		if i < 0 {
			return refuseUnknown("secret", short(secret))
		}
		e.Secret, e.Before = p.Secrets[i].ID, time.Unix(0, p.Secrets[i].Expires).UTC().Format(time.RFC3339)
		p.Secrets = slices.Delete(p.Secrets, i, i+1)
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove secret: %w", err)
	}
	return nil
}

// HasSecret reports whether value is a secret of the identity now.
func (d *Directory) HasSecret(id, value string) bool {
	rec, found := d.state.Now().principals[lower(id)]
	return found && rec.check(value, time.Now()) == secretFits
}

// What a shown secret is worth.
type secretCheck int

const (
	secretWrong secretCheck = iota
	secretExpired
	secretFits
)

// check looks at every secret, so that the time it takes tells nothing about which of them was nearly right.
func (r principalRecord) check(value string, now time.Time) secretCheck {
	result := secretWrong
	for _, s := range r.Secrets {
		if !hmac.Equal(hash(s.Salt, value), s.Hash) {
			continue
		}
		if now.UnixNano() < s.Expires {
			result = secretFits
		} else if result == secretWrong {
			result = secretExpired
		}
	}
	return result
}

func hash(salt []byte, value string) []byte {
	mac := hmac.New(sha256.New, salt)
	mac.Write([]byte(value))
	return mac.Sum(nil)
}
