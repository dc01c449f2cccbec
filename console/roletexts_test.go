package console

import (
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
)

// TestRolesAreExplained holds that every role has a text in both languages, and that the English one is the role's own.
func TestRolesAreExplained(t *testing.T) {
	en, err := readCatalogue("en")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, r := range identity.Roles() {
		known["role."+r.ID] = true
		if got, want := en["role."+r.ID].text, strings.ReplaceAll(r.Description, "'", "’"); got != want {
			t.Errorf("%s: the console says %q, the role %q", r.Name, got, want)
		}
	}
	for key := range en {
		if strings.HasPrefix(key, "role.") && !known[key] {
			t.Errorf("message %q explains no role", key)
		}
	}
}
