package pkcs11

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/visage-face/visage"
)

// Scheme begins the addresses of tokens: pkcs11:token=LABEL, as in RFC 7512.
const Scheme = "pkcs11"

// form is the form of the identifier of a key, for messages.
const form = "pkcs11:token={label};object={key} or pkcs11:token={label};object={key};id={CKA_ID in percent-encoding}"

// The bounds of names, in bytes. PKCS#11 gives a token 32, and no bound to the others.
const (
	maxAttribute = 32
	maxLabel     = 128
	maxID        = 64
)

// versionPattern matches versions: CKA_ID in hexadecimal and, behind a hyphen, what the key is recognised by.
var versionPattern = regexp.MustCompile(`^([0-9a-f]{2}){1,64}(-([0-9a-f]{6}|[0-9a-f]{16}))?$`)

// attributes are those of the address of a token, in the order of its one spelling.
var attributes = []string{"token", "manufacturer", "model", "serial"}

// place is a parsed address: the attributes of a token.
type place map[string]string

// String returns the address in its one spelling.
func (p place) String() string {
	var parts []string
	for _, name := range attributes {
		if value, given := p[name]; given {
			parts = append(parts, name+"="+escape(value))
		}
	}
	return Scheme + ":" + strings.Join(parts, ";")
}

// ParseKey parses a reference to keys of a token, and returns it in its one spelling: the attributes token,
// manufacturer, model and serial in this order, and everything but letters, digits and -._~ in percent-encoding. With
// a name, address is that of the token; without, it is the identifier of the key, with the attributes object and id or
// with /keys/NAME or /keys/NAME/VERSION behind it. The name is CKA_LABEL in percent-encoding, the version CKA_ID in
// hexadecimal, and maybe what Source adds to it. A query is refused: the module and the PIN are the operator's.
func ParseKey(address, name, version string) (visage.KeyRef, error) {
	refuse := func(format string, values ...any) (visage.KeyRef, error) {
		return visage.KeyRef{}, fmt.Errorf(format, values...)
	}
	scheme, rest, _ := strings.Cut(address, ":")
	path, query, asked := strings.Cut(rest, "?")
	switch {
	case !strings.EqualFold(scheme, Scheme):
		return refuse("this is not the address of a token: give %s", form)
	case strings.Contains(query, "pin-value"):
		return refuse("the address of a token has a PIN in it: leave it out, and change the PIN; the operator names " +
			"a file with it")
	case asked || strings.Contains(rest, "#"):
		return refuse("the address of a token has a query or a fragment: leave it out; the operator names the module " +
			"and the file with the PIN")
	}
	path, behind, found := strings.Cut(path, "/")
	at := place{}
	object, id := "", ""
	for part := range strings.SplitSeq(path, ";") {
		key, raw, given := strings.Cut(part, "=")
		value, err := unescape(raw)
		switch {
		case !given || err != nil || value == "":
			return refuse("%.100q is no attribute of a PKCS#11 URI: give %s", part, form)
		case at[key] != "" || key == "object" && object != "" || key == "id" && id != "":
			return refuse("the address of a token has %s twice", key)
		case key == "id":
			id = hex.EncodeToString([]byte(value))
		case key == "object":
			object = escape(value)
		case key == "type" && (value == "private" || value == "secret-key"):
		case key == "token" || key == "manufacturer" || key == "model" || key == "serial":
			if len(value) > maxAttribute || !readable(value) {
				return refuse("the %s of a token has at most %d bytes of text", key, maxAttribute)
			}
			at[key] = value
		default:
			return refuse("the attribute %.40q cannot be used for a key here: give %s", key, form)
		}
	}
	if at["token"] == "" && at["serial"] == "" {
		return refuse("the address names no token: give its label or its serial number, as in %s", form)
	}
	if found {
		named, of, _ := strings.Cut(strings.TrimPrefix(behind, "keys/"), "/")
		if !strings.HasPrefix(behind, "keys/") || object != "" || id != "" {
			return refuse("%.100q is not behind the address of a token: give %s", behind, form)
		}
		object, id = named, of
	}
	switch {
	case name != "" && (object != "" || id != ""):
		return refuse("the key is named twice: give the address of the token, pkcs11:token={label}, and the key's name")
	case name == "" && object == "":
		return refuse("the address names no key: give %s", form)
	case name == "":
		name = object
		if version != "" && id != "" && version != id {
			return refuse("the key identifier and keyVersion name different versions")
		}
		if id != "" {
			version = id
		}
	}
	label, err := unescape(name)
	switch {
	case err != nil || len(label) == 0 || len(label) > maxLabel || !readable(label):
		return refuse("the name of a key in a token is its label, 1 to %d bytes of text, with everything but letters, "+
			"digits and -._~ in percent-encoding; got %.200q", maxLabel, name)
	case version != "" && !versionPattern.MatchString(version):
		return refuse("the version of a key in a token is its CKA_ID in hexadecimal, of 1 to %d bytes; got %.200q",
			maxID, version)
	}
	return visage.KeyRef{Vault: at.String(), Name: escape(label), Version: version}, nil
}

// ParseAddress returns the address of a token in its one spelling.
func ParseAddress(address string) (string, error) {
	key, err := ParseKey(address, "any", "")
	return key.Vault, err
}

// Label returns the CKA_LABEL in a name of ParseKey.
func Label(name string) string {
	label, _ := unescape(name) // of ParseKey
	return label
}

// TokenLabel returns the label of the token in an address of ParseAddress; empty: it names the token by something else.
func TokenLabel(address string) string {
	at, err := placeOf(address)
	if err != nil {
		return ""
	}
	return at["token"]
}

// placeOf parses the address of a token.
func placeOf(address string) (place, error) {
	key, err := ParseKey(address, "any", "")
	if err != nil {
		return nil, err
	}
	if key.Vault != address {
		return nil, fmt.Errorf("%s is not in its one spelling, which is %s", address, key.Vault)
	}
	at := place{}
	for part := range strings.SplitSeq(strings.TrimPrefix(address, Scheme+":"), ";") {
		name, raw, _ := strings.Cut(part, "=")
		at[name], _ = unescape(raw) // of ParseKey
	}
	return at, nil
}

// readable reports whether an attribute is text that can be logged.
func readable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

const unreserved = "-._~" // besides letters and digits, RFC 3986 §2.3

// escape encodes all but letters, digits and unreserved marks.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if isAlphanumeric(c) || strings.IndexByte(unreserved, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}

// available are the other characters that values may have as they are, RFC 7512 §2.3.
const available = ":[]@!$'()*+,=&"

var errEscape = errors.New("not in percent-encoding")

// unescape is strict: it takes the characters of RFC 7512, and two digits behind each percent sign.
func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%':
			if i+2 >= len(s) {
				return "", errEscape
			}
			raw, err := hex.DecodeString(s[i+1 : i+3])
			if err != nil {
				return "", errEscape
			}
			b.WriteByte(raw[0])
			i += 2
		case isAlphanumeric(c), strings.IndexByte(unreserved+available, c) >= 0:
			b.WriteByte(c)
		default:
			return "", errEscape
		}
	}
	return b.String(), nil
}
