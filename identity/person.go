package identity

import (
	"context"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/visage-face/visage"
)

// What may be said about a person.
const (
	maxPersonName      = 128 // characters
	maxPersonNameBytes = 512
	maxEmail           = 254 // bytes: the longest that SMTP delivers to (RFC 5321 §4.5.3.1.3, without the brackets)
)

// languages are the languages that a person can choose; empty: whatever the browser asks for.
var languages = []string{"", "en", "fr"}

// PersonCreation is what a new person is made of.
type PersonCreation struct {
	Tenant   string // an id
	Name     string // 1 to 128 characters of any script and at most 512 bytes, without control characters
	Email    string // optional; of one person of the tenant, in any case
	Language string // "en", "fr", or empty for what the browser asks for
}

// PersonChange is what can be changed about a person.
type PersonChange struct{ Name, Email, Language string }

// CreatePerson makes a person: a human who signs in to the console. A person has no secrets and gets no tokens.
// Refusals: InvalidPrincipal; EmailTaken.
func (d *Directory) CreatePerson(ctx context.Context, c PersonCreation) (Principal, error) {
	rec := principalRecord{ID: visage.NewUUID().String(), Tenant: c.Tenant, Kind: Person}
	if err := rec.set(PersonChange{c.Name, c.Email, c.Language}); err != nil {
		return Principal{}, err
	}
	if err := d.space.MayGrow(); err != nil {
		return Principal{}, fmt.Errorf("create person: %w", err)
	}
	return d.create(ctx, rec)
}

// UpdatePerson changes what is known about a person: update gets what is true now, may run more than once, and its
// error is returned. Refusals: PrincipalNotFound; InvalidPrincipal; EmailTaken.
func (d *Directory) UpdatePerson(ctx context.Context, id string, update func(*PersonChange) error) (Principal, error) {
	var now Principal
	err := d.updatePrincipal(ctx, change{Operation: personChanged, Subject: id},
		func(rec *principalRecord, e *change) error {
			if rec.Kind != Person {
				return refuseUnknown("person", id)
			}
			before := PersonChange{rec.Name, rec.Email, rec.Language}
			after := before
			if err := update(&after); err != nil {
				return err
			}
			if err := rec.set(after); err != nil {
				return err
			}
			if d.state.Now().emailTaken(*rec) {
				return refuseEmail()
			}
			e.After = before.differences(PersonChange{rec.Name, rec.Email, rec.Language})
			now = rec.principal()
			return nil
		})
	if err != nil {
		return Principal{}, fmt.Errorf("change person: %w", err)
	}
	return now, nil
}

// differences names what differs, without the values: they are nobody's business in the audit log.
func (c PersonChange) differences(other PersonChange) string {
	var all []string
	for _, field := range []struct{ name, one, other string }{
		{"name", c.Name, other.Name}, {"email", c.Email, other.Email}, {"language", c.Language, other.Language},
	} {
		if field.one != field.other {
			all = append(all, field.name)
		}
	}
	return strings.Join(all, ",")
}

// set checks what is said about a person and puts it into the record.
func (r *principalRecord) set(c PersonChange) error {
	c.Name, c.Email = strings.TrimSpace(c.Name), strings.TrimSpace(c.Email)
	if !isPersonName(c.Name) {
		return visage.Refuse(visage.Invalid, "InvalidPrincipal",
			"The name of a person must have 1 to %d characters and at most %d bytes, without control characters.",
			maxPersonName, maxPersonNameBytes)
	}
	if c.Email != "" && !isEmail(c.Email) {
		return visage.Refuse(visage.Invalid, "InvalidPrincipal",
			"The e-mail address is not valid: write it like ada@example.org, with at most %d bytes.", maxEmail)
	}
	if !slices.Contains(languages, c.Language) {
		return visage.Refuse(visage.Invalid, "InvalidPrincipal",
			"The language must be en or fr, or empty for the language that the browser asks for.")
	}
	r.Name, r.Email, r.Language = c.Name, c.Email, c.Language
	return nil
}

// isPersonName takes names of every script. It refuses what could make a page or a log show another name than it
// is: control characters, line ends, and characters that turn the direction of the text around them.
func isPersonName(s string) bool {
	return s != "" && len(s) <= maxPersonNameBytes && utf8.ValidString(s) &&
		utf8.RuneCountInString(s) <= maxPersonName && !strings.ContainsFunc(s, isDeceptive)
}

func isDeceptive(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) ||
		unicode.Is(unicode.Bidi_Control, r) && r != '\u200e' && r != '\u200f' && r != '\u061c'
}

// isEmail takes one bare address, as it is written in an address field.
func isEmail(s string) bool {
	if len(s) > maxEmail || strings.ContainsFunc(s, isDeceptive) {
		return false
	}
	a, err := mail.ParseAddress(s)
	return err == nil && a.Name == "" && a.Address == s
}

// emailTaken reports whether another person of the tenant has the address of a record.
func (s *state) emailTaken(rec principalRecord) bool {
	if rec.Email == "" {
		return false
	}
	for _, other := range s.principals {
		if other.ID != rec.ID && other.Tenant == rec.Tenant && lower(other.Email) == lower(rec.Email) {
			return true
		}
	}
	return false
}

func refuseEmail() error {
	return visage.Refuse(visage.Conflict, "EmailTaken", "Another person has this e-mail address: use another one.")
}
