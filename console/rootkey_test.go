package console_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
	"github.com/visage-face/visage/test/keystores"
)

const rootPage = "/console/operations/rootkey"

// TestRootKeyPages adds a protector, tests all, removes one and rotates the root key; the last protector stays.
func TestRootKeyPages(t *testing.T) {
	vault := keystores.StartVault(t)
	vault.Post("transit/keys/root", map[string]any{"type": "aes256-gcm96"})
	dir := t.TempDir()
	ca, secret := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	for path, text := range map[string]string{ca: vault.CA, secret: vault.Root} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := "hashivault://" + vault.Address + "/transit"
	s := servertest.Start(t, server.Config{KeyStores: []stores.Store{{Address: address, CAFile: ca,
		Login: stores.Login{Method: "token", SecretFile: secret}}}})
	b := s.Browser(t, "")
	first := b.Get(rootPage)
	want(t, "the page", first, 200, "lies beside the data", "cannot be removed", "file:")
	wantNot(t, "the page", first, rootPage+"/remove")
	want(t, "the page of operations", b.Get("/console/operations"), 200, `href="`+rootPage+`"`)

	const ask = rootPage + "/remove?protector=file"
	want(t, "the removal of the only protector", b.Submit(ask, rootPage+"/remove", nil), 409, "LastRootProtector",
		"no other protector opens the root key now")
	for name, try := range map[string]struct {
		entry  string
		status int
		says   string
	}{
		"nothing":                {"", 400, `id="e-entry"`},
		"no source":              {"floppy:/dev/fd0", 400, `id="e-entry"`},
		"a secret of the person": {"env:HOME", 403, "RootProtectorNotLocal"},
		"a file":                 {"file:" + filepath.Join(dir, "root.key"), 403, "RootProtectorNotLocal"},
		"a TPM that is not one":  {"tpm:/dev/shm/tpm", 403, "RootProtectorNotLocal"},
		"an unknown store":       {"hashivault://127.0.0.1:1/transit/keys/root", 400, "not in the settings"},
		"an unknown key":         {address + "/keys/none", 409, "RootProtectorUnavailable"},
	} {
		p := b.Submit(rootPage+"/add", rootPage+"/add", url.Values{"entry": {try.entry}})
		want(t, name, p, try.status, try.says)
	}
	led := func(what string, p servertest.Page, says string) servertest.Page {
		t.Helper()
		if to := p.Header.Get("Location"); p.Status != http.StatusSeeOther || to != rootPage {
			t.Fatalf("%s: %d to %q: %s", what, p.Status, to, p.Body)
		}
		after := b.Get(rootPage)
		want(t, what, after, 200, says)
		return after
	}
	p := led("adding", b.Submit(rootPage+"/add", rootPage+"/add", url.Values{"entry": {address + "/keys/root"}}),
		"is added")
	want(t, "two protectors", p, 200, ask, rootPage+"/remove?protector=hashivault", address+"/keys/root")
	want(t, "adding it again", b.Submit(rootPage+"/add", rootPage+"/add",
		url.Values{"entry": {address + "/keys/root"}}), 409, "RootProtectorExists")
	want(t, "a test", b.Submit(rootPage, rootPage+"/test", nil), 200, "All protectors open the root key")
	vault.Seal(true)
	want(t, "a test while a store is sealed", b.Submit(rootPage, rootPage+"/test", nil), 200,
		"Not every protector opens the root key", "Does not open it", "Opens the root key")
	want(t, "a removal while the other does not answer", b.Submit(ask, rootPage+"/remove", nil), 409,
		"LastRootProtector", "The others say")
	want(t, "a rotation while one does not answer", b.Submit(rootPage+"/rotate", rootPage+"/rotate", nil), 409,
		"RootProtectorUnavailable")
	vault.Seal(false)
	want(t, "the question", b.Get(ask), 200, "Rotate the root key afterwards")
	want(t, "a protector that is not there", b.Get(rootPage+"/remove?protector=none"), 404)
	p = led("the removal", b.Submit(ask, rootPage+"/remove", nil), "is removed")
	want(t, "after the removal", p, 200, "copies of it may exist", "cannot be removed")
	wantNot(t, "after the removal", p, "lies beside the data")
	led("the rotation", b.Submit(rootPage+"/rotate", rootPage+"/rotate", nil), "The root key is rotated")
	wantNot(t, "after the rotation", b.Get(rootPage), "copies of it may exist")

	owner := s.As(t, "Olga Owner", identity.Owner)
	for _, at := range []string{"", "/add", "/remove?protector=hashivault", "/rotate"} {
		want(t, at+" for an owner", owner.Get(rootPage+at), 403)
	}
	for _, at := range []string{"/test", "/add", "/remove", "/rotate"} {
		want(t, at+" by an owner", owner.Send(rootPage+at, url.Values{"token": {owner.Token()}}), 403)
	}
	wantNot(t, "operations for an owner", owner.Get("/console"), strings.TrimSuffix(rootPage, "/rootkey"))
}
