package face

import (
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

// validID says whether an id that a caller chose for a collection has the right shape.
func validID(id string) bool { return idShape.MatchString(id) }

// units counts text as the original service does: in UTF-16 code units.
func units(s string) int {
	n := 0
	for _, r := range s {
		n += max(utf16.RuneLen(r), 1)
	}
	return n
}

// printable shortens what a caller sent so that it can be quoted in a sentence. It need not be UTF-8.
func printable(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// parseID reads the id of a face or a person that a caller gave in a body; what says of which.
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

// checkIDs refuses ids that no face or person can have, before anything is read.
func checkIDs(what string, ids ...string) error {
	for _, id := range ids {
		if _, err := parseID(what, id); err != nil {
			return err
		}
	}
	return nil
}

// badArgument is the contract's answer to what does not fit.
func badArgument(format string, args ...any) *visage.Refusal {
	return visage.Refuse(visage.Invalid, "BadArgument", format, args...)
}

func quotaExceeded(format string, args ...any) *visage.Refusal {
	return visage.Refuse(visage.Denied, "QuotaExceeded", format, args...)
}

// checkText refuses what is no text: it could be stored, but not given back as JSON.
func checkText(what, text string) error {
	if !utf8.ValidString(text) {
		return badArgument("The %s is not valid UTF-8.", what)
	}
	return nil
}

func checkName(name string) error {
	if n := units(name); n < 1 || n > mostName {
		return badArgument("The name must have 1 to %d characters; this one has %d.", mostName, n)
	}
	return checkText("name", name)
}

func checkUserData(data *string, most int) error {
	if data == nil {
		return nil
	}
	if n := units(*data); n > most {
		return badArgument("The userData may have at most %d characters; this one has %d.", most, n)
	}
	return checkText("userData", *data)
}

// check refuses a change that does not fit.
func (c Change) check() error {
	if c.Name != nil {
		if err := checkName(*c.Name); err != nil {
			return err
		}
	}
	return checkUserData(c.UserData, mostUserData)
}

// apply sets what the change names.
func (c Change) apply(name *string, userData **string) {
	if c.Name != nil {
		*name = *c.Name
	}
	if c.UserData != nil {
		*userData = c.UserData
	}
}

// top checks the page and returns how many entries it has at most.
func (p Page) top() (int, error) {
	if n := units(p.Start); n > mostStart {
		return 0, badArgument("start may have at most %d characters; this one has %d.", mostStart, n)
	}
	if p.Top == nil {
		return mostTop, nil
	}
	if *p.Top < 1 || *p.Top > mostTop {
		return 0, badArgument("top must be 1 to %d, not %d.", mostTop, *p.Top)
	}
	return *p.Top, nil
}

// between refuses a count out of its range.
func between(what string, n, least, most int) error {
	if n < least || n > most {
		return badArgument("%s must be %d to %d, not %d.", what, least, most, n)
	}
	return nil
}

// model returns the recogniser of a recognition model and the model's full name.
func (s *Service) model(name string) (Recogniser, string, error) {
	if name == "" {
		name = DefaultRecognitionModel
	}
	m, ok := s.models[name]
	if !ok {
		return nil, "", badArgument("The recognition model %q is not one of %s.", printable(name), s.modelNames)
	}
	return m, name, nil
}
