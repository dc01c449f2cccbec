package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/visage-face/visage"
)

// maxDepth is how deep the JSON of a request may nest; no contract here nests deeper than 4.
const maxDepth = 16

// maxLenientDepth is the same for bodies with parts that are ignored, such as policies and network rules.
const maxLenientDepth = 64

// DecodeJSON decodes an object into a pointer to a struct, strictly: fields the struct lacks, fields given twice,
// values of the wrong type, text that is not UTF-8 or has half a surrogate pair, and anything after the object are
// refusals of kind Invalid that name the field where they can and never repeat its value. Names match in any case, as
// the clients of the contracts expect. A byte order mark is skipped.
func DecodeJSON(data []byte, into any) error {
	data, err := text(data)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return visage.Refuse(visage.Invalid, "", "The body is empty; it must be a JSON object.")
	}
	if !utf8.Valid(data) {
		return visage.Refuse(visage.Invalid, "", "The body is not UTF-8 text.")
	}
	if err := scan(data); err != nil {
		return err
	}
	if halfPair(data) {
		return visage.Refuse(visage.Invalid, "",
			"The body has text with an unpaired UTF-16 surrogate, which is not a valid character.")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return misfit(err)
	}
	return nil
}

// DecodeLenient decodes JSON into a pointer as encoding/json does, for contracts that ignore unknown fields, but
// refuses ambiguous documents: an object with a field given twice, in any case, at any depth. All refusals are of kind
// Invalid and have the given code; they name the field where that helps, and never repeat a value.
func DecodeLenient(data []byte, into any, code string) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return visage.Refuse(visage.Invalid, code, "The body is empty; it must be a JSON object.")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	err := scanValue(d, 0, maxLenientDepth)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			err = json.Unmarshal(data, into)
		} else {
			err = errTrailing
		}
	}
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		err = misfit(err)
	}
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.Invalid {
		return visage.Refuse(visage.Invalid, code, "%s", refusal.Message)
	}
	if errors.Is(err, errTrailing) {
		return visage.Refuse(visage.Invalid, code, "The body has data after its JSON value. Send one value alone.")
	}
	return visage.Refuse(visage.Invalid, code, "The body does not match the schema of this operation, which "+
		"/openapi.json describes.")
}

var errTrailing = errors.New("something follows the value")

// halfPair reports whether valid JSON has a \u escape of half a surrogate pair (RFC 8259 §8.2). encoding/json would
// replace it, so that the stored text would differ from the sent one.
func halfPair(data []byte) bool {
	open := false // a first half needs its second
	for {
		i := bytes.IndexByte(data, '\\')
		if i < 0 || open && i > 0 {
			return open
		}
		data = data[i+1:]
		if data[0] != 'u' {
			if open {
				return true
			}
			data = data[1:]
			continue
		}
		r, err := strconv.ParseUint(string(data[1:5]), 16, 16)
		second := 0xdc00 <= r && r < 0xe000
		if err != nil || open != second {
			return true
		}
		open = 0xd800 <= r && r < 0xdc00
		data = data[5:]
	}
}

// scan refuses documents that encoding/json accepts: with fields given twice, without an object, or with data after it.
func scan(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	first, err := d.Token()
	if err != nil {
		return misfit(err)
	}
	if first != json.Delim('{') {
		return visage.Refuse(visage.Invalid, "", "The body must be a JSON object.")
	}
	if err := scanObject(d, 1, maxDepth); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return visage.Refuse(visage.Invalid, "", "The body has data after its JSON object. Send one object alone.")
	}
	return nil
}

func scanObject(d *json.Decoder, depth, most int) error {
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return misfit(err)
		}
		name, ok := token.(string)
		if !ok {
			return visage.Refuse(visage.Invalid, "", "The body is not valid JSON.")
		}
		if folded := fold(name); seen[folded] {
			return visage.Refuse(visage.Invalid, "", "The field %s is given more than once.", quote(name))
		} else {
			seen[folded] = true
		}
		if err := scanValue(d, depth, most); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return misfit(err)
}

// fold folds a name as encoding/json does when it compares field names: more letters are equal than in lower case, such
// as s and the long s.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, name)
}

func scanValue(d *json.Decoder, depth, most int) error {
	token, err := d.Token()
	if err != nil {
		return misfit(err)
	}
	if _, nested := token.(json.Delim); !nested {
		return nil
	}
	if depth == most {
		return visage.Refuse(visage.Invalid, "", "The body nests deeper than %d levels.", most)
	}
	if token == json.Delim('{') {
		return scanObject(d, depth+1, most)
	}
	for d.More() {
		if err := scanValue(d, depth+1, most); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return misfit(err)
}

// misfit turns an error of encoding/json into a refusal. The error's own text is not used: it may repeat values.
func misfit(err error) error {
	if err == nil {
		return nil
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return visage.Refuse(visage.Invalid, "", "The body must be a JSON object.")
		}
		return visage.Refuse(visage.Invalid, "", "The field %s must be %s.", quote(wrong.Field), typeWords(wrong.Type))
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		name = strings.Trim(name, `"`)
		return visage.Refuse(visage.Invalid, "", "This operation has no field %s: check the spelling, or leave "+
			"it out.", quote(name))
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return visage.Refuse(visage.Invalid, "", "The body is not valid JSON: it breaks at byte %d.", syntax.Offset)
	}
	return visage.Refuse(visage.Invalid, "", "The body is not valid JSON.")
}

// quote quotes the name of a field, which the client chose, in limited length and without control characters.
func quote(name string) string {
	return fmt.Sprintf("%q", visage.Shortened(name))
}

// typeWords names the JSON type that a Go type is decoded from.
func typeWords(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "an array"
	}
	return "an object"
}
