package visage

import "strings"

// FoldLocation normalises the spelling of a location: "West US 2" becomes "westus2". Compare locations in this form.
func FoldLocation(location string) string {
	return strings.ToLower(strings.ReplaceAll(location, " ", ""))
}

// SameLocation reports whether two spellings name one location.
func SameLocation(a, b string) bool { return FoldLocation(a) == FoldLocation(b) }
