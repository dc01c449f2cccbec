package format

import "fmt"

// Store is the newest format of a store that this program knows. docs/formats/versions.md says what each format is and
// when the number rises: with every change that an older program could not read.
const Store = 2

// NewerError says that something stored is of a later format than the program knows. Nothing of it was changed.
type NewerError struct {
	What   string // what was written: "store", "backup", "keyring", "archive" …
	Format uint32 // of what was written
	Known  uint32 // the newest that the program knows
	// Since is the first version of the program that knows the format; empty: not known. It is not authenticated.
	Since string
	// Of names another numbering than that of stores, for example "Pebble"; empty: the formats of stores.
	Of string
}

// Error says which version to use.
func (e *NewerError) Error() string {
	use := "use the version that wrote it, or a later one"
	if isVersion(e.Since) {
		use = "use version " + e.Since + " or later"
	}
	of := e.Of
	if of != "" {
		of += " "
	}
	return fmt.Sprintf(
		"this %s was written by a newer version of Visage (%sformat %d); this program knows %sformats up to %d: %s",
		e.What, of, e.Format, of, e.Known, use)
}

// isVersion reports whether s is a number of a version, since its source is not authenticated.
func isVersion(s string) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && c != '.' {
			return false
		}
	}
	return s != "" && len(s) <= 16
}
