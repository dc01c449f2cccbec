package visage

import "strings"

// FoldLocation brings the spellings of a location together: "West US 2" is "westus2". Compare locations in this form.
func FoldLocation(location string) string {
	return strings.ToLower(strings.ReplaceAll(location, " ", ""))
}

// SameLocation reports whether two spellings name one location.
func SameLocation(a, b string) bool { return FoldLocation(a) == FoldLocation(b) }
