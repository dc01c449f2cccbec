package visage

import (
	"strings"
	"unicode"
	"unicode/utf16"
)

// Bounds of tags, as in Azure Resource Manager. Characters are counted as its clients count them, in UTF-16 code units.
const (
	maxTags     = 50
	maxTagName  = 512
	maxTagValue = 256
	badInNames  = `<>%&\?/`
)

// CheckTags refuses the tags that Azure Resource Manager refuses: more than 50, an empty name, a name or value that is
// too long, reserved and control characters in a name, and names that differ only in case.
func CheckTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return Refuse(Invalid, "TooManyTags", "There are %d tags; at most %d are possible.", len(tags), maxTags)
	}
	seen := make(map[string]bool, len(tags))
	for name, value := range tags {
		if n := UTF16Len(name); n == 0 || n > maxTagName {
			return Refuse(Invalid, "InvalidTagNameLength", "The name of a tag has %d characters; it must have 1 to %d.",
				n, maxTagName)
		}
		if strings.ContainsAny(name, badInNames) || strings.ContainsFunc(name, unicode.IsControl) {
			return Refuse(Invalid, "InvalidTagNameCharacters",
				"The tag name %q has a control character or one of the reserved characters %s.", Shortened(name),
				badInNames)
		}
		if n := UTF16Len(value); n > maxTagValue {
			return Refuse(Invalid, "InvalidTagValueLength",
				"The value of the tag %q has %d characters; at most %d are possible.",
				Shortened(name), n, maxTagValue)
		}
		folded := strings.ToLower(name)
		if seen[folded] {
			return Refuse(Invalid, "DuplicateTagNames",
				"The tag name %q is given twice: names of tags are the same in any case.",
				Shortened(name))
		}
		seen[folded] = true
	}
	return nil
}

// UTF16Len returns the length of a text in UTF-16 code units, which clients of Azure call characters.
func UTF16Len(text string) int {
	n := 0
	for _, r := range text {
		n += utf16.RuneLen(r)
	}
	return n
}

// Shortened bounds the text that a sentence repeats from a request, to 64 bytes. It need not be UTF-8.
func Shortened(text string) string {
	const most = 64
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
