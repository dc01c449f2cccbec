package keyvault

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Period is a span of the calendar as ISO 8601 writes it, in years, months, weeks and days: "P2Y", "P90D". Empty: none.
type Period string

var periodPattern = regexp.MustCompile(`^P(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,5})D)?$`)

// ParsePeriod reads a period of at least a day. Refusal: BadParameter.
func ParsePeriod(s string) (Period, error) {
	p := Period(strings.ToUpper(s))
	years, months, days, ok := p.parts()
	if !ok || years+months+days == 0 {
		return "", invalid("The duration %.32q must be in ISO 8601 format in years, months, weeks or days, such "+
			"as P90D.",
			s)
	}
	return p, nil
}

func (p Period) parts() (years, months, days int, ok bool) {
	m := periodPattern.FindStringSubmatch(string(p))
	if m == nil {
		return 0, 0, 0, false
	}
	n := func(i int) int {
		v, err := strconv.Atoi(m[i])
		if err != nil {
			return 0 // the part is not there: the pattern lets nothing but digits pass
		}
		return v
	}
	return n(1), n(2), n(3)*7 + n(4), true
}

// after returns the time that is the period after t.
func (p Period) after(t time.Time) time.Time {
	years, months, days, _ := p.parts()
	return t.AddDate(years, months, days)
}

// before returns the time that is the period before t.
func (p Period) before(t time.Time) time.Time {
	years, months, days, _ := p.parts()
	return t.AddDate(-years, -months, -days)
}

// days is how long the period is, by years of 365 and months of 30 days: for comparing.
func (p Period) days() int {
	years, months, days, _ := p.parts()
	return years*365 + months*30 + days
}

// Trigger says when in the life of a version something happens: one of the two is set.
type Trigger struct {
	AfterCreate  Period
	BeforeExpiry Period
}

// at returns when the trigger fires for a version; false for never.
func (t Trigger) at(created, expires time.Time) (time.Time, bool) {
	if t.AfterCreate != "" {
		return t.AfterCreate.after(created), true
	}
	if t.BeforeExpiry != "" && !expires.IsZero() {
		return t.BeforeExpiry.before(expires), true
	}
	return time.Time{}, false
}

// RotationPolicy says how long the versions of a key live, and when new ones are made.
type RotationPolicy struct {
	Rotate  Trigger // zero: never by itself
	Notify  Trigger // zero: never
	Expiry  Period  // after which a version that is made by rotation expires; empty: never
	Created int64   // seconds since 1970
	Updated int64
}

// Bounds of policies in days (contract §A4).
const (
	minExpiryDays = 28
	minRotateDays = 7
)

func (p RotationPolicy) check() error {
	if p.Expiry != "" && p.Expiry.days() < minExpiryDays {
		return invalid("The expiryTime of a rotation policy must be at least %d days.", minExpiryDays)
	}
	for what, t := range map[string]Trigger{"rotation": p.Rotate, "notice": p.Notify} {
		if t.AfterCreate != "" && t.BeforeExpiry != "" {
			return invalid("The trigger of the %s has both timeAfterCreate and timeBeforeExpiry; it can have one.",
				what)
		}
		if t.BeforeExpiry != "" && p.Expiry == "" {
			return invalid("The trigger timeBeforeExpiry of the %s needs an expiryTime.", what)
		}
		for _, at := range []Period{t.AfterCreate, t.BeforeExpiry} {
			if at == "" {
				continue
			}
			if at.days() < minRotateDays {
				return invalid("The time of the %s must be at least %d days.", what, minRotateDays)
			}
			if p.Expiry != "" && p.Expiry.days()-at.days() < minRotateDays {
				return invalid("The time of the %s must be at least %d days from the creation and from the "+
					"expiry of the key.",
					what,
					minRotateDays)
			}
		}
	}
	return nil
}

// RotationPolicy returns the policy of a key; the zero policy when it has none. Refusals: Forbidden, KeyNotFound,
// VaultNotFound.
func (s *Service) RotationPolicy(ctx context.Context, who visage.Caller, ref Ref) (policy RotationPolicy, err error) {
	ref.Version = ""
	err = s.with(ctx, who, ref, MayGetRotationPolicy, "KeyRotationPolicyGet", func(
		_ sealed.Tx, _ vaultRecord, k keyRecord, _ versionRecord,
	) error {
		policy = RotationPolicy{}
		if k.Policy != nil {
			policy = *k.Policy
		}
		return nil
	})
	return policy, err
}

// SetRotationPolicy replaces the policy of a key; its times of creation and change are set here. Refusals: as
// RotationPolicy; BadParameter.
func (s *Service) SetRotationPolicy(
	ctx context.Context, who visage.Caller, ref Ref, policy RotationPolicy,
) (set RotationPolicy, err error) {
	ref.Version = ""
	err = s.with(ctx, who, ref, MaySetRotationPolicy, "KeyRotationPolicySet", func(
		tx sealed.Tx, vault vaultRecord, k keyRecord, _ versionRecord,
	) error {
		if err := policy.check(); err != nil {
			return err
		}
		set = policy
		set.Updated = time.Now().Unix()
		set.Created = set.Updated
		if k.Policy != nil {
			set.Created = k.Policy.Created
		}
		k.Policy = &set
		return keys.In(vault.ID).Put(tx, strings.ToLower(k.Name), k)
	})
	if err != nil {
		return RotationPolicy{}, err
	}
	s.wake()
	return set, nil
}

// RotateKey makes a new version of a key, of the same kind, that expires as the rotation policy says. Refusals:
// Forbidden, KeyNotFound, VaultNotFound.
func (s *Service) RotateKey(ctx context.Context, who visage.Caller, ref Ref) (Key, error) {
	ref.Version = ""
	policy, err := s.policyOf(ctx, who, ref)
	if err != nil {
		return Key{}, err
	}
	return s.add(ctx, who, ref, MayRotate, event{Operation: "KeyRotate"},
		successor(ref, policy, func(p Public) (material, error) {
			return s.forge.make(ctx, who, p.Type, func() (material, error) { return s.alike(p) })
		}))
}

// policyOf reads a policy for a rotation, which needs no permission of its own.
func (s *Service) policyOf(ctx context.Context, who visage.Caller, ref Ref) (policy RotationPolicy, err error) {
	vault, err := s.enter(ctx, who, ref.Vault, MayRotate)
	if isRefusal(err) {
		return policy, nil // add refuses it again, and tells the audit
	}
	if err != nil {
		return policy, err
	}
	err = s.space.View(ctx, func(r sealed.Reader) error {
		k, err := keys.In(vault.ID).Get(r, strings.ToLower(ref.Name))
		if errors.Is(err, sealed.ErrNotFound) {
			return nil // as above
		}
		if err == nil && k.Policy != nil {
			policy = *k.Policy
		}
		return err
	})
	return policy, wrap("read rotation policy", err)
}

// alike generates a key of the same kind. What the sku allows was asked when the first was made.
func (s *Service) alike(p Public) (material, error) {
	return s.generate(p.Type, p.Bits(), p.Curve, true)
}

// successor builds the version that follows the present one, with a key that make makes.
func successor(
	ref Ref, policy RotationPolicy, make func(Public) (material, error),
) func(vaultRecord, *versionRecord) (material, versionRecord, error) {
	return func(vault vaultRecord, present *versionRecord) (material, versionRecord, error) {
		if present == nil {
			return material{}, versionRecord{}, noKey(ref)
		}
		m, err := make(present.Public)
		if err != nil {
			return material{}, versionRecord{}, err
		}
		now := time.Now()
		v := versionRecord{
			Public: m.public, Operations: present.Operations, Tags: present.Tags, Enabled: true, Created: now.Unix(),
			Updated: now.Unix(),
		}
		if policy.Expiry != "" {
			v.Expires = policy.Expiry.after(now).Unix()
		}
		return m, v, nil
	}
}

// attendPolicy rotates a key, or gives notice of its end, when its policy says so. A key that is disabled is left
// alone: a rotation would enable it.
func (s *Service) attendPolicy(
	ctx context.Context, vault vaultRecord, k keyRecord, v versionRecord, due func(time.Time) bool,
) error {
	if !v.Enabled {
		return nil
	}
	created, expires := fromSeconds(v.Created), fromSeconds(v.Expires)
	ref := Ref{Vault: vault.Name, Name: k.Name}
	if at, ever := k.Policy.Rotate.at(created, expires); ever && due(at) {
		return s.rotateDue(ctx, vault, k, v)
	}
	if at, ever := k.Policy.Notify.at(created, expires); ever && !v.Notified && due(at) {
		ref.Version = v.ID
		e := event{Operation: "KeyNearExpiryEventGridNotification", Vault: vault.Name, KeyID: s.KeyID(ref)}
		first := false
		err := s.space.Update(ctx, func(tx sealed.Tx) error {
			now, err := versions.In(vault.ID, k.ID).Get(tx, v.ID)
			if first = err == nil && !now.Notified; !first { // another process has given it
				return err
			}
			now.Notified = true
			return versions.In(vault.ID, k.ID).Put(tx, v.ID, now)
		})
		if err != nil || !first {
			return wrap("note a notice", err)
		}
		return s.audited(ctx, e, func(*event) error { return nil })
	}
	return nil
}

// rotateDue makes the version that is due, unless the key was changed meanwhile.
func (s *Service) rotateDue(ctx context.Context, vault vaultRecord, k keyRecord, v versionRecord) error {
	ref := Ref{Vault: vault.Name, Name: k.Name}
	e := event{Operation: "KeyRotateIfDue", Vault: vault.Name, KeyID: s.KeyID(ref)}
	err := s.audited(ctx, e, func(e *event) error {
		m, next, err := successor(ref, *k.Policy, s.alike)(vault, &v)
		if err != nil {
			return err
		}
		defer m.wipe()
		next.ID = newVersion()
		err = s.space.Update(ctx, func(tx sealed.Tx) error {
			now, present, err := find(tx, vault, ref)
			if err != nil {
				return err
			}
			if now.ID != k.ID || now.Current != k.Current || !present.Enabled {
				return conflict("", "Key %s was changed during the rotation.", k.Name)
			}
			if _, err = appendVersion(tx, vault, &now, next, m.pkcs8); err != nil {
				return err
			}
			return keys.In(vault.ID).Put(tx, strings.ToLower(now.Name), now)
		})
		if err != nil {
			return wrap("rotate key "+k.Name, err)
		}
		e.KeyID = s.KeyID(Ref{vault.Name, k.Name, next.ID})
		s.changed(ref)
		return nil
	})
	if isRefusal(err) {
		s.wake() // look again at what it is now
		return nil
	}
	if err != nil {
		return fmt.Errorf("automatic rotation: %w", err)
	}
	return nil
}
