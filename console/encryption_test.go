package console_test

import (
	"html"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// realm is a server that the test changes as the operator, through the planes.
type realm struct {
	*servertest.Server
	t *testing.T
}

func newRealm(t *testing.T, cfg server.Config) *realm { return &realm{servertest.Start(t, cfg), t} }

// manage sends a request to the management plane; path is below the subscription.
func (r *realm) manage(method, path string, body any) map[string]any {
	r.t.Helper()
	return r.Manage(r.t, method, path, body)
}

// group is the path of the resource group, below the subscription.
const group = "/resourceGroups/default"

// resource creates a resource of tier E0 in westeurope, whose access request is approved.
func (r *realm) resource(name string) {
	r.t.Helper()
	r.approve(name)
	r.manage(http.MethodPut, group+"/providers/Microsoft.CognitiveServices/accounts/"+name,
		map[string]any{"location": "westeurope", "kind": "Face", "sku": map[string]any{"name": "E0"}})
}

// approve submits and approves an access request.
func (r *realm) approve(name string) {
	r.t.Helper()
	const requests = "/providers/Microsoft.CognitiveServices/accessRequests/"
	r.manage(http.MethodPut, requests+name, map[string]any{"properties": map[string]any{
		"service": "Face", "region": "westeurope", "contact": "a@example.org", "reason": "test"}})
	r.manage(http.MethodPost, requests+name+"/approve", map[string]any{})
}

// vault creates a vault; given properties replace those of one that may protect a resource.
func (r *realm) vault(name string, given map[string]any) {
	r.t.Helper()
	op := r.Operator()
	properties := map[string]any{
		"tenantId": op.TenantID, "sku": map[string]any{"family": "A", "name": "standard"},
		"enablePurgeProtection": true, "enableRbacAuthorization": false, "accessPolicies": []any{map[string]any{
			"tenantId": op.TenantID, "objectId": op.ClientID, "permissions": map[string]any{"keys": []string{"all"}}}},
	}
	location := "westeurope"
	for k, v := range given {
		if k == "location" {
			location = v.(string)
			continue
		}
		properties[k] = v
	}
	r.manage(http.MethodPut, group+"/providers/Microsoft.KeyVault/vaults/"+name,
		map[string]any{"location": location, "properties": properties})
}

// newKey creates a key and returns its identifier with the version.
func (r *realm) newKey(vault, name string) string {
	r.t.Helper()
	made := r.CallVault(r.t, http.MethodPost, vault, name+"/create", map[string]any{"kty": "RSA", "key_size": 2048})
	return made["key"].(map[string]any)["kid"].(string)
}

// somebody creates a person with a role on the subscription, and returns its browser.
func (r *realm) somebody(role string) *servertest.Browser {
	r.t.Helper()
	made := r.manage(http.MethodPost, "/providers/Visage.Identity/people",
		map[string]any{"displayName": "Somebody"})
	id := made["objectId"].(string)
	sub := "/subscriptions/" + r.Operator().SubscriptionID
	r.manage(http.MethodPut, "/providers/Microsoft.Authorization/roleAssignments/"+visage.NewUUID().String(),
		map[string]any{"properties": map[string]any{"principalId": id,
			"roleDefinitionId": sub + "/providers/Microsoft.Authorization/roleDefinitions/" + role}})
	return r.Browser(r.t, id)
}

// await gets a page until it says something. Each request lets the server go on; a minute is more than a change takes.
func await(t *testing.T, b *servertest.Browser, path, text string) servertest.Page {
	t.Helper()
	return b.Wait(path, func(p servertest.Page) bool { return strings.Contains(p.Body, text) })
}

// hold fails the test unless a page has a status and texts.
func hold(t *testing.T, p servertest.Page, status int, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if p.Status != status || !strings.Contains(p.Body, text) {
			t.Fatalf("status %d, wanted %d with %q:\n%s", p.Status, status, text, p.Body)
		}
	}
}

// TestTurnOnCustomerManagedKey walks from the sign-in to a customer's key with a new vault and key (requirements 25 and
// 28), and counts the clicks: console.md allows twelve.
func TestTurnOnCustomerManagedKey(t *testing.T) {
	r := newRealm(t, server.Config{})
	r.resource("face1")
	const at = "/console/resources/face1/encryption"
	b := r.Browser(t, "") // 1: the button of the one-time address
	clicks := 1
	click := func(p servertest.Page) servertest.Page { clicks++; return p }
	hold(t, click(b.Get("/console/resources/face1")), 200, at)
	hold(t, click(b.Get(at)), 200, `action="`+at+`/choose"`, "Service-managed keys")
	clicks += 2 // customer-managed keys; a new vault and key
	p := click(b.Get(at + "/choose?type=customer&how=new&uri="))
	if to := p.Header.Get("Location"); p.Status != http.StatusSeeOther || to != at+"/new" {
		t.Fatalf("choose: %d, to %s: %s", p.Status, to, p.Body)
	}
	p = click(b.Submit(at+"/new", at+"/new", nil))
	if p.Status != http.StatusSeeOther {
		t.Fatalf("create: %d %s", p.Status, p.Body)
	}
	check := p.Header.Get("Location")
	hold(t, b.Get(check), 200, "The vault face1-kv and the key visage-key are created.", "RSA with 2048 bits",
		"done when you save", ">Save<")
	p = click(b.Submit(check, at, nil))
	if p.Status != http.StatusSeeOther || p.Header.Get("Location") != at {
		t.Fatalf("save: %d %s", p.Status, p.Body)
	}
	p = await(t, b, at, "<span>Customer-managed key: active</span>")
	hold(t, p, 200, "face1-kv", "visage-key", "New versions are followed automatically.",
		"Customer-managed key enabled")
	if clicks > 12 {
		t.Errorf("%d clicks", clicks)
	}
	t.Logf("%d clicks", clicks)
	// Saved, the identity is there, with exactly the access that it needs.
	hold(t, b.Get("/console/resources/face1/identity"), 200, "face1-kv", "get, wrapKey, unwrapKey")
}

// enable puts a resource under a key of a vault, through the console, and waits until it is active.
func (r *realm) enable(b *servertest.Browser, name, vault, key string) {
	r.t.Helper()
	at := "/console/resources/" + name + "/encryption"
	p := b.Submit(at+"/key?vault="+vault+"&name="+key, at, nil)
	if p.Status != http.StatusSeeOther {
		r.t.Fatalf("enable: %d %s", p.Status, p.Body)
	}
	await(r.t, b, at, "<span>Customer-managed key: active</span>")
}

// inFrench returns a browser that is signed in as the operator, and reads French.
func (r *realm) inFrench() *servertest.Browser {
	b := r.Browser(r.t, "")
	p := b.Send("/console/language", url.Values{"language": {"fr"}, "to": {"/console"}})
	if p.Status != http.StatusSeeOther {
		r.t.Fatalf("choose French: %d", p.Status)
	}
	return b
}

// TestKeyURI pastes identifiers (requirement 41): right ones are taken apart, wrong ones get a sentence at the field.
func TestKeyURI(t *testing.T) {
	r := newRealm(t, server.Config{})
	r.resource("face1")
	r.vault("safe", nil)
	first, second := r.newKey("safe", "one"), r.newKey("safe", "two")
	b, fr := r.Browser(t, ""), r.inFrench()
	const at = "/console/resources/face1/encryption"
	ask := func(b *servertest.Browser, uri string) servertest.Page {
		return b.Get(at + "/choose?" + url.Values{"type": {"customer"}, "how": {"uri"}, "uri": {uri}}.Encode())
	}
	version := first[strings.LastIndex(first, "/")+1:]
	upper := strings.Replace(strings.Replace(first, "https://safe", "HTTPS://SAFE", 1), version,
		strings.ToUpper(version), 1)
	for _, right := range []string{first, "  " + first + "\n", first + "/", upper,
		strings.TrimSuffix(first, "/"+version)} {
		p := ask(b, right)
		hold(t, p, http.StatusOK, ">safe</a>", ">one</a>", ">Save<")
		named := strings.Contains(strings.ToLower(right), version)
		if pinned := strings.Contains(p.Body, ">"+version+"<"); pinned != named {
			t.Errorf("%q: pinned: %v", right, pinned)
		}
	}
	hold(t, ask(fr, first), http.StatusOK, ">Enregistrer<", "La clé est de type RSA à 2048\u00a0bits")
	for _, wrong := range []struct{ uri, en, fr string }{
		{"", "Enter the identifier of a key.", "Entrez l’identificateur d’une clé."},
		{strings.Replace(first, "/keys/", "/ keys/", 1), "has a space", "contient une espace"},
		{strings.Replace(first, "https", "http", 1), "must begin with https://", "doit commencer par https://"},
		{strings.Replace(first, "/keys/", "/secrets/", 1), "identifier of a secret", "identificateur d’un secret"},
		{strings.Replace(first, "/keys/", "/certificates/", 1), "of a certificate", "identificateur d’un certificat"},
		{strings.Replace(first, "/keys/", "/deletedkeys/", 1), "a deleted key", "d’une clé supprimée"},
		{strings.Replace(first, "/keys/", "/Keys/", 1), "/keys/ in lower case", "/keys/ en minuscules"},
		{first + "?a=b", "after a ? or #", "retirez cette partie"},
		{strings.Split(first, "keys")[0], "must have /keys/", "doit contenir /keys/"},
		{"https://safe.vault.azure.net/keys/one", "cannot use that vault", "ne peut pas utiliser ce coffre"},
		{strings.Replace(second, "/two/", "/one/", 1), "a version of another key", "une version d’une autre clé"},
		{strings.Replace(first, "//safe.", "//none.", 1), "does not exist or is deleted", "coffre"},
		{"hashivault://vault.example/transit/keys/one", "the operator has not configured it",
			"ne peut pas utiliser ce"},
		{"hashivault://vault.example/keys/one", "names no key: give hashivault", "ne peut pas utiliser ce"},
		{"ftp://vault.example/keys/one", "the known ones are", "ne peut pas utiliser ce"},
		{"<script>alert(1)</script>", "must begin with https://", "doit commencer par https://"},
	} {
		for lang, p := range map[string]servertest.Page{wrong.en: ask(b, wrong.uri), wrong.fr: ask(fr, wrong.uri)} {
			hold(t, p, http.StatusUnprocessableEntity, lang, `id="e-uri"`)
			if strings.Contains(p.Body, "<script>alert") || wrong.uri != "" &&
				!strings.Contains(p.Body, `value="`+html.EscapeString(wrong.uri)+`"`) {
				t.Errorf("%q: what was typed is not kept, or not escaped", wrong.uri)
			}
		}
	}
}

// TestSelectFromKeyVault chooses a vault, then a key (requirement 42), and sees why others cannot be chosen.
func TestSelectFromKeyVault(t *testing.T) {
	r := newRealm(t, server.Config{})
	r.resource("face1")
	r.vault("good", nil)
	r.vault("farvault", map[string]any{"location": "mars"})
	r.vault("openvault", map[string]any{"enablePurgeProtection": nil})
	r.newKey("good", "fine")
	r.CallVault(t, http.MethodPost, "good", "large/create", map[string]any{"kty": "RSA", "key_size": 3072})
	r.CallVault(t, http.MethodPost, "good", "curve/create", map[string]any{"kty": "EC"})
	r.CallVault(t, http.MethodPost, "good", "off/create",
		map[string]any{"kty": "RSA", "attributes": map[string]any{"enabled": false}})
	b, fr := r.Browser(t, ""), r.inFrench()
	const at = "/console/resources/face1/encryption"
	p := b.Get(at + "/choose?type=customer&how=vault&uri=")
	if p.Header.Get("Location") != at+"/vault" {
		t.Fatalf("choose: %d %s", p.Status, p.Body)
	}
	p = b.Get(at + "/vault")
	hold(t, p, 200, `value="good" checked required>`, `value="farvault" disabled`, `value="openvault" disabled`,
		"is in the region mars", "has no purge protection")
	hold(t, fr.Get(at+"/vault"), 200, `value="good" checked required>`, "protection contre le vidage", "région")
	p = b.Get(at + "/vault?vault=good")
	hold(t, p, 200, `value="fine" checked required>`, `value="large" disabled`, `value="curve" disabled`,
		`value="off" disabled`, "has 3072 bits", "only RSA and RSA-HSM wrap", "is disabled")
	for versions, says := range map[string]string{"follow": "are followed automatically", "pin": "Only this version"} {
		p = b.Get(at + "/vault?vault=good&name=fine&versions=" + versions)
		hold(t, b.Get(p.Header.Get("Location")), 200, says, ">Save<")
	}
	r.enable(b, "face1", "good", "fine")
}

// TestMendPreconditions meets every precondition that a button can mend, and saves (requirements 32 to 39).
func TestMendPreconditions(t *testing.T) {
	r := newRealm(t, server.Config{})
	r.manage(http.MethodPut, group+"/providers/Microsoft.CognitiveServices/accounts/face1-wrong",
		map[string]any{"location": "westeurope", "kind": "Face", "sku": map[string]any{"name": "S0"}})
	b := r.Browser(t, "")
	hold(t, b.Get("/console/resources/face1-wrong/encryption"), 200, "need a resource of tier E0")
	r.resource("face1")
	r.vault("safe", map[string]any{"enablePurgeProtection": nil,
		"networkAcls": map[string]any{"defaultAction": "Allow", "bypass": "AzureServices"}})
	const at = "/console/resources/face1/encryption"
	check := at + "/key?vault=safe&name=k"
	mend := func(remedy string, given url.Values) {
		t.Helper()
		p := b.Get(check)
		for _, form := range p.Forms(at + "/mend") {
			if form.Get("remedy") != remedy {
				continue
			}
			for name, values := range given {
				form[name] = values
			}
			for range 2 { // a double click does no harm
				if p = b.Send(at+"/mend", form); p.Status != http.StatusSeeOther {
					t.Fatalf("%s: %d %s", remedy, p.Status, p.Body)
				}
			}
			return
		}
		t.Fatalf("no button %s: %d %s", remedy, p.Status, p.Body)
	}
	if p := b.Get(check); strings.Contains(p.Body, ">Save<") {
		t.Error("a key can be saved that does not exist")
	}
	mend("switch-purge-protection-on", nil)
	mend("create-key", nil)
	r.CallVault(t, http.MethodPatch, "safe", "k", map[string]any{"attributes": map[string]any{"enabled": false}})
	mend("enable-key", nil)
	r.CallVault(t, http.MethodPatch, "safe", "k", map[string]any{"key_ops": []string{"wrapKey"}})
	mend("allow-key-operations", nil)
	r.CallVault(t, http.MethodPatch, "safe", "k", map[string]any{"attributes": map[string]any{"exp": 1_000_000_000}})
	for _, form := range b.Get(check).Forms(at + "/mend") {
		form.Set("expires", "soon")
		hold(t, b.Send(at+"/mend", form), http.StatusBadRequest, "is not valid: write it as 2027-01-31")
	}
	mend("change-key-dates", url.Values{"expires": {"2999-12-31"}})
	r.CallVault(t, http.MethodDelete, "safe", "k", nil)
	mend("recover-key", nil)
	r.manage(http.MethodDelete, group+"/providers/Microsoft.KeyVault/vaults/safe", nil)
	mend("recover-vault", nil)

	// The vault stops letting trusted services in, and the approval is withdrawn: access is asked for, and approved.
	network := func(action, bypass string) {
		r.manage(http.MethodPatch, group+"/providers/Microsoft.KeyVault/vaults/safe",
			map[string]any{"properties": map[string]any{
				"networkAcls": map[string]any{"defaultAction": action, "bypass": bypass}}})
	}
	network("Deny", "None")
	mend("allow-trusted-services", nil)
	r.manage(http.MethodPost, "/providers/Microsoft.CognitiveServices/accessRequests/face1/withdraw", map[string]any{})
	for _, form := range b.Get(check).Forms(at + "/mend") {
		if form.Get("remedy") == "request-access" {
			hold(t, b.Send(at+"/mend", form), http.StatusBadRequest, "contact")
		}
	}
	contributor := r.somebody(identity.CognitiveContributor)
	mend("request-access", url.Values{"contact": {"ada@example.org"}, "reason": {"The door opens for Ada."}})
	hold(t, contributor.Get(check), 200, "The operator of the service decides about access.")
	mend("approve-access", nil)

	// The page grants the identity access when it saves: nothing is left to mend by hand, and a form made by hand that
	// asks for it changes nothing.
	page := b.Get(check)
	hold(t, page, 200, ">Save<")
	for remedy, of := range map[string]string{"grant-access": "may-wrap", "switch-identity-on": "identity-on"} {
		fields, _ := page.Form(at)
		fields.Set("remedy", remedy)
		fields.Set("precondition", of)
		if p := b.Send(at+"/mend", fields); p.Status != http.StatusSeeOther {
			t.Errorf("%s, which saving does: %d %s", remedy, p.Status, p.Body)
		}
	}
	before := r.manage(http.MethodGet, group+"/providers/Microsoft.KeyVault/vaults/safe", nil)
	if policies := before["properties"].(map[string]any)["accessPolicies"].([]any); len(policies) != 1 {
		t.Errorf("access was given before saving: %v", policies)
	}
	r.enable(b, "face1", "safe", "k")
	network("Allow", "AzureServices")

	// A locked resource is unlocked before it goes to another key, which must be one that can wrap.
	if p := b.Submit(at+"/lock", at+"/lock", nil); p.Status != http.StatusSeeOther {
		t.Fatalf("lock: %d %s", p.Status, p.Body)
	}
	r.newKey("safe", "other")
	check = at + "/key?vault=safe&name=other"
	mend("unlock-resource", nil)
	await(t, b, at, "<span>Customer-managed key: active</span>")
	r.CallVault(t, http.MethodPost, "safe", "curve/create", map[string]any{"kty": "EC", "crv": "P-256"})
	if page = r.inFrench().Get(at + "/vault?vault=safe"); strings.Count(page.Body, "Ce type de clé") != 1 {
		t.Errorf("why the key cannot be chosen: %s", page.Body)
	}
	page = b.Get(at + "/key?vault=safe&name=curve")
	hold(t, page, 200, "only RSA and RSA-HSM wrap", "which has no wrapKey and unwrapKey", "choose another key")
	if strings.Contains(page.Body, "You have no right to mend this") || strings.Contains(page.Body, ">Save<") {
		t.Errorf("a key that cannot wrap: %s", page.Body)
	}
}

// TestKeysThatExpire: the operator, and those who control the key, are told of a key that expires soon, where they look
// first; the operator is told of certificates too.
func TestKeysThatExpire(t *testing.T) {
	r := newRealm(t, server.Config{})
	r.resource("face1")
	r.resource("face2")
	r.vault("safe", nil)
	const day = 24 * time.Hour
	ends := map[string]int64{}
	for name, left := range map[string]time.Duration{"soon": 10*day + time.Hour, "later": 50 * day} {
		r.newKey("safe", name)
		ends[name] = time.Now().Add(left).Unix()
		r.CallVault(t, http.MethodPatch, "safe", name,
			map[string]any{"attributes": map[string]any{"exp": ends[name]}})
	}
	b := r.Browser(t, "")
	r.enable(b, "face1", "safe", "soon")
	r.enable(b, "face2", "safe", "later")
	const told = "The customer-managed key of face1 expires in 10 days."
	await(t, b, "/console", told)
	await(t, b, "/console/resources/face2/encryption", "Key expires")
	p := b.Get("/console/operations")
	hold(t, p, 200, told, `<th scope="row"><a href="/console/resources/face1/encryption"><bdi>face1</bdi></a></th>`,
		"Expires soon", "local authority, which signs")
	if strings.Contains(p.Body, "<bdi>face2</bdi>") {
		t.Error("a key that expires in 50 days is listed")
	}
	officer := r.somebody(identity.VisageSecurityOfficer)
	hold(t, officer.Get("/console"), 200, told)
	hold(t, officer.Get("/console/resources/face1/encryption"), 200, "The key expires on")
	if p = officer.Get("/console/resources/face2/encryption"); strings.Contains(p.Body, "The key expires on") {
		t.Error("a warning of a key that expires in 50 days")
	}
	if p = r.somebody(identity.Reader).Get("/console"); strings.Contains(p.Body, told) {
		t.Error("a reader is asked to replace a key")
	}
	hold(t, r.inFrench().Get("/console"), 200, "expire dans 10\u00a0jours")
	reader := r.somebody(identity.Reader)
	hold(t, reader.Get("/console/resources/face1"), 200, "The key expires", "in 10 days")
	hold(t, reader.Get("/console/resources/face1/encryption"), 200, "in 10 days")
	if p := reader.Get("/console/resources/default"); strings.Contains(p.Body, "The key expires") {
		t.Error("the service's key expires")
	}
	hold(t, b.Get("/metrics"), 200, `visage_keystore_key_expiry_seconds{kind="vault"} `+
		strconv.FormatFloat(float64(ends["soon"]), 'g', -1, 64), `visage_keystore_key_expiry_seconds{kind="kmip"} 0`)
}

// TestWithoutRights holds that a Reader is offered nothing, that forms made by hand are refused, and that a contributor
// without rights on a vault is told whom to ask.
func TestWithoutRights(t *testing.T) {
	r := newRealm(t, server.Config{})
	r.resource("face1")
	r.vault("safe", nil)
	r.newKey("safe", "k")
	b := r.Browser(t, "")
	r.enable(b, "face1", "safe", "k")
	const at = "/console/resources/face1/encryption"
	reader := r.somebody(identity.Reader)
	p := reader.Get(at)
	hold(t, p, 200, "Customer-managed key: active", "safe", "What happened to the key")
	for _, offered := range []string{`action="` + at, at + "/lock", at + "/service", at + "/choose", at + "/policy",
		at + "/rehearsal"} {
		if strings.Contains(p.Body, offered) {
			t.Errorf("a Reader is offered %s", offered)
		}
	}
	token, _ := p.Form("/console/signout")
	for _, action := range []string{"", "/lock", "/unlock", "/service", "/policy", "/new", "/mend", "/rehearsal"} {
		fields := url.Values{"token": token["token"], "vault": {"safe"}, "name": {"k"}, "remedy": {"enable-key"},
			"precondition": {"key-enabled"}}
		if p := reader.Send(at+action, fields); p.Status != http.StatusForbidden {
			t.Errorf("POST %s as a Reader: %d", action, p.Status)
		}
	}
	for _, action := range []string{"/on", "/off"} {
		p := reader.Send("/console/resources/face1/identity"+action, url.Values{"token": token["token"]})
		if p.Status != http.StatusForbidden {
			t.Errorf("POST identity%s as a Reader: %d", action, p.Status)
		}
	}
	r.resource("face2")
	some := r.somebody(identity.CognitiveContributor)
	const other = "/console/resources/face2/encryption"
	p = some.Get(other + "/key?vault=safe&name=k")
	hold(t, p, 200, "You have no right to mend this")
	if strings.Contains(p.Body, ">Save<") {
		t.Error("a key can be saved that the identity may not use")
	}
	token, _ = p.Form("/console/signout")
	p = some.Send(other+"/mend", url.Values{"token": token["token"], "vault": {"safe"}, "name": {"k"},
		"remedy": {"grant-access"}, "precondition": {"may-get"}})
	if p.Status != http.StatusForbidden {
		t.Errorf("access given without a right: %d %s", p.Status, p.Body)
	}
}

// TestLifeOfAKey changes the version and the key, revokes, locks, and returns (requirements 43, 44, 49, 50, 52, 54 and
// 55).
func TestLifeOfAKey(t *testing.T) {
	r := newRealm(t, server.Config{})
	r.resource("face1")
	r.vault("safe", nil)
	first := r.newKey("safe", "k")
	b := r.Browser(t, "")
	const at = "/console/resources/face1/encryption"
	version := first[strings.LastIndex(first, "/")+1:]
	p := b.Submit(at+"/key?vault=safe&name=k&version="+version, at, nil)
	if p.Status != http.StatusSeeOther {
		t.Fatalf("save: %d %s", p.Status, p.Body)
	}
	await(t, b, at, "<span>Customer-managed key: active</span>")
	hold(t, b.Get(at+"/key?vault=safe&name=k&version="+version), 200, "This key protects the resource already")

	second := r.newKey("safe", "k") // a newer version is offered, and taken into use with one button
	newer := second[strings.LastIndex(second, "/")+1:]
	p = await(t, b, at, "A newer version of the key is available: "+newer)
	stale, _ := p.Form(at) // of somebody who has opened the page too
	if p = b.Submit(at, at, nil); p.Status != http.StatusSeeOther {
		t.Fatalf("newer version: %d %s", p.Status, p.Body)
	}
	await(t, b, at, newer+"</code>")
	stale.Set("version", version)
	hold(t, b.Send(at, stale), http.StatusConflict, "changed this resource")

	r.newKey("safe", "other")
	hold(t, b.Get(at+"/choose"), 200, `value="customer" checked`)
	r.enable(b, "face1", "safe", "other")
	await(t, b, at, ">other</a>")

	off := map[string]any{"attributes": map[string]any{"enabled": false}}
	on := map[string]any{"attributes": map[string]any{"enabled": true}}
	r.CallVault(t, http.MethodPatch, "safe", "other", off)
	p = await(t, b, at, "<span>Customer-managed key: access revoked</span>") // the page notices while it is open
	hold(t, p, 200, `role="alert"`, "The key has refused access since", "The key, or the version in use, is disabled.", "Find out what is wrong",
		`hx-trigger="every 3s"`)
	hold(t, b.Get(at+"/key?vault=safe&name=other"), 200, "Enable the key")
	p = b.Get(at + "/service")
	hold(t, p, 200, "The present key must answer first")
	present, _ := b.Get("/console/resources/face1/identity/off").Form("/console/resources/face1/identity/off")
	hold(t, b.Send(at+"/service", present), http.StatusConflict, "must answer before it can be changed")
	hold(t, r.inFrench().Get(at), 200, "La clé refuse l’accès depuis",
		"La clé, ou la version utilisée, est désactivée.")
	r.CallVault(t, http.MethodPatch, "safe", "other", on)
	await(t, b, at, "<span>Customer-managed key: active</span>")

	// The access is taken away, and given back with a button.
	vault := group + "/providers/Microsoft.KeyVault/vaults/safe"
	id := r.manage(http.MethodGet, group+"/providers/Microsoft.CognitiveServices/accounts/face1", nil)["identity"]
	r.manage(http.MethodPut, vault+"/accessPolicies/remove", map[string]any{"properties": map[string]any{
		"accessPolicies": []any{map[string]any{"tenantId": r.Operator().TenantID,
			"objectId":    id.(map[string]any)["principalId"],
			"permissions": map[string]any{"keys": []string{"get", "wrapKey", "unwrapKey"}}}}}})
	await(t, b, at, "<span>Customer-managed key: access revoked</span>")
	hold(t, b.Get(at+"/key?vault=safe&name=other"), 200, "Give the access back")
	r.enable(b, "face1", "safe", "other")

	if p = b.Submit(at+"/lock", at+"/lock", nil); p.Status != http.StatusSeeOther {
		t.Fatalf("lock: %d %s", p.Status, p.Body)
	}
	hold(t, b.Get(at), 200, "The data is locked.", "locked on command", ">Unlock<")
	const unknown = `class="number"><span aria-hidden="true">—`
	if p = b.Get("/console?search=face1"); strings.Count(p.Body, unknown) < 2 {
		t.Errorf("the first page counts the faces of a locked resource: %s", p.Body)
	}
	if p = b.Submit(at, at+"/unlock", nil); p.Status != http.StatusSeeOther {
		t.Fatalf("unlock: %d %s", p.Status, p.Body)
	}
	await(t, b, at, "<span>Customer-managed key: active</span>")

	hold(t, b.Submit(at+"/policy", at+"/policy", url.Values{"grace": {"1441"}}), http.StatusBadRequest,
		`id="e-grace"`, `value="1441"`)
	policy, _ := b.Get(at + "/policy").Form(at + "/policy")
	p = b.Submit(at+"/policy", at+"/policy", url.Values{"grace": {"5"}, "manual": {"on"}})
	if p.Status != http.StatusSeeOther {
		t.Fatalf("policy: %d %s", p.Status, p.Body)
	}
	hold(t, b.Get(at), 200, "5 minutes")
	policy.Set("grace", "7")
	hold(t, b.Send(at+"/policy", policy), http.StatusConflict, "Somebody changed the policy")

	back, _ := b.Get(at + "/service").Form(at + "/service")
	for range 2 { // sent twice, done once
		if p = b.Send(at+"/service", back); p.Status != http.StatusSeeOther {
			t.Fatalf("return: %d %s", p.Status, p.Body)
		}
	}
	await(t, b, at, "<span>Service-managed key</span>")
	r.CallVault(t, http.MethodDelete, "safe", "other", nil)
	hold(t, b.Get(at), 200, "Service-managed key", "Service-managed key restored")
}

// TestIdentityOfAResource switches the identity on and off; off takes the access to the key away (requirements 25, 29).
func TestIdentityOfAResource(t *testing.T) {
	r := newRealm(t, server.Config{})
	r.resource("face1")
	r.vault("safe", nil)
	r.newKey("safe", "k")
	b := r.Browser(t, "")
	const at, encryption = "/console/resources/face1/identity", "/console/resources/face1/encryption"
	on, _ := b.Get(at).Form(at + "/on")
	if p := b.Send(at+"/on", on); p.Status != http.StatusSeeOther {
		t.Fatalf("on: %d %s", p.Status, p.Body)
	}
	hold(t, b.Get(at), 200, "Principal (object) ID", "The identity is on.")
	r.enable(b, "face1", "safe", "k")
	hold(t, b.Get(at), 200, "get, wrapKey, unwrapKey", ">safe</a>")
	hold(t, b.Get(at+"/off"), 200, "can no longer be reached")
	if p := b.Submit(at+"/off", at+"/off", nil); p.Status != http.StatusSeeOther {
		t.Fatalf("off: %d %s", p.Status, p.Body)
	}
	await(t, b, encryption, "<span>Customer-managed key: access revoked</span>")
	r.enable(b, "face1", "safe", "k") // a new identity, with access
}

// TestRestartDuringAChange restarts the server: the page shows the same key, and a change that was under way ends.
func TestRestartDuringAChange(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "visage")
	r := newRealm(t, server.Config{Dir: dir})
	r.resource("face1")
	const at = "/console/resources/face1/encryption"
	b := r.Browser(t, "")
	made := b.Submit(at+"/new", at+"/new", nil)
	if p := b.Submit(made.Header.Get("Location"), at, nil); p.Status != http.StatusSeeOther {
		t.Fatalf("save: %d %s", p.Status, p.Body)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	r = newRealm(t, server.Config{Dir: dir})
	await(t, r.Browser(t, ""), at, "<span>Customer-managed key: active</span>")
}

// TestHostileKeyNames makes names by hand that no form offers.
func TestHostileKeyNames(t *testing.T) {
	r := newRealm(t, server.Config{})
	r.resource("face1")
	b := r.Browser(t, "")
	const at = "/console/resources/face1/encryption"
	for _, name := range []string{"<script>alert(1)</script>", strings.Repeat("😀", 128), "\u202efdp.exe", "../../x",
		"a b", strings.Repeat("k", 4000)} {
		for _, query := range []url.Values{{"vault": {name}, "name": {"k"}}, {"vault": {"safe"}, "name": {name}},
			{"address": {name}, "name": {"k"}}, {"vault": {"safe"}, "name": {"k"}, "version": {name}}} {
			p := b.Get(at + "/key?" + query.Encode())
			if p.Status != http.StatusUnprocessableEntity || strings.Contains(p.Body, "<script>alert") {
				t.Errorf("%v: %d %.300s", query, p.Status, p.Body)
			}
		}
		p := b.Submit(at+"/new", at+"/new", url.Values{"vault": {name}, "key": {"k"}})
		hold(t, p, http.StatusBadRequest, `id="e-vault"`)
		p = b.Submit(at+"/new", at+"/new", url.Values{"key": {name}})
		hold(t, p, http.StatusBadRequest, `id="e-key"`)
	}
	// Names that are taken are told at the field, and what was typed stays.
	r.vault("taken", nil)
	p := b.Submit(at+"/new", at+"/new", url.Values{"vault": {"taken"}})
	hold(t, p, http.StatusConflict, `id="e-vault"`, `value="taken"`)
}

// TestRehearseARevocation rehearses as the operator, and reads the report of the task. Nobody else may.
func TestRehearseARevocation(t *testing.T) {
	r := newRealm(t, server.Config{})
	r.resource("face1")
	r.vault("safe", nil)
	r.newKey("safe", "k")
	r.enable(r.Browser(t, ""), "face1", "safe", "k")
	b := r.inFrench()
	const at = "/console/resources/face1/encryption"
	hold(t, r.somebody(identity.Owner).Get(at+"/rehearsal"), http.StatusForbidden, "")
	p := b.Submit(at+"/rehearsal", at+"/rehearsal", nil)
	if p.Status != http.StatusSeeOther {
		t.Fatalf("rehearse: %d %s", p.Status, p.Body)
	}
	hold(t, await(t, b, p.Header.Get("Location"), "Fermées après "), http.StatusOK, "rouvertes après", at,
		"Les données ont été refusées", "1 autre ressource sous la clé du service reste disponible.",
		"Les données sont les mêmes qu’auparavant.")
	hold(t, b.Get(at), 200, "<span>Clé gérée par le client : active</span>") // the running service was left alone
}

// TestKeyStores adds a key in another vault, shows both, and removes the first.
func TestKeyStores(t *testing.T) {
	r := newRealm(t, server.Config{})
	r.resource("vip")
	r.vault("safe", nil)
	r.vault("spare", nil)
	r.newKey("safe", "faces")
	further := r.newKey("spare", "faces")
	b := r.Browser(t, "")
	r.enable(b, "vip", "safe", "faces")
	const at = "/console/resources/vip/encryption"
	hold(t, b.Get(at), 200, "Add a key in another store")
	hold(t, b.Get(at+"/store"), 200, "you must take it away from both keys")
	hold(t, b.Submit(at+"/store", at+"/store", url.Values{"uri": {"nothing"}}), http.StatusBadRequest, `value="nothing"`)
	added := b.Submit(at+"/store", at+"/store", url.Values{"uri": {further}})
	if added.Status != http.StatusSeeOther {
		t.Fatalf("add: %d %s", added.Status, added.Body)
	}
	p := await(t, b, at, "Answers, stands by")
	hold(t, p, 200, "The key is added", further, "First key", "Keeps the data open",
		"take it away from the keys of all stores")
	hold(t, b.Submit(at+"/store", at+"/store", url.Values{"uri": {further[:strings.LastIndex(further, "/")]}}),
		http.StatusSeeOther) // newer versions are followed from now on
	hold(t, b.Get(at+"/store/promote"), 200, "is never asked again")
	hold(t, b.Submit(at+"/store/promote", at+"/store/promote", nil), http.StatusConflict, "must have given no answer")
	hold(t, r.inFrench().Get(at), 200, "Répond, en réserve", "Première clé")

	var remove []string
	for _, part := range strings.Split(p.Body, `href="`)[1:] {
		if to, _, _ := strings.Cut(part, `"`); strings.HasPrefix(to, at+"/store/remove") {
			remove = append(remove, html.UnescapeString(to))
		}
	}
	if len(remove) != 2 {
		t.Fatalf("the pages that remove keys: %q", remove)
	}
	hold(t, b.Get(remove[0]), 200, "must answer", "closes nothing any more")
	if p := b.Submit(remove[0], at+"/store/remove", nil); p.Status != http.StatusSeeOther {
		t.Fatalf("remove: %d %s", p.Status, p.Body)
	}
	hold(t, b.Get(at), 200, "The key is being removed")
	p = b.Wait(at, func(p servertest.Page) bool { return !strings.Contains(p.Body, "safe.vault") })
	hold(t, p, 200, "spare", "<span>Customer-managed key: active</span>")
	hold(t, b.Get(remove[1]), 200, "The resource has one key only.")
}
