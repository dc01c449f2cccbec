//go:build !visage_next_format

package sealed

// further has nothing: see nextformat.go.
var further []migration
