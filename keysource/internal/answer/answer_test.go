package answer

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
)

// byTokens is Unambiguous as encoding/json's tokens have it: slower, and without an eye on bytes.
func byTokens(raw []byte) bool {
	var distinct func(d *json.Decoder, depth int) bool
	distinct = func(d *json.Decoder, depth int) bool {
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
				if err != nil || !isText || len(names) == maxFields {
					return false
				}
				for _, n := range names {
					if strings.EqualFold(n, text) {
						return false
					}
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
	d := json.NewDecoder(bytes.NewReader(raw))
	if !distinct(d, 0) {
		return false
	}
	_, err := d.Token()
	return errors.Is(err, io.EOF)
}

// FuzzUnambiguous has the bytes and the tokens of an answer agree.
func FuzzUnambiguous(f *testing.F) {
	for text, want := range map[string]bool{
		`{"data":{"plaintext":"QQ==","n":[1,-2.5e3,true,null]},"errors":null}`: true,
		" {\"a\" : [ { \"a\":1 } , {\"a\":\"\\\"a\\\":\"} ] , \"b\":\"\" } \n": true,
		`{"a":{"a":{"a":1}},"b":{"a":2}}`:                                      true,
		`{"a":{"b":1},"b":1,"c":{"b":1,"a":2}}`:                                true,
		`[]`:                                                                   true, `""`: true, `0`: true, `null`: true, `{}`: true,
		`{"a":1,"A":2}`:                    false,
		`{"key":1,"\u006bey":2}`:           false,
		`{"key":1,"` + "\u212a" + `ey":2}`: false, // the sign of the kelvin, which is a k when case is ignored
		"{\"\xff\":1,\"\xfe\":2}":          false, // both are read as the replacement character
		`{"a":[{"b":1,"B":2}]}`:            false,
		`{"a":1,"b":{"c":1},"a":2}`:        false,
		``:                                 false, ` `: false, `{"a":1} {}`: false, `{"a":1`: false, `{"a" 1}`: false, `{"a":1,}`: false,
		strings.Repeat("[", maxNesting+1) + strings.Repeat("]", maxNesting+1):             true,
		strings.Repeat("[", maxNesting+2) + strings.Repeat("]", maxNesting+2):             false,
		strings.Repeat("[", maxNesting+1) + "1" + strings.Repeat("]", maxNesting+1):       false,
		`{"a":` + strings.Repeat("[", maxNesting) + strings.Repeat("]", maxNesting) + `}`: true,
	} {
		if got := Unambiguous([]byte(text)); got != want {
			f.Errorf("%.80q: %v, want %v", text, got, want)
		}
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if got, want := Unambiguous(raw), byTokens(raw); got != want && (got || json.Valid(raw)) {
			t.Errorf("%q: %v, and tokens say %v", raw, got, want)
		}
	})
}

func BenchmarkUnambiguous(b *testing.B) {
	raw := []byte(`{"request_id":"5b0d3c2e-64c5-0b5f-0a6e-2f6f0a9f8a77","lease_id":"","renewable":false,` +
		`"lease_duration":0,"data":{"plaintext":"` + strings.Repeat("QUJD", 21) + `"},"wrap_info":null,"warnings":null,` +
		`"auth":null}`)
	for b.Loop() {
		if !Unambiguous(raw) {
			b.Fatal("refused")
		}
	}
}
