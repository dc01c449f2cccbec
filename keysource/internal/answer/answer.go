// Package answer reads what a key store says, for sources whose stores speak JSON.
package answer

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
)

// maxNesting exceeds the nesting of any answer of a key store.
const maxNesting = 16

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
	var names [][]byte
	for d.More() {
		if opening == '{' {
			name, err := d.Token()
			text, isText := name.(string)
			if err != nil || !isText {
				return false
			}
			folded := bytes.ToLower([]byte(text))
			if slices.ContainsFunc(names, func(n []byte) bool { return bytes.Equal(n, folded) }) {
				return false
			}
			names = append(names, folded)
		}
		if !distinct(d, depth+1) {
			return false
		}
	}
	_, err = d.Token()
	return err == nil
}
