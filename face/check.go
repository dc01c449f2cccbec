package face

import (
	"errors"
	"regexp"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/visage-face/visage"
)

// The limits of contract §2.2, in UTF-16 code units.
const (
	mostName         = 128
	mostUserData     = 16_384
	mostFaceUserData = 1_024
	mostStart        = 64
	mostTop          = 1_000
)

var idShape = regexp.MustCompile(`^[a-z0-9_-]{1,64}$`)

// validID reports whether an id that a caller chose for a collection has the allowed form.
func validID(id string) bool { return idShape.MatchString(id) }

// units counts text as the original service does: in UTF-16 code units.
func units(s string) int {
	n := 0
	for _, r := range s {
		n += max(utf16.RuneLen(r), 1)
	}
	return n
}

// printable shortens text of a caller, which need not be UTF-8, so that a sentence can quote it.
func printable(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// parseID reads the id of a face or a person from the body of a request; what is the word for it in refusals.
func parseID(what, text string) (uuid, error) {
	if text == "" {
		return uuid{}, badArgument("The id of a %s is missing or empty.", what)
	}
	id, err := visage.ParseUUID(text)
	if err != nil {
		return uuid{}, badArgument("The %s id %q is not a UUID.", what, printable(text))
	}
	return id, nil
}

// checkIDs refuses ids that are not UUIDs, before anything is read.
func checkIDs(what string, ids ...string) error {
	for _, id := range ids {
		if _, err := parseID(what, id); err != nil {
			return err
		}
	}
	return nil
}

// badArgument is the contract's refusal of an argument that is not allowed.
func badArgument(format string, args ...any) *visage.Refusal {
	return visage.Refuse(visage.Invalid, "BadArgument", format, args...)
}

func quotaExceeded(format string, args ...any) *visage.Refusal {
	return visage.Refuse(visage.Denied, "QuotaExceeded", format, args...)
}

// checkText refuses text that is not UTF-8: it could be stored, but not returned as JSON.
func checkText(what, text string) error {
	if !utf8.ValidString(text) {
		return badArgument("The %s is not valid UTF-8.", what)
	}
	return nil
}

// between refuses a count outside its range.
func between(what string, n, least, most int) error {
	if n < least || n > most {
		return badArgument("%s must be %d to %d, not %d.", what, least, most, n)
	}
	return nil
}

// uuid is the id of a face, a person, or an incarnation of a collection.
type uuid = visage.UUID

// distinct returns the ids without repetitions, in the order of their first occurrence.
func distinct(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	once := make([]string, 0, len(ids))
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			once = append(once, id)
		}
	}
	return once
}

// asInvalid turns a refusal of kind NotFound into one of kind Invalid. An object that the body of a request names is an
// argument; only an object that the path names can be not found (contract §12, points 4 and 5).
func asInvalid(err error) error {
	refusal, ok := errors.AsType[*visage.Refusal](err)
	if !ok || refusal.Kind != visage.NotFound {
		return err
	}
	invalid := *refusal
	invalid.Kind = visage.Invalid
	return &invalid
}
