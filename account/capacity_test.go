package account_test

import (
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/keysource/sourcetest"
)

// TestLocationsAreNames checks that locations are valid names: they become parts of addresses and of tables in
// terminals.
func TestLocationsAreNames(t *testing.T) {
	o := newAccountsWithAccess(t, newStore(t, "", sourcetest.NewFake("root")))
	for _, bad := range []string{" ", "a/b", "west?us", "\x1b[31mred", "..", strings.Repeat("a", 65)} {
		_, err := o.Create(t.Context(), visage.Caller{},
			account.Creation{Name: "face", Location: bad, Tier: visage.S0})
		wantRefusal(t, err, visage.Invalid, "LocationNotAvailableForResourceType")
		_, err = o.Submit(t.Context(), visage.Caller{}, "r",
			account.Asked{Service: "Face", Region: bad, Contact: "c", Reason: "r"})
		wantRefusal(t, err, visage.Invalid, "InvalidRequestContent")
	}
	if _, err := o.Create(t.Context(), visage.Caller{},
		account.Creation{Name: "face", Location: "West US 2", Tier: visage.S0}); err != nil {
		t.Error(err)
	}
}
