package console_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"html"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

const (
	safe  = "/console/vaults/safe"
	faces = safe + "/keys/faces"
)

// everyPermission are the boxes of all permissions that managing keys needs.
func everyPermission(object string) url.Values {
	boxes := url.Values{"object": {object}}
	for _, name := range []string{"get", "list", "create", "import", "update", "delete", "recover", "purge", "backup",
		"restore", "rotate", "getrotationpolicy", "setrotationpolicy"} {
		boxes.Set("may-"+name, "on")
	}
	return boxes
}

// TestVaultKeyLife takes a key from its creation to its end.
func TestVaultKeyLife(t *testing.T) {
	o := newOffice(t)
	b := o.Browser(t, "")
	o.vault(b, "safe", url.Values{"protect": nil})
	o.shows(b.Get(safe+"/keys"), http.StatusOK, "There is no key in this vault.", safe+"/newkey", safe+"/importkey")

	const form = safe + "/newkey"
	p := b.Submit(form, form, url.Values{"name": {"<i>faces"}, "expires": {"2020-01-01T00:00"},
		"notbefore": {"2030-01-01T00:00"}, "kind": {"RSA 2048"}, "op-wrapkey": {"on"}})
	o.shows(p, http.StatusBadRequest, "1 to 127 letters", "&lt;i&gt;faces")
	o.lacks(p, "<i>faces")
	if fields, _ := p.Form(form); fields.Get("expires") != "2020-01-01T00:00" || fields.Get("op-wrapkey") == "" {
		t.Errorf("the form keeps %v", fields)
	}
	for field, code := range map[string]string{"notbefore": "InvalidActivationDate",
		"expires": "InvalidExpirationDate"} {
		p := b.Submit(form, form, url.Values{"name": {"faces"}, "kind": {"RSA 2048"}, field: {"tomorrow"}})
		o.shows(p, http.StatusBadRequest, code, `id="e-`+field)
	}
	o.sent(b.Submit(form, form, url.Values{"name": {"faces"}, "kind": {"RSA 2048"},
		"tags": {"owner = <script>alert(1)</script>"}}), faces)
	p = b.Get(faces)
	first := o.version(p)
	id := "https://safe.vault." + strings.TrimPrefix(o.URL, "https://") + "/keys/faces"
	o.shows(p, http.StatusOK, "RSA 2048", "encrypt, decrypt, sign, verify, wrapKey, unwrapKey", "&lt;script&gt;",
		`data-copy="`+id+`"`, `data-copy="`+id+"/"+first+`"`, faces+"/use")
	o.lacks(p, "<script>alert", "Protected resources")

	// a version is made once, however often its form is sent
	rotate, _ := p.Form(faces + "/rotate")
	o.sent(b.Send(faces+"/rotate", rotate), faces)
	o.sent(b.Send(faces+"/rotate", rotate), faces)
	rotate.Set("again", "1")
	o.shows(b.Send(faces+"/rotate", rotate), http.StatusConflict, "There is a newer version")
	p = b.Get(faces)
	second := o.version(p)
	if n := strings.Count(p.Body, "<tr><th scope=\"row\">"); n != 2 || first == second {
		t.Errorf("%d versions; %s, then %s", n, first, second)
	}

	// the state and the properties of the first version
	one := faces + "/" + first
	o.sent(b.Submit(one+"/disable", one+"/disable", nil), one)
	o.shows(b.Get(one), http.StatusOK, "Disabled", one+"/enable")
	o.shows(b.Get(faces), http.StatusOK, "Disabled", "Enabled")
	o.sent(b.Submit(one, one+"/enable", nil), one)
	stale, _ := b.Get(one).Form(one)
	o.sent(b.Submit(one, one, url.Values{"expires": {"2040-05-06T07:08"}, "op-sign": nil, "tags": {"a = b"}}), one)
	o.shows(b.Get(one), http.StatusOK, "6 May 2040, 07:08 UTC", "encrypt, decrypt, verify, wrapKey, unwrapKey",
		"<dt>a</dt>")
	o.shows(b.Send(one, stale), http.StatusConflict, "after you opened the page")
	o.shows(b.Submit(one, one, url.Values{"notbefore": {"2041-01-01T00:00"}}), http.StatusBadRequest, "later than nbf",
		"2041-01-01T00:00")

	// the rotation policy
	const policy = faces + "/rotationpolicy"
	o.shows(b.Submit(policy, policy, url.Values{"rotate": {"after"}, "rotate-time-unit": {"D"}}),
		http.StatusBadRequest, "needs a time")
	o.shows(b.Submit(policy, policy, url.Values{"rotate": {"after"}, "rotate-time": {"2"}, "rotate-time-unit": {"D"}}),
		http.StatusBadRequest, "at least 7 days", `value="2"`)
	o.sent(b.Submit(policy, policy, url.Values{"expiry": {"P1Y6M"}, "expiry-unit": {"iso"}, "rotate": {"after"},
		"rotate-time": {"3"}, "rotate-time-unit": {"M"}, "notify": {"before"}, "notify-time": {"30"},
		"notify-time-unit": {"D"}}), faces)
	p = b.Get(policy)
	o.shows(p, http.StatusOK, "P1Y6M", "3\u00a0months after the version was created", "30\u00a0days before the version")
	fields, _ := p.Form(policy)
	if fields.Get("expiry") != "P1Y6M" || fields.Get("rotate-time") != "3" || fields.Get("notify") != "before" {
		t.Errorf("the form has %v", fields)
	}

	// a backup; it is restored when there is no key of the name
	p = b.Submit(faces, faces+"/backup", nil)
	backup := []byte(p.Body)
	if p.Status != http.StatusOK || len(backup) < 1000 ||
		p.Header.Get("Content-Disposition") != `attachment; filename="safe-faces.keybackup"` {
		t.Fatalf("backup: %d, %q, %d bytes", p.Status, p.Header.Get("Content-Disposition"), len(backup))
	}
	const restore = safe + "/restorekey"
	o.shows(o.upload(b, restore, nil, "backup", "b", backup), http.StatusConflict, "already has a key faces")
	o.shows(o.upload(b, restore, nil, "backup", "b", []byte("nothing")), http.StatusBadRequest, "not a backup")
	o.shows(b.Submit(restore, restore, nil), http.StatusBadRequest, "There is no backup", `id="e-backup"`)

	// deleted, recovered, deleted, purged
	o.sent(b.Submit(faces+"/delete", faces+"/delete", nil), safe+"/deletedkeys")
	o.shows(b.Get(faces), http.StatusNotFound)
	o.shows(b.Submit(form, form, url.Values{"name": {"faces"}, "kind": {"EC P-256"}}), http.StatusConflict,
		"deleted but recoverable", `id="e-name"`)
	o.shows(o.upload(b, restore, nil, "backup", "b", backup), http.StatusConflict, "deleted but recoverable")
	o.sent(b.Submit(safe+"/deletedkeys", safe+"/deletedkeys/faces/recover", nil), faces)
	o.sent(b.Submit(faces+"/delete", faces+"/delete", nil), safe+"/deletedkeys")
	const purge = safe + "/deletedkeys/faces/purge"
	o.lacks(b.Get(safe+"/deletedkeys"), purge) // the person who makes a vault has no permission to purge
	o.shows(b.Get(purge), http.StatusForbidden)
	edit := safe + "/policies/edit?object=" + o.Operator().ClientID
	o.sent(b.Submit(edit, safe+"/policies/edit", url.Values{"may-purge": {"on"}}), safe+"/policies")
	o.sent(b.Submit(purge, purge, nil), safe+"/deletedkeys")
	o.sent(o.upload(b, restore, nil, "backup", "b", backup), faces)
	o.shows(b.Get(faces), http.StatusOK, first, second, "The key faces is restored.")

	// under purge protection, purging is refused, with the date
	o.sent(b.Submit(safe+"/purgeprotection", safe+"/purgeprotection", nil), safe)
	o.sent(b.Submit(faces+"/delete", faces+"/delete", nil), safe+"/deletedkeys")
	p = b.Get(purge)
	o.shows(p, http.StatusOK, "nobody can do this before")
	o.shows(b.Send(purge, tokenOf(p)), http.StatusForbidden, "stays recoverable until 20")
}

// TestImportVaultKey imports keys in several forms, and sees that a refused one is shown nowhere.
func TestImportVaultKey(t *testing.T) {
	logged := &safeBuffer{}
	cfg := server.Config{Dir: filepath.Join(t.TempDir(), "visage"),
		Logger: slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	o := &office{servertest.Start(t, cfg), t}
	b := o.Browser(t, "")
	o.vault(b, "safe", nil)
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	odd, err := rsa.GenerateKey(rand.Reader, 2560)
	if err != nil {
		t.Fatal(err)
	}
	curved, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(good)
	whole := encode("PRIVATE KEY", pkcs8, err)
	sec1, err := x509.MarshalECPrivateKey(curved)
	onCurve := encode("EC PRIVATE KEY", sec1, err)
	number := base64.RawURLEncoding.EncodeToString
	jwk := fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB","d":%q,"p":%q,"q":%q}`, number(good.N.Bytes()),
		number(good.D.Bytes()), number(good.Primes[0].Bytes()), number(good.Primes[1].Bytes()))
	wrong := strings.Replace(jwk, number(good.Primes[1].Bytes()), number(good.Primes[0].Bytes()), 1)

	const form = safe + "/importkey"
	for name, c := range map[string]struct{ text, sentence, french string }{
		"too small": {encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(odd), nil), "2048, 3072 or 4096 bits", ""},
		"wrong":     {wrong, "The RSA key is", ""},
		"encrypted": {strings.ReplaceAll(whole, "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "openssl pkey -in key.pem",
			"phrase secrète"},
		"openssh": {strings.ReplaceAll(whole, "PRIVATE KEY", "OPENSSH PRIVATE KEY"), "ssh-keygen -p -m PKCS8",
			"convertissez-la"},
		"cut off": {whole[:len(whole)-200], "a part of it is missing", "il en manque une partie"},
		"two":     {whole + onCurve, "more than one private key", "plus d’une clé privée"},
		"nothing": {" ", "There is no private key", "Il n’y a pas de clé privée"},
		"no key":  {"<script>alert(1)</script>", "not a private key", "Ce n’est pas une clé privée"},
	} {
		t.Run(name, func(t *testing.T) {
			secret := c.text[:min(len(c.text), 400)]
			fields := url.Values{"name": {"brought"}, "tags": {"from = elsewhere"}, "pasted": {c.text}}
			p := b.Submit(form, form, fields)
			o.shows(p, http.StatusBadRequest, c.sentence, "from = elsewhere", `value="brought"`)
			for line := range strings.Lines(secret) {
				if line = strings.TrimSpace(line); len(line) > 20 && strings.Contains(p.Body, line) {
					t.Errorf("the page repeats %q of the private key", line)
				}
			}
			p = o.upload(b, form, url.Values{"name": {"brought"}}, "file", "<b>key.pem", []byte(c.text))
			o.shows(p, http.StatusBadRequest, c.sentence)
			o.lacks(p, "<b>key")
			if c.french != "" {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, o.URL+form, nil)
				req.Header.Set("Accept-Language", "fr")
				sent, _ := b.Ask(req).Form(form)
				sent.Set("name", "brought")
				sent.Set("pasted", c.text)
				req, _ = http.NewRequestWithContext(t.Context(), http.MethodPost, o.URL+form,
					strings.NewReader(sent.Encode()))
				req.Header.Set("Accept-Language", "fr")
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				o.shows(b.Ask(req), http.StatusBadRequest, c.french, `lang="fr"`)
			}
		})
	}
	for i, text := range []string{whole, jwk, onCurve} {
		o.sent(b.Submit(form, form, url.Values{"name": {fmt.Sprint("brought-", i)}, "pasted": {text}}),
			fmt.Sprint(safe, "/keys/brought-", i))
	}
	o.sent(o.upload(b, form, url.Values{"name": {"brought-0"}}, "file", "key.der", pkcs8), safe+"/keys/brought-0")
	p := b.Get(safe + "/keys")
	o.shows(p, http.StatusOK, "brought-0", "brought-1", "brought-2", "RSA 2048", "EC P-256")
	// by the beginning of the name, of which "-1" is one and "rought" is none
	o.sent(b.Submit(safe+"/newkey", safe+"/newkey", url.Values{"name": {"made"}, "kind": {"EC P-384"}}),
		safe+"/keys/made")
	p = b.Get(safe + "/keys?search=BROUGHT-1")
	o.shows(p, http.StatusOK, "/keys/brought-1\"")
	o.lacks(p, "/keys/brought-0\"", "/keys/made\"")
	o.shows(b.Get(safe+"/keys?search=rought"), http.StatusOK, "The name of no key begins with this.")
	o.shows(b.Get(safe+"/keys?search=%C3%A9"), http.StatusOK, "The name of no key begins with this.")

	// a restart changes nothing, and nothing of a key is in the log
	if err := o.Stop(); err != nil {
		t.Fatal(err)
	}
	o.Server = servertest.Start(t, cfg)
	b = o.Browser(t, "")
	o.shows(b.Get(safe+"/keys/brought-0"), http.StatusOK, "RSA 2048", safe+"/keys/brought-0/delete")
	for line := range strings.Lines(whole + jwk + onCurve) {
		if line = strings.TrimSpace(line); len(line) > 40 && strings.Contains(logged.String(), line[:40]) {
			t.Errorf("the log has %q", line[:40])
		}
	}
}

// safeBuffer keeps what is logged.
type safeBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestVaultPeople sees what people with other roles and permissions see and may do.
func TestVaultPeople(t *testing.T) {
	o := newOffice(t)
	b := o.Browser(t, "")
	o.vault(b, "safe", nil)
	o.sent(b.Submit(safe+"/newkey", safe+"/newkey", url.Values{"name": {"faces"}, "kind": {"RSA 2048"}}), faces)
	one := faces + "/" + o.version(b.Get(faces))

	nobody, _ := visitorWith(t, o.Server, "<b>nobody")
	reader, _ := visitorWith(t, o.Server, "reader", identity.VaultReader)
	owner, ownerID := visitorWith(t, o.Server, "owner", identity.Owner)
	contributor, _ := visitorWith(t, o.Server, "contributor", identity.Contributor)
	officer, officerID := visitorWith(t, o.Server, "שלום 🗝️")

	// nobody learns nothing
	o.shows(nobody.Get("/console/vaults"), http.StatusOK, "There is no key vault that you may see")
	for _, path := range []string{safe, safe + "/keys", faces, one, safe + "/policies", safe + "/network",
		faces + "/use",
		safe + "/newkey", "/console/vaults/missing", "/console/vaults/missing/keys", "/console/vaults/-/new"} {
		p := nobody.Get(path)
		o.shows(p, http.StatusForbidden)
		o.lacks(p, "RSA")
	}
	token := tokenOf(nobody.Get("/console"))
	for _, path := range []string{faces + "/delete", one + "/disable", faces + "/rotate", faces + "/backup",
		safe + "/importkey", safe + "/delete", safe + "/policies/edit"} {
		o.shows(nobody.Send(path, token), http.StatusForbidden)
	}

	// a reader sees everything and no forms, and what they send by hand is refused
	o.shows(reader.Get("/console/vaults"), http.StatusOK, safe)
	for _, path := range []string{"/console/vaults", safe, safe + "/keys", faces, one, safe + "/policies",
		safe + "/network", safe + "/deletedkeys"} {
		p := reader.Get(path)
		o.shows(p, http.StatusOK)
		if strings.Contains(mainOf(p), "<form method=\"post\"") || strings.Contains(mainOf(p), "danger") {
			t.Errorf("%s offers a reader something:\n%s", path, mainOf(p))
		}
	}
	o.shows(reader.Get(one), http.StatusOK, "RSA 2048", "You can see the keys and not use or change them.")
	token = tokenOf(reader.Get(safe))
	for _, path := range []string{faces + "/delete", one + "/disable", faces + "/rotate", faces + "/backup", one,
		safe + "/newkey", safe + "/importkey", safe + "/delete", safe + "/policies/edit", safe + "/network"} {
		token.Set("name", "other")
		o.shows(reader.Send(path, token), http.StatusForbidden)
	}

	// an owner without permissions in the vault can make a new key, but no version of one, and give themselves more
	o.shows(owner.Get(safe+"/keys"), http.StatusOK, "not use or change them", "policies/edit?object="+ownerID)
	o.shows(owner.Submit(safe+"/newkey", safe+"/newkey", url.Values{"name": {"faces"}, "kind": {"RSA 2048"}}),
		http.StatusConflict, "may not make versions")
	o.sent(owner.Submit(safe+"/newkey", safe+"/newkey", url.Values{"name": {"mine"}, "kind": {"EC P-256"}}),
		safe+"/keys/mine")
	o.lacks(owner.Get(faces), faces+"/rotate\"")
	o.sent(owner.Submit(safe+"/policies/edit?preset=manage&object="+ownerID, safe+"/policies/edit", nil),
		safe+"/policies")
	o.sent(owner.Submit(faces, faces+"/rotate", nil), faces)

	// a contributor may write policies, and not change the model
	o.lacks(contributor.Get(safe), safe+"/model")
	p := contributor.Get(safe + "/model")
	o.shows(p, http.StatusOK)
	o.shows(contributor.Submit(safe+"/model", safe+"/model", url.Values{"model": {"roles"}}), http.StatusForbidden,
		"roleAssignments/write")
	for field, wrong := range map[string]url.Values{
		"object":  {"object": {"not an id"}, "may-get": {"on"}},
		"may-get": {"object": {officerID}},
	} {
		o.shows(contributor.Submit(safe+"/policies/edit", safe+"/policies/edit", wrong), http.StatusBadRequest,
			`id="e-`+field)
	}
	o.sent(contributor.Submit(safe+"/policies/edit", safe+"/policies/edit", everyPermission(officerID)),
		safe+"/policies")
	o.shows(contributor.Get(safe+"/policies"), http.StatusOK, officerID, "setrotationpolicy")

	// people with permissions on keys alone see the keys, and not the vault
	o.shows(officer.Get("/console/vaults"), http.StatusOK, `href="`+safe+`/keys"`)
	o.shows(officer.Get(safe), http.StatusForbidden)
	o.shows(officer.Get(safe+"/keys"), http.StatusOK, faces, safe+"/importkey")
	o.sent(officer.Submit(one+"/disable", one+"/disable", nil), one)
	o.sent(officer.Submit(one, one+"/enable", nil), one)

	// until their address is kept out
	o.sent(contributor.Submit(safe+"/network", safe+"/network", url.Values{"from": {"selected"},
		"addresses": {"203.0.113.0/24\n2001:db8::1"}}), safe+"/network")
	o.shows(contributor.Get(safe+"/network"), http.StatusOK, "203.0.113.0/24", "127.0.0.1, is not admitted")
	o.shows(officer.Get(safe+"/keys"), http.StatusForbidden)
	p = reader.Get(faces)
	o.shows(p, http.StatusOK, "Client address is not authorized")
	o.shows(owner.Send(faces+"/backup", tokenOf(owner.Get(faces))), http.StatusForbidden,
		"Client address is not authorized")
	o.shows(contributor.Submit(safe+"/network", safe+"/network", url.Values{"addresses": {"somewhere"}}),
		http.StatusBadRequest, "neither an IP address nor a prefix", `id="e-addresses"`)
	o.sent(contributor.Submit(safe+"/network", safe+"/network", url.Values{"from": {"all"}}), safe+"/network")

	// and until their policy is removed
	remove := safe + "/policies/remove?object=" + officerID
	o.sent(contributor.Submit(remove, safe+"/policies/remove", nil), safe+"/policies")
	o.shows(officer.Get(safe+"/keys"), http.StatusForbidden)
	o.shows(contributor.Get(remove), http.StatusNotFound, "no access policy for this identity")
}

// TestVaultWithRoles makes a vault in which roles decide.
func TestVaultWithRoles(t *testing.T) {
	o := newOffice(t)
	b := o.Browser(t, "")
	o.vault(b, "safe", url.Values{"model": {"roles"}})
	o.shows(b.Get(safe+"/policies"), http.StatusOK, "Key Vault Crypto Officer", "roles decide", safe+"/access")
	o.sent(b.Submit(safe+"/newkey", safe+"/newkey", url.Values{"name": {"faces"}, "kind": {"RSA 2048"}}), faces)
	o.sent(b.Submit(faces, faces+"/rotate", nil), faces)

	contributor, _ := visitorWith(t, o.Server, "contributor", identity.Contributor)
	const form = "/console/vaults/-/new"
	o.shows(contributor.Submit(form, form, url.Values{"name": {"theirs"}, "model": {"roles"}}), http.StatusForbidden,
		"You may not assign roles", `id="e-mine"`)
	o.lacks(contributor.Get(safe+"/policies"), "policies/edit")

	// in French, with the terms of Azure
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, o.URL+faces, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Language", "fr-CA,fr;q=0.8")
	o.shows(b.Ask(req), http.StatusOK, "Coffres de clés", "Identificateur de clé", "Opérer une rotation maintenant",
		"Stratégie de rotation")
}

// TestVaultPages pages through vaults and versions.
func TestVaultPages(t *testing.T) {
	o := newOffice(t)
	b := o.Browser(t, "")
	o.vault(b, "safe", nil)
	o.sent(b.Submit(safe+"/newkey", safe+"/newkey", url.Values{"name": {"faces"}, "kind": {"EC P-256"}}), faces)
	for range 50 {
		o.sent(b.Submit(faces, faces+"/rotate", nil), faces)
	}
	for i := range 50 {
		o.Manage(t, http.MethodPut,
			fmt.Sprintf("/resourceGroups/default/providers/Microsoft.KeyVault/vaults/vault-%02d",
				i), map[string]any{"location": "local", "properties": map[string]any{
				"tenantId": o.Operator().TenantID, "sku": map[string]any{"family": "A", "name": "standard"},
				"accessPolicies": []any{}}})
	}
	for _, path := range []string{faces, "/console/vaults"} {
		count := func(p servertest.Page) int { return strings.Count(p.Body, `<tr><th scope="row">`) }
		p := b.Get(path)
		_, rest, found := strings.Cut(p.Body, `<p class="more"><a class="button plain" href="`)
		next, _, _ := strings.Cut(rest, `"`)
		if !found || count(p) != 50 {
			t.Fatalf("%s has %d rows", path, count(p))
		}
		p = b.Get(strings.ReplaceAll(next, "&amp;", "&"))
		if count(p) != 1 || strings.Contains(p.Body, `class="more"`) {
			t.Errorf("%s: the next page has %d rows", path, count(p))
		}
	}
	o.shows(b.Get("/console/vaults?search=T-4"), http.StatusOK, "vault-40", "vault-49")
	o.lacks(b.Get("/console/vaults?search=T-4"), "vault-50", "vault-39")
}

// protecting makes the vault "safe" with the keys "faces" and "spare", and the resource "reception" under the first. It
// returns the page of the version that protects it, and the identity of the resource.
func protecting(
	t *testing.T, cfg server.Config, model string,
) (o *office, b *servertest.Browser, one, principal string) {
	t.Helper()
	cfg.AutoApprove = true
	o = &office{servertest.Start(t, cfg), t}
	b = o.Browser(t, "")
	o.vault(b, "safe", url.Values{"protect": {"on"}, "model": {model}})
	for _, name := range []string{"faces", "spare"} {
		o.sent(b.Submit(safe+"/newkey", safe+"/newkey", url.Values{"name": {name}, "kind": {"RSA 2048"}}),
			safe+"/keys/"+name)
	}
	const account = "/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/reception"
	o.Manage(t, http.MethodPut, "/providers/Microsoft.CognitiveServices/accessRequests/contoso", map[string]any{
		"properties": map[string]any{"service": "Face", "contact": "ada@contoso.example", "reason": "doors"}})
	made := o.Manage(t, http.MethodPut, account, map[string]any{"kind": "Face", "sku": map[string]any{"name": "E0"},
		"location": "local", "identity": map[string]any{"type": "SystemAssigned"}})
	principal = made["identity"].(map[string]any)["principalId"].(string)
	if model == "roles" {
		give(t, o.Server, principal, identity.VaultServiceEncryption, vaultScope(o.Server, "safe"))
	}
	check := regexp.MustCompile(`/console/resources/reception/encryption/key\?uri=https[^"]+`).
		FindString(b.Get(faces + "/use").Body)
	o.shows(b.Get(html.UnescapeString(check)), http.StatusOK, "Check before saving", "/console/vaults/safe/keys/faces")
	page := b.Get(faces)
	one = faces + "/" + o.version(page)
	o.lacks(page, "Protected resources")
	made = o.Manage(t, http.MethodPatch, account,
		map[string]any{"properties": map[string]any{"encryption": map[string]any{
			"keySource": "Microsoft.KeyVault", "register": true, "keyVaultProperties": map[string]any{
				"keyVaultUri": "https://safe.vault." + strings.TrimPrefix(o.URL, "https://") + strings.TrimPrefix(one,
					safe)}}}})
	for made["properties"].(map[string]any)["provisioningState"] != "Succeeded" {
		if t.Context().Err() != nil {
			t.Fatal("the key was not enabled in time")
		}
		made = o.Manage(t, http.MethodGet, account, nil)
	}
	return o, b, one, principal
}

// TestVaultProtects names the resources that would be locked, before they are.
func TestVaultProtects(t *testing.T) {
	o, b, one, principal := protecting(t, server.Config{}, "policies")
	policy, remove := safe+"/policies/edit", safe+"/policies/remove?object="+principal

	for _, path := range []string{faces, one} {
		o.shows(b.Get(path), http.StatusOK, "Protected resources", "/console/resources/reception\"")
	}
	for _, path := range []string{one + "/disable", faces + "/delete", safe + "/delete", safe + "/model", remove} {
		o.shows(b.Get(path), http.StatusOK, "locks the data of 1 resource", "reception")
	}
	o.lacks(b.Get(safe+"/keys/spare/delete"), "locks the data")
	stranger, _ := visitorWith(t, o.Server, "officer", identity.VaultReader)
	o.shows(stranger.Get(faces), http.StatusOK, "1 resource that you may not see")
	o.lacks(stranger.Get(faces), "reception")

	// changes that would lock need a tick
	sent := url.Values{"may-unwrapkey": nil}
	p := b.Submit(policy+"?object="+principal, policy, sent)
	o.shows(p, http.StatusConflict, "WouldLockResources", "reception", `name="confirmed"`)
	fields, _ := p.Form(policy)
	if fields.Has("may-unwrapkey") || !fields.Has("may-get") {
		t.Errorf("the form keeps %v", fields)
	}
	p = b.Submit(safe+"/network", safe+"/network", url.Values{"from": {"none"}, "bypass": nil})
	o.shows(p, http.StatusConflict, "reception", `name="confirmed"`)
	p = b.Submit(one, one, url.Values{"expires": {"2020-01-01T00:00"}})
	o.shows(p, http.StatusConflict, "reception", `name="confirmed"`, "2020-01-01T00:00")
	fields, _ = p.Form(one)
	fields.Set("confirmed", "on")
	o.sent(b.Send(one, fields), one)
	o.shows(b.Get(one), http.StatusOK, "Expired")
}

// TestLockingNeedsAFreshProof holds that every way to lock the data of a resource names it and asks for a proof of the
// person that is a few minutes old; and that the same forms do not ask where nothing would lock.
func TestLockingNeedsAFreshProof(t *testing.T) {
	i := newIssuer(t)
	o, fresh, one, principal := protecting(t, issuing(t, i), "policies")
	b := stale(t, o.Server, i)
	const resource = "/console/resources/reception"
	policy, network, model := safe+"/policies/edit", safe+"/network", safe+"/model"
	spare := safe + "/keys/spare/" + o.version(fresh.Get(safe+"/keys/spare"))
	soon := time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04")

	// what a form asks for, and what is harmless in it
	type lock struct {
		page, form string
		sent       url.Values
	}
	locking := map[string]lock{
		"an expiry":            {one, one, url.Values{"expires": {"2020-01-01T00:00"}}},
		"an expiry soon":       {one, one, url.Values{"expires": {soon}}},
		"a not-before date":    {one, one, url.Values{"notbefore": {"2099-01-01T00:00"}}},
		"no wrapKey":           {one, one, url.Values{"op-wrapkey": nil}},
		"no unwrapKey":         {one, one, url.Values{"op-unwrapkey": nil}},
		"the network":          {network, network, url.Values{"from": {"none"}, "bypass": nil}},
		"less in a policy":     {policy + "?object=" + principal, policy, url.Values{"may-get": nil}},
		"no policy":            {safe + "/policies/remove?object=" + principal, safe + "/policies/remove", nil},
		"the model":            {model, model, url.Values{"model": {"roles"}}},
		"no identity":          {resource + "/identity/off", resource + "/identity/off", nil},
		"the key's deletion":   {faces + "/delete", faces + "/delete", nil},
		"the vault's deletion": {safe + "/delete", safe + "/delete", nil},
		"a disabled version":   {one + "/disable", one + "/disable", nil},
	}
	for name, l := range locking {
		fields, found := fresh.Get(l.page).Form(l.form)
		if !found {
			t.Fatalf("%s: no form", name)
		}
		maps.Copy(fields, l.sent)
		fields.Set("confirmed", "on")
		fields.Set("token", b.Token())
		p := b.Send(l.form, fields)
		if p.Status != http.StatusForbidden || !strings.Contains(p.Body, "Prove again who you are") {
			t.Errorf("%s: %d %s", name, p.Status, p.Body)
		}
		if p := b.Get(resource + "/encryption"); strings.Contains(p.Body, "badge bad") {
			t.Fatalf("%s has locked the resource", name)
		}
	}
	for _, name := range []string{"no policy", "the model", "no identity", "the key's deletion"} {
		o.shows(b.Get(locking[name].page), http.StatusForbidden, "Prove again who you are")
	}
	b.Get(one) // what was typed last may have been for this form: it is shown once
	p := b.Submit(one, one, url.Values{"op-wrapkey": nil})
	o.shows(p, http.StatusForbidden, "locks the data of 1 resource", "reception")

	// who comes back to the form finds what they have typed, once
	p = b.Get(one)
	o.shows(p, http.StatusOK, "This is what you typed")
	if fields, _ := p.Form(one); fields.Has("op-wrapkey") || !fields.Has("op-unwrapkey") {
		t.Errorf("the form has %v", fields)
	}
	o.lacks(b.Get(one), "This is what you typed")

	other := visage.NewUUID().String()
	o.sent(fresh.Submit(policy, policy, everyPermission(other)), safe+"/policies")

	for _, l := range []lock{
		{one, one, url.Values{"expires": {"2099-01-01T00:00"}}},
		{spare, spare, url.Values{"op-wrapkey": nil}},
		{spare, spare, url.Values{"expires": {"2020-01-01T00:00"}}},
		{network, network, url.Values{"from": {"selected"}, "addresses": {"127.0.0.1"}}},
		{policy + "?object=" + principal, policy, nil},
		{safe + "/policies/remove?object=" + other, safe + "/policies/remove", nil},
	} {
		if p := b.Submit(l.page, l.form, l.sent); p.Status != http.StatusSeeOther {
			t.Errorf("%s asks for %v: %d %s", l.page, l.sent, p.Status, p.Body)
		}
	}

	// nor does a browser that was left open give anybody access to keys
	for _, l := range []lock{
		{policy + "?object=" + principal, policy, url.Values{"may-rotate": {"on"}}},
		{policy, policy, everyPermission(other)},
	} {
		o.shows(b.Submit(l.page, l.form, l.sent), http.StatusForbidden, "Prove again who you are")
	}
	o.lacks(fresh.Get(safe+"/policies"), other)
}

// TestKeyPolicyOfAnEndedKey holds that a policy that locks the data at the next check of the key names the resource,
// and asks for a fresh proof and a tick; and that the same form does not ask where nothing would lock.
func TestKeyPolicyOfAnEndedKey(t *testing.T) {
	i := newIssuer(t)
	o, fresh, one, _ := protecting(t, issuing(t, i), "policies")
	b := stale(t, o.Server, i)
	const encryption = "/console/resources/reception/encryption"
	const policy = encryption + "/policy"
	o.sent(b.Submit(policy, policy, url.Values{"grace": {"30"}, "expiry": {"on"}}), encryption)
	o.sent(b.Submit(policy, policy, url.Values{"expiry": nil}), encryption)
	o.sent(fresh.Submit(one, one, url.Values{"expires": {"2020-01-01T00:00"}, "confirmed": {"on"}}), one)
	await(t, fresh, encryption, "has expired")

	o.sent(b.Submit(policy, policy, url.Values{"grace": {"20"}}), encryption) // the key answers
	p := b.Submit(policy, policy, url.Values{"expiry": {"on"}, "confirmed": {"on"}})
	o.shows(p, http.StatusForbidden, "Prove again who you are", "locks the data of 1 resource", "reception")
	p = fresh.Submit(policy, policy, url.Values{"expiry": {"on"}})
	o.shows(p, http.StatusConflict, "WouldLockResources", "reception", `name="confirmed"`)
	fields, _ := p.Form(policy)
	if !fields.Has("expiry") {
		t.Errorf("the form has lost what was ticked: %v", fields)
	}
	fields.Set("confirmed", "on")
	o.sent(fresh.Send(policy, fields), encryption)
	await(t, fresh, encryption, "access revoked")
	o.sent(b.Submit(policy, policy, url.Values{"expiry": nil}), encryption)
}

// TestRoleOfAResource takes the role away that a resource needs to use its key.
func TestRoleOfAResource(t *testing.T) {
	i := newIssuer(t)
	o, fresh, _, principal := protecting(t, issuing(t, i), "roles")
	b := stale(t, o.Server, i)
	const roles, locked = safe + "/access", "locks the data of 1 resource"
	assignment := func(p servertest.Page) url.Values {
		t.Helper()
		_, row, found := strings.Cut(p.Body, "Key Vault Crypto Service Encryption User</span>")
		if !found {
			t.Fatalf("no role of the resource: %s", p.Body)
		}
		row, _, _ = strings.Cut(row, "</tr>")
		fields, found := servertest.Page{Body: row}.Form(roles + "/remove")
		if !found {
			t.Fatalf("the role cannot be removed: %s", row)
		}
		return fields
	}
	o.shows(b.Send(roles+"/remove", assignment(b.Get(roles))), http.StatusForbidden, "Prove again who you are", locked)
	p := fresh.Send(roles+"/remove", assignment(fresh.Get(roles)))
	o.shows(p, http.StatusConflict, locked, "reception")

	// another role that allows the same makes the first one superfluous, from above too
	give(t, o.Server, principal, identity.VaultCryptoOfficer, "/subscriptions/"+o.Operator().SubscriptionID)
	o.sent(b.Send(roles+"/remove", assignment(b.Get(roles))), roles)
	const above = "/console/access/roles"
	_, row, _ := strings.Cut(fresh.Get(above).Body, "Key Vault Crypto Officer</span>")
	fields, _ := servertest.Page{Body: row}.Form(above + "/remove")
	p = fresh.Send(above+"/remove", fields)
	o.shows(p, http.StatusConflict, locked, "reception")
	fields, _ = p.Form(above + "/remove")
	if !fields.Has("confirmed") {
		t.Fatalf("the first form is %v", fields)
	}
	o.sent(fresh.Send(above+"/remove", fields), above)
	o.lacks(fresh.Get(above), "Key Vault Crypto Officer</span><br><span class=\"hint\">Does")
}
