package visage_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/visage-face/visage"
)

func TestTags(t *testing.T) {
	many := func(n int) map[string]string {
		tags := map[string]string{}
		for i := range n {
			tags[fmt.Sprint(i)] = ""
		}
		return tags
	}
	for _, c := range []struct {
		name string
		tags map[string]string
		code string // empty: they are taken
	}{
		{"none", nil, ""},
		{"fifty", many(50), ""},
		{"fifty-one", many(51), "TooManyTags"},
		{"the longest name", map[string]string{strings.Repeat("é", 512): ""}, ""},
		{"a longer name", map[string]string{strings.Repeat("n", 513): ""}, "InvalidTagNameLength"},
		{"a longer name beyond the basic plane", map[string]string{strings.Repeat("𝄞", 257): ""},
			"InvalidTagNameLength"},
		{"an empty name", map[string]string{"": "v"}, "InvalidTagNameLength"},
		{"the longest value", map[string]string{"n": strings.Repeat("ü", 256)}, ""},
		{"a longer value", map[string]string{"n": strings.Repeat("v", 257)}, "InvalidTagValueLength"},
		{"anything in a value", map[string]string{"n": `<>%&\?/` + "\n"}, ""},
		{"blanks, dots and more in a name", map[string]string{"cost centre (a.b:c_d-e=@+)": "v"}, ""},
		{"two cases of one name", map[string]string{"Env": "a", "env": "b"}, "DuplicateTagNames"},
		{"a control character", map[string]string{"a\tb": ""}, "InvalidTagNameCharacters"},
	} {
		err := visage.CheckTags(c.tags)
		refusal, _ := errors.AsType[*visage.Refusal](err)
		if c.code == "" && err != nil || c.code != "" && (refusal == nil || refusal.Code != c.code) {
			t.Errorf("%s: %v, want %q", c.name, err, c.code)
		}
	}
	for _, bad := range `<>%&\?/` {
		if err := visage.CheckTags(map[string]string{"a" + string(bad): ""}); err == nil {
			t.Errorf("%q in a name is taken", bad)
		}
	}
}
