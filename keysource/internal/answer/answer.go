// Package answer calls key stores over HTTP, and reads what they say, for sources whose stores speak JSON.
package answer

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
)

// maxNesting exceeds the nesting of any answer of a key store, and maxFields the number of fields of an object in one:
// a key has one for each version.
const (
	maxNesting = 16
	maxFields  = 4096
)

// Unambiguous reports whether raw is one JSON value in which no object has a field twice, in whatever spelling:
// encoding/json ignores case, so that readers could disagree on such an answer.
func Unambiguous(raw []byte) bool {
	d := json.NewDecoder(bytes.NewReader(raw))
	if !distinct(d, 0) {
		return false
	}
	_, err := d.Token()
	return errors.Is(err, io.EOF)
}

func distinct(d *json.Decoder, depth int) bool {
	t, err := d.Token()
	if err != nil || depth > maxNesting {
		return false
	}
	opening, isDelim := t.(json.Delim)
	if !isDelim {
		return true
	}
	var names []string
	for d.More() {
		if opening == '{' {
			name, err := d.Token()
			text, isText := name.(string)
			if err != nil || !isText {
				return false
			}
			// the same folding as that of encoding/json
			if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, text) }) ||
				len(names) == maxFields {
				return false
			}
			names = append(names, text)
		}
		if !distinct(d, depth+1) {
			return false
		}
	}
	_, err = d.Token()
	return err == nil
}
