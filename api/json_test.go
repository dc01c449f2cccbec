package api_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
)

type decoded struct {
	Name  string   `json:"name"`
	IDs   []string `json:"ids"`
	Top   *int     `json:"top"`
	Share *float64 `json:"share"`
	On    bool     `json:"on"`
	In    *struct {
		Deep string `json:"deep"`
	} `json:"in"`
}

func TestDecodeJSON(t *testing.T) {
	for _, row := range []struct {
		name, body, want string // want: a part of the refusal's sentence; empty: decodes
	}{
		{"everything", `{"name":"n","ids":["a","b"],"top":3,"share":0.5,"on":true,"in":{"deep":"d"}}`, ""},
		{"empty object", ` {} `, ""},
		{"names in any case", `{"NAME":"n","Ids":[]}`, ""},
		{"null is absent", `{"name":null,"ids":null,"top":null}`, ""},
		{"nothing", "", "body is empty"},
		{"only space", " \n", "body is empty"},
		{"not JSON", `{"name":`, "not valid JSON"},
		{"bare word", `name`, "not valid JSON"},
		{"array", `["name"]`, "must be a JSON object"},
		{"null", `null`, "must be a JSON object"},
		{"string", `"name"`, "must be a JSON object"},
		{"trailing object", `{} {}`, "has data after"},
		{"trailing junk", `{}x`, "has data after"},
		{"unknown field", `{"nmae":"canary"}`, `has no field "nmae"`},
		{"unknown inner field", `{"in":{"x":"canary"}}`, `has no field "x"`},
		{"wrong type", `{"name":["canary"]}`, `"name" must be a string`},
		{"wrong member", `{"ids":["a",7]}`, `"ids`},
		{"fraction for a count", `{"top":1.5}`, `"top" must be a whole number`},
		{"count in words", `{"top":"canary"}`, `"top" must be a whole number`},
		{"huge count", `{"top":99999999999999999999}`, `"top" must be a whole number`},
		{"word for a flag", `{"on":"canary"}`, `"on" must be true or false`},
		{"word for a share", `{"share":"canary"}`, `"share" must be a number`},
		{"inner type", `{"in":{"deep":1}}`, `"in.deep" must be a string`},
		{"array for an object", `{"in":[]}`, `"in" must be an object`},
		{"twice", `{"name":"a","name":"canary"}`, `"name" is given more than once`},
		{"twice in two cases", `{"name":"a","Name":"canary"}`, `"Name" is given more than once`},
		{"twice inside", `{"in":{"deep":"a","deep":"canary"}}`, `"deep" is given more than once`},
		{"twice to encoding/json", `{"ids":[],"id\u017f":["canary"]}`, `given more than once`},
		{"too deep", `{"x":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`, "nests deeper"},
		{"not UTF-8", "{\"name\":\"\xff\"}", "not UTF-8"},
		{"a pair", `{"name":"\ud83d\uDE00 \\ud800 \n\u0041"}`, ""},
		{"first half alone", `{"name":"\ud83d"}`, "unpaired UTF-16 surrogate"},
		{"first half before other text", `{"name":"\ud83d-\ude00"}`, "unpaired UTF-16 surrogate"},
		{"first half before a line break", `{"name":"\ud83d\n"}`, "unpaired UTF-16 surrogate"},
		{"first half twice", `{"name":"\ud83d\ud83d\ude00"}`, "unpaired UTF-16 surrogate"},
		{"second half alone", `{"ids":["\uDE00"]}`, "unpaired UTF-16 surrogate"},
		{"long unknown name", `{"` + strings.Repeat("x", 1000) + `":1}`, "…\": check the spelling"},
		{"control characters in a name", `{"a\u0000\nb":1}`, "has no field"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var into decoded
			err := api.DecodeJSON([]byte(row.body), &into)
			if row.want == "" {
				if err != nil {
					t.Fatalf("%s: %v", row.body, err)
				}
				return
			}
			refusal, ok := errors.AsType[*visage.Refusal](err)
			if !ok || refusal.Kind != visage.Invalid {
				t.Fatalf("%s: got %v, want a refusal of kind invalid", row.body, err)
			}
			if !strings.Contains(refusal.Message, row.want) {
				t.Errorf("%s: got %q, want %q in it", row.body, refusal.Message, row.want)
			}
			if strings.Contains(refusal.Message, "canary") {
				t.Errorf("%s: the sentence repeats a value: %q", row.body, refusal.Message)
			}
			if strings.ContainsAny(refusal.Message, "\n\x00") || len(refusal.Message) > 200 {
				t.Errorf("%s: the sentence contains unprintable text: %q", row.body, refusal.Message)
			}
		})
	}
}

// TestDecodeLenient checks that fields that a contract ignores are ignored, and that nothing is ambiguous.
func TestDecodeLenient(t *testing.T) {
	for _, row := range []struct {
		name, body, want string // want: a part of the refusal's sentence; empty: decodes
	}{
		{"everything", `{"name":"n","ids":["a","b"],"top":3,"in":{"deep":"d"}}`, ""},
		{"unknown fields", `{"name":"n","x":{"y":[{"z":1},{"z":2}]}}`, ""},
		{"one name in two objects", `{"x":{"name":"a"},"y":{"name":"b"},"name":"n"}`, ""},
		{"deep", `{"x":` + strings.Repeat("[", 60) + strings.Repeat("]", 60) + `}`, ""},
		{"null", `null`, ""},
		{"twice", `{"name":"n","name":"canary"}`, `"name" is given more than once`},
		{"twice in two cases", `{"name":"n","NAME":"canary"}`, `"NAME" is given more than once`},
		{"twice to encoding/json", `{"ids":[],"id\u017f":["canary"]}`, "given more than once"},
		{"twice by an escape", `{"name":"n","n\u0061me":"canary"}`, `"name" is given more than once`},
		{"twice inside", `{"in":{"deep":"a","deep":"canary"}}`, `"deep" is given more than once`},
		{"twice in what is passed over", `{"x":[{"y":1,"y":"canary"}]}`, `"y" is given more than once`},
		{"too deep", `{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "nests deeper"},
		{"wrong type", `{"name":["canary"]}`, `"name" must be a string`},
		{"wrong type inside", `{"in":{"deep":1}}`, `"in.deep" must be a string`},
		{"no object", `[]`, "must be a JSON object"},
		{"trailing object", `{} {}`, "has data after"},
		{"trailing junk", `{}x`, "has data after"},
		{"nothing", ``, "is empty"},
		{"no JSON", `{"name":`, "not valid JSON"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var into decoded
			err := api.DecodeLenient([]byte(row.body), &into, "Odd")
			if row.want == "" {
				if err != nil {
					t.Fatalf("%s: %v", row.body, err)
				}
				return
			}
			refusal, ok := errors.AsType[*visage.Refusal](err)
			if !ok || refusal.Kind != visage.Invalid || refusal.Code != "Odd" ||
				!strings.Contains(refusal.Message, row.want) {
				t.Errorf("%s: got %v, want %q", row.body, err, row.want)
			}
			if ok && strings.Contains(refusal.Message, "canary") {
				t.Errorf("%s: the sentence repeats a value: %q", row.body, refusal.Message)
			}
		})
	}
}

// FuzzDecodeJSON checks that accepted JSON has the same meaning for encoding/json, and that the error is otherwise a
// refusal.
func FuzzDecodeJSON(f *testing.F) {
	for _, seed := range []string{
		`{"name":"n","ids":["a"],"top":3,"share":1e-3,"on":true,"in":{"deep":"d"}}`, `{}`, `{"name":"a","Name":"b"}`,
		`{"x":[[[[]]]]}`,
		`{"top":1.5}`, `[1]`, `null`, `{} {}`, "{\"name\":\"\xff\"}", `{"name":"\ud800"}`, `{"K":1,"\u212a":2}`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var strict, loose decoded
		err := api.DecodeJSON(data, &strict)
		if err != nil {
			if _, ok := errors.AsType[*visage.Refusal](err); !ok {
				t.Fatalf("refused with %T: %v", err, err)
			}
			return
		}
		if err := json.Unmarshal(data, &loose); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		const replacement = "\ufffd"
		if strings.Contains(strict.Name, replacement) && !strings.Contains(string(data), replacement) &&
			!strings.Contains(strings.ToLower(string(data)), `\ufffd`) {
			t.Fatalf("accepted %q with replaced text", data)
		}
		if !reflect.DeepEqual(strict, loose) {
			t.Fatalf("got %+v, encoding/json got %+v", strict, loose)
		}
	})
}
