package console

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// TestWhatNeedsAFreshProof holds that pages and forms for what cannot be undone, or gives a way in, ask for a proof
// that is a few minutes old; the page as well as its form.
func TestWhatNeedsAFreshProof(t *testing.T) {
	grave := regexp.MustCompile(
		`/(delete|purge|disable|erase|service|invite|secrets|subjects|keyring|operations/backup|keeping/release|` +
			`rootkey/(add|remove|rotate)|stores/.*(new/\{kind\}|remove))$`)
	found := 0
	for _, r := range new(Console).table() {
		if !grave.MatchString(r.pattern) {
			continue
		}
		found++
		if !r.need.fresh {
			t.Errorf("%s %s needs no fresh proof", r.method, r.pattern)
		}
		if r.need.may == nil {
			t.Errorf("%s %s is for everybody", r.method, r.pattern)
		}
	}
	if found < 20 {
		t.Errorf("%d pages and forms, want at least 20", found)
	}
	for _, r := range new(Console).table() {
		if r.need.open && r.method == http.MethodPost && r.pattern != prefix+"/language" &&
			!strings.HasPrefix(r.pattern, signInPath+"/") {
			t.Errorf("the form %s is open to everybody", r.pattern)
		}
	}
}
