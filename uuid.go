package visage

import "strings"

// FoldUUID returns a UUID in the one form in which ids are kept and answered, which is in lower case (RFC 9562 §4):
// some clients write theirs in upper case. Whatever is no UUID comes back as it is.
func FoldUUID(text string) string {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return text
	}
	if strings.Trim(text, "0123456789abcdefABCDEF-") != "" {
		return text
	}
	return strings.ToLower(text)
}
