package graphapi

import (
	"regexp"
	"slices"
	"strings"

	"github.com/visage-face/visage"
)

// test reports whether an object matches a filter.
type test = func(object) bool

// maxFilter limits the length of a filter in bytes, and with it the depth of its nesting.
const maxFilter = 4096

// tokens of a filter: a text in quotes, in which two quotes stand for one; a mark; a word.
var tokenPattern = regexp.MustCompile(`^\s*(?:'((?:[^']|'')*)'|([(),:])|([A-Za-z_][\w./-]*|[0-9A-Fa-f][\w-]*))`)

type token struct {
	text   string
	quoted bool
}

// filter reads OData's $filter (OData 4.01 part 2, §5.1.1), in the subset that clients of directories use: eq, ne, in,
// startswith and any over properties that are text, lists of text or truth values.
type filter struct{ tokens []token }

// parseFilter parses a filter. An invalid one gives a refusal of kind Invalid.
func parseFilter(text string) (test, error) {
	if len(text) > maxFilter {
		return nil, invalidFilter("it is longer than 4,096 bytes")
	}
	var f filter
	for rest := strings.TrimRight(text, " \t"); rest != ""; {
		m := tokenPattern.FindStringSubmatchIndex(rest)
		if m == nil {
			return nil, invalidFilter("it has a character that is not allowed there, or text without its closing quote")
		}
		switch {
		case m[2] >= 0:
			f.tokens = append(f.tokens, token{strings.ReplaceAll(rest[m[2]:m[3]], "''", "'"), true})
		case m[4] >= 0:
			f.tokens = append(f.tokens, token{text: rest[m[4]:m[5]]})
		default:
			f.tokens = append(f.tokens, token{text: rest[m[6]:m[7]]})
		}
		rest = rest[m[1]:]
	}
	t, err := f.either()
	if err == nil && len(f.tokens) > 0 {
		err = invalidFilter("something follows its end")
	}
	return t, err
}

func invalidFilter(why string) error {
	return visage.Refuse(visage.Invalid, "BadRequest", "Invalid filter clause: %s.", why)
}

// next takes the next token if it is one of the words, in any case.
func (f *filter) next(words ...string) bool {
	if len(f.tokens) == 0 || f.tokens[0].quoted ||
		!slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, f.tokens[0].text) }) {
		return false
	}
	f.tokens = f.tokens[1:]
	return true
}

func (f *filter) want(word string) error {
	if !f.next(word) {
		return invalidFilter("it lacks " + word)
	}
	return nil
}

// take takes the next token of any kind.
func (f *filter) take() (token, error) {
	if len(f.tokens) == 0 {
		return token{}, invalidFilter("it ends too early")
	}
	t := f.tokens[0]
	f.tokens = f.tokens[1:]
	return t, nil
}

func (f *filter) either() (test, error) {
	left, err := f.both()
	for err == nil && f.next("or") {
		a := left
		var b test
		b, err = f.both()
		left = func(o object) bool { return a(o) || b(o) }
	}
	return left, err
}

func (f *filter) both() (test, error) {
	left, err := f.single()
	for err == nil && f.next("and") {
		a := left
		var b test
		b, err = f.single()
		left = func(o object) bool { return a(o) && b(o) }
	}
	return left, err
}

func (f *filter) single() (test, error) {
	switch {
	case f.next("not"):
		t, err := f.single()
		return func(o object) bool { return !t(o) }, err
	case f.next("("):
		t, err := f.either()
		if err == nil {
			err = f.want(")")
		}
		return t, err
	case f.next("startswith"):
		return f.startsWith()
	}
	property, err := f.take()
	if err != nil || property.quoted {
		return nil, invalidFilter("a comparison begins with a property")
	}
	if of, found := strings.CutSuffix(property.text, "/any"); found {
		return f.any(of)
	}
	return f.compare(func(o object) []string { return valuesOf(o, property.text) }, property.text)
}

// startsWith parses the function's arguments.
func (f *filter) startsWith() (test, error) {
	if err := f.want("("); err != nil {
		return nil, err
	}
	property, err := f.take()
	if err == nil {
		err = f.want(",")
	}
	if err != nil {
		return nil, err
	}
	prefix, err := f.take()
	if err == nil {
		err = f.want(")")
	}
	if err == nil {
		err = known(property.text)
	}
	return func(o object) bool {
		return slices.ContainsFunc(valuesOf(o, property.text), func(v string) bool {
			return strings.HasPrefix(strings.ToLower(v), strings.ToLower(prefix.text))
		})
	}, err
}

// any parses "(c:c eq 'x')", which is true if one value of a list satisfies it.
func (f *filter) any(property string) (test, error) {
	if err := f.want("("); err != nil {
		return nil, err
	}
	variable, err := f.take()
	if err == nil {
		err = f.want(":")
	}
	if err == nil {
		err = f.want(variable.text)
	}
	if err != nil {
		return nil, err
	}
	t, err := f.compare(func(o object) []string { return valuesOf(o, property) }, property)
	if err == nil {
		err = f.want(")")
	}
	return t, err
}

// compare parses an operator and its right-hand side.
func (f *filter) compare(values func(object) []string, property string) (test, error) {
	if err := known(property); err != nil {
		return nil, err
	}
	var wanted []string
	negative := false
	switch {
	case f.next("eq"):
	case f.next("ne"):
		negative = true
	case f.next("in"):
		if err := f.want("("); err != nil {
			return nil, err
		}
		for {
			t, err := f.take()
			if err != nil {
				return nil, err
			}
			wanted = append(wanted, t.text)
			if f.next(")") {
				return among(values, wanted, false), nil
			}
			if err := f.want(","); err != nil {
				return nil, err
			}
		}
	default:
		return nil, invalidFilter("its operators are eq, ne and in")
	}
	t, err := f.take()
	if err != nil {
		return nil, err
	}
	return among(values, append(wanted, t.text), negative), nil
}

// among is true if one of an object's values is a wanted one; as in directories, case is ignored.
func among(values func(object) []string, wanted []string, negative bool) test {
	return func(o object) bool {
		found := slices.ContainsFunc(values(o), func(v string) bool {
			return slices.ContainsFunc(wanted, func(w string) bool { return strings.EqualFold(v, w) })
		})
		return found != negative
	}
}

// properties are the spellings of the properties that a filter may name, by lower case.
var properties = map[string]string{
	"id": "id", "appid": "appId", "displayname": "displayName", "appdisplayname": "appDisplayName",
	"serviceprincipalnames": "servicePrincipalNames", "serviceprincipaltype": "servicePrincipalType",
	"alternativenames": "alternativeNames", "accountenabled": "accountEnabled", "identifieruris": "identifierUris",
	"appownerorganizationid": "appOwnerOrganizationId", "tags": "tags", "signinaudience": "signInAudience",
	"userprincipalname": "userPrincipalName", "mail": "mail", "othermails": "otherMails",
	"mailnickname": "mailNickname",
	"givenname":    "givenName", "surname": "surname", "securityenabled": "securityEnabled",
}

func known(property string) error {
	if _, found := properties[strings.ToLower(property)]; !found {
		return visage.Refuse(visage.Invalid, "Request_UnsupportedQuery",
			"Unsupported or invalid query filter clause specified for property '%s'.",
			visage.Shortened(property))
	}
	return nil
}

// valuesOf returns the values of a property of an object, as texts.
func valuesOf(o object, property string) []string {
	switch v := o[properties[strings.ToLower(property)]].(type) {
	case string:
		return []string{v}
	case []string:
		return v
	case bool:
		if v {
			return []string{"true"}
		}
		return []string{"false"}
	}
	return nil
}
