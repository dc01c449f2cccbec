package face

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// fold returns a name, or what is looked for in names, without what people leave out or vary when they type: case,
// accents, ligatures and other compatibility forms (NFKD of Unicode Standard Annex 15), repeated blanks, control and
// format characters. Vowel signs of scripts where they are part of the word, such as Devanagari or Thai, stay. The
// result has no byte 0.
func fold(name string) string {
	if ascii(name) {
		return tidy(strings.ToLower(name))
	}
	var b strings.Builder
	for _, r := range norm.NFKD.String(name) {
		r = unicode.ToLower(unicode.ToUpper(r)) // all forms of a letter, such as both of the Greek sigma
		plain, found := plainLetters[r]
		switch {
		case found:
			b.WriteString(plain)
		case isAccent(r):
		default:
			b.WriteRune(r)
		}
	}
	return tidy(norm.NFC.String(b.String())) // Korean syllables, which NFKD has taken apart, whole again
}

// plainLetters are letters that have no decomposition in Unicode, as people without them on their keyboard type them,
// and forms of the apostrophe and the hyphen.
var plainLetters = map[rune]string{
	'ß': "ss", 'æ': "ae", 'œ': "oe", 'ø': "o", 'đ': "d", 'ð': "d", 'þ': "th", 'ł': "l", 'ħ': "h", 'ı': "i", 'ŧ': "t",
	'ŋ': "n", '’': "'", '‘': "'", 'ʼ': "'", '‐': "-", '–': "-", '—': "-",
}

// isAccent reports whether a combining mark may be left out: diacritics of no script in particular, Hebrew points and
// Arabic vowel marks. The voicing marks of Japanese make other letters.
func isAccent(r rune) bool {
	return unicode.Is(unicode.Mn, r) && r != '\u3099' && r != '\u309a' &&
		unicode.In(r, unicode.Inherited, unicode.Hebrew, unicode.Arabic)
}

// tidy returns text with single blanks between its words, and without control and format characters.
func tidy(text string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.In(r, unicode.Cc, unicode.Cf):
			return -1
		}
		return r
	}, text)
	return strings.Join(strings.Fields(clean), " ")
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
