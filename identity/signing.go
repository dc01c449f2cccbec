package identity

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/follow"
)

// The life of a signing key. It is published before its use, so that clients that cache the published keys for a
// shorter time know it, and after it for as long as a token that it has signed can live.
const (
	signingBits  = 2048
	signingLife  = 30 * 24 * time.Hour
	signingAhead = 24 * time.Hour
	signingAfter = tokenLife + leeway
)

// signingRecord is a signing key as it is stored, under its id.
type signingRecord struct {
	ID    string
	Key   []byte // PKCS #8
	From  int64  // signs from then, nanoseconds since 1970, UTC
	Until int64  // and until then
}

var signingKeys = sealed.NewTable[signingRecord]("identity/signing-key", 1)

// signingKey is a key that is published: it signs between from and until, and what it has signed is believed.
type signingKey struct {
	id          string
	private     *rsa.PrivateKey
	from, until time.Time
}

// Run makes signing keys before they are needed, forgets them when nothing that they signed lives any more, ends
// sessions and one-time codes that are over, and follows the changes of other processes, until ctx ends. A failure is
// logged and tried again.
func (d *Directory) Run(ctx context.Context) error {
	const again = time.Minute // between sweeps, and after a failure
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() { follow.Run(ctx, d.log, d.state, d.keys, d.visits) })
	var due time.Time // when the signing keys must be tended
	for {
		if now := time.Now(); !now.Before(due) {
			next, err := d.tend(ctx)
			if err != nil && ctx.Err() == nil {
				d.log.ErrorContext(ctx, "signing keys not tended", "err", err)
				next = now.Add(again)
			}
			due = next
		}
		if err := d.sweep(ctx); err != nil && ctx.Err() == nil {
			d.log.ErrorContext(ctx, "sessions that are over were not removed", "err", err)
		}
		timer := time.NewTimer(min(again, time.Until(due)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// RotateSigningKey makes a new signing key and signs with it from now on. The key before stays published for as long as
// what it has signed can live.
func (d *Directory) RotateSigningKey(ctx context.Context) error {
	d.changes.Lock()
	defer d.changes.Unlock()
	now := time.Now()
	fresh, err := d.newSigningKey(now)
	if err != nil {
		return err
	}
	err = d.keys.Update(ctx, func(tx sealed.Tx, _ []signingKey) error {
		for rec, err := range signingKeys.In().All(tx) {
			if err != nil {
				return err
			}
			if rec.Until <= now.UnixNano() {
				continue
			}
			if rec.From >= now.UnixNano() { // was to come next, and has signed nothing
				err = signingKeys.In().Delete(tx, rec.ID)
			} else {
				rec.Until = now.UnixNano()
				err = signingKeys.In().Put(tx, rec.ID, rec)
			}
			if err != nil {
				return err
			}
		}
		return signingKeys.In().Put(tx, fresh.ID, fresh)
	})
	if err != nil {
		return fmt.Errorf("rotate signing key: %w", err)
	}
	return d.recordSigning(ctx, fresh)
}

// recordSigning records a new signing key by its id, which is public.
func (d *Directory) recordSigning(ctx context.Context, rec signingRecord) error {
	caller := visage.CallerFrom(ctx)
	e := audit.Event{Kind: audit.IdentityRotate, Actor: audit.ActorOf(caller), RequestID: caller.RequestID}
	e.Set(audit.DetailOperation, "signing-key")
	e.Set(audit.DetailChange, visage.NewUUID().String())
	e.Set(audit.DetailSubject, rec.ID)
	e.SetChange("", time.Unix(0, rec.Until).UTC().Format(time.RFC3339))
	return audit.Answer(ctx, d.cfg.Audit, nil, e.Ended(nil))
}

// errOutdated says that another process has changed the signing keys since they were looked at.
var errOutdated = errors.New("the signing keys were changed by another process")

// tend brings the stored signing keys to what the time asks for, and returns when that is due again. Several processes
// may do it at the same time: the keys of the first one count.
func (d *Directory) tend(ctx context.Context) (next time.Time, err error) {
	d.changes.Lock()
	defer d.changes.Unlock()
	if err := d.keys.Load(ctx); err != nil {
		return time.Time{}, err
	}
	for {
		next, err = d.tendTo(ctx, d.keys.Now())
		if !errors.Is(err, errOutdated) {
			return next, err
		}
	}
}

// tendTo is tend if the stored keys are all still. The caller holds changes.
func (d *Directory) tendTo(ctx context.Context, all []signingKey) (next time.Time, err error) {
	now := time.Now()
	var until time.Time // how far the keys reach without a gap
	var gone []string
	for _, k := range all {
		if !k.from.After(now) && k.until.After(until) || k.from.Equal(until) {
			until = k.until
		}
		if !now.Before(k.until.Add(signingAfter)) {
			gone = append(gone, k.id)
		}
	}
	var fresh []signingRecord
	for now.Add(signingAhead).After(until) || now.Add(signingAhead).Equal(until) {
		rec, err := d.newSigningKey(later(now, until))
		if err != nil {
			return time.Time{}, err
		}
		fresh, until = append(fresh, rec), time.Unix(0, rec.Until)
	}
	if len(fresh)+len(gone) > 0 {
		err := d.keys.Update(ctx, func(tx sealed.Tx, stored []signingKey) error {
			if !slices.EqualFunc(stored, all, sameSigningKey) {
				return errOutdated
			}
			for _, rec := range fresh {
				if err := signingKeys.In().Put(tx, rec.ID, rec); err != nil {
					return err
				}
			}
			for _, id := range gone {
				if err := signingKeys.In().Delete(tx, id); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return time.Time{}, fmt.Errorf("change signing keys: %w", err)
		}
		d.log.InfoContext(ctx, "signing keys changed", "made", len(fresh), "forgotten", len(gone))
		for _, rec := range fresh {
			if err := d.recordSigning(ctx, rec); err != nil {
				return time.Time{}, err
			}
		}
		all = d.keys.Now()
	}
	next = until.Add(-signingAhead)
	for _, k := range all {
		if end := k.until.Add(signingAfter); end.Before(next) {
			next = end
		}
	}
	return next, nil
}

func sameSigningKey(a, b signingKey) bool {
	return a.id == b.id && a.from.Equal(b.from) && a.until.Equal(b.until)
}

// readSigningKeys reads the signing keys, oldest first.
func readSigningKeys(r sealed.Reader) (all []signingKey, err error) {
	for rec, err := range signingKeys.In().All(r) {
		if err != nil {
			return nil, err
		}
		key, err := x509.ParsePKCS8PrivateKey(rec.Key)
		if err != nil {
			return nil, fmt.Errorf("decode signing key %s: %w", rec.ID, err)
		}
		private, ok := key.(*rsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("signing key %s is a %T", rec.ID, key)
		}
		all = append(all, signingKey{rec.ID, private, time.Unix(0, rec.From), time.Unix(0, rec.Until)})
	}
	slices.SortFunc(all, func(a, b signingKey) int { return a.from.Compare(b.from) })
	return all, nil
}

func (d *Directory) newSigningKey(from time.Time) (signingRecord, error) {
	key, err := d.cfg.NewRSA(signingBits)
	if err != nil {
		return signingRecord{}, fmt.Errorf("make signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return signingRecord{}, fmt.Errorf("encode signing key: %w", err)
	}
	id := sha256.Sum256(x509.MarshalPKCS1PublicKey(&key.PublicKey))
	return signingRecord{
		ID: base64.RawURLEncoding.EncodeToString(id[:]), Key: der,
		From: from.UnixNano(), Until: from.Add(signingLife).UnixNano(),
	}, nil
}

// signer returns the key that signs at a time.
func (d *Directory) signer(now time.Time) (signingKey, bool) {
	for _, k := range d.keys.Now() {
		if !now.Before(k.from) && now.Before(k.until) {
			return k, true
		}
	}
	return signingKey{}, false
}

// PublicKey is a signing key as it is published (RFC 7517).
type PublicKey struct {
	Type      string `json:"kty"` // "RSA"
	Use       string `json:"use"` // "sig"
	Algorithm string `json:"alg"` // "RS256"
	ID        string `json:"kid"`
	Modulus   string `json:"n"` // base64url, big-endian, without leading zeros
	Exponent  string `json:"e"` // likewise
}

// PublicKeys returns the keys whose tokens are believed, oldest first, and the one that will sign next.
func (d *Directory) PublicKeys() []PublicKey {
	now := time.Now()
	all := []PublicKey{}
	for _, k := range d.keys.Now() {
		if !now.Before(k.until.Add(signingAfter)) {
			continue // Run has not come to it yet
		}
		public := k.private.PublicKey
		all = append(all, PublicKey{
			Type: "RSA", Use: "sig", Algorithm: string(algorithm), ID: k.id,
			Modulus:  base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
			Exponent: base64.RawURLEncoding.EncodeToString(big.NewInt(int64(public.E)).Bytes()),
		})
	}
	return all
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Current makes sure that the identities, roles, sessions and keys known here are not older than a second: see
// follow.Value.
func (d *Directory) Current(ctx context.Context) error {
	return follow.Current(ctx, d.state, d.keys, d.visits)
}
