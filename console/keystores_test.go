package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// inputs are the fields with texts of a form, each with its name and its other attributes.
var inputs = regexp.MustCompile(`<input type="text" id="[^"]*" name="([^"]*)"([^>]*)>`)

const storePages = "/console/stores"

// TestStorePages adds a key store on the pages, tests it, and removes it.
func TestStorePages(t *testing.T) {
	s := servertest.Start(t, server.Config{KeyStores: []stores.Store{{
		Address: "hashivault://settings.example/transit", Login: stores.Login{Method: "jwt"},
	}}})
	b := s.Browser(t, "")
	list := b.Get(storePages)
	want(t, "the list", list, 200, "hashivault://settings.example/transit", "Settings of the service",
		storePages+"/-/new/hashivault")
	if broken := "hashivault://<wbr>settings.<wbr>example/<wbr>transit"; !strings.Contains(list.Body, broken) {
		t.Errorf("the list does not say where the address may be broken: %s", list.Body)
	}
	const form = storePages + "/-/new/hashivault"
	want(t, "the form", b.Get(form), 200,
		"Audience of the tokens", "No secret is stored", "keystores", form+"?login.method=approle")
	for method, fields := range map[string]string{
		"hashivault?login.method=jwt":     "caFile login.mount login.role login.audience resources",
		"hashivault?login.method=approle": "caFile login.mount login.roleId* login.secretFile* resources*",
		"hashivault?login.method=token":   "caFile login.secretFile* resources*",
		"kmip":                            "caFile* login.secretFile* login.certificateFile* login.object resources",
	} {
		p := b.Get(storePages + "/-/new/" + method)
		want(t, method, p, 200)
		var shown []string
		for _, m := range inputs.FindAllStringSubmatch(p.Body, -1) {
			if name := m[1]; strings.Contains(m[2], " required") {
				shown = append(shown, name+"*")
			} else {
				shown = append(shown, name)
			}
		}
		if got := strings.Join(shown, " "); got != "address* "+fields {
			t.Errorf("the form of %s has the fields %q, want %q", method, got, fields)
		}
	}
	managers := b.Get(storePages + "/-/new/kmip")
	want(t, "the form of KMIP", managers, 200, "private key of this service", "that may sign the server")
	wantNot(t, "the form of KMIP", managers, "first line", "those of the system")
	want(t, "the form of Google", b.Get(storePages+"/-/new/gcpkms?login.method=service-account"), 200,
		"The JSON file as Google writes it")
	want(t, "the list", list, 200, `<td data-label="First key expires">–</td>`, "PKCS#11 token: such a store runs a library of this machine")
	wantNot(t, "the list", list, "/-/new/pkcs11")
	want(t, "the form of tokens", b.Get(storePages+"/-/new/pkcs11"), 404)
	want(t, "an unknown kind", b.Get(storePages+"/-/new/floppy"), 404)
	for name, try := range map[string]struct {
		fields url.Values
		status int
		says   string
	}{
		"no address":          {url.Values{"address": {""}}, 400, "InvalidKeyStore"},
		"markup":              {url.Values{"address": {"<script>alert(1)</script>"}}, 400, "InvalidKeyStore"},
		"a file elsewhere":    {url.Values{"login.secretFile": {"/etc/passwd"}}, 400, "must be in"},
		"our own audience":    {url.Values{"login.audience": {"https://management.azure.com"}}, 400, "of this inst"},
		"the one of settings": {url.Values{"address": {"hashivault://SETTINGS.example/transit"}}, 409, `id="e-address"`},
	} {
		fields := url.Values{"address": {"hashivault://127.0.0.1:1/transit"}, "login.method": {"jwt"}}
		page := form
		if name == "a file elsewhere" {
			fields.Set("login.method", "token")
			page += "?login.method=token"
		}
		for field, values := range try.fields {
			fields[field] = values
		}
		p := b.Submit(page, form, fields)
		want(t, name, p, try.status, try.says)
		wantNot(t, name, p, "<script>alert")
	}
	p := b.Submit(form, form, url.Values{"address": {"hashivault://127.0.0.1:1/transit"}, "login.method": {"jwt"},
		"login.audience": {"vault.example"}})
	if p.Status != http.StatusSeeOther {
		t.Fatalf("add: %d %s", p.Status, p.Body)
	}
	one := p.Header.Get("Location")
	want(t, "its page", b.Get(one), 200, "The key store is added", "hashivault://127.0.0.1:1/transit", "vault.example",
		"No resource has a key in this store")
	want(t, "a test", b.Submit(one, one+"/test", url.Values{"resource": {""}, "key": {""}}), 200,
		"Something does not work", "connection refused")
	want(t, "a test as nobody", b.Submit(one, one+"/test", url.Values{"resource": {""}, "key": {"faces"}}), 400,
		"TrialIncomplete", `id="e-resource"`)
	want(t, "a test as an unknown resource", b.Submit(one, one+"/test", url.Values{"resource": {"none"},
		"key": {"faces"}}), 404, "ResourceNotFound")

	want(t, "the description of its page", b.Get(one+"/change"), 200, "Resources that may use it", "vault.example")
	want(t, "resources that are none", b.Submit(one+"/change", one+"/change", url.Values{"resources": {"vip"}}),
		400, "InvalidKeyStore")
	want(t, "our own audience", b.Submit(one+"/change", one+"/change", url.Values{
		"login.audience": {"https://management.azure.com"}}), 400, "of this inst")
	if p := b.Submit(one+"/change", one+"/change", url.Values{"resources": {"*"}, "login.mount": {"elsewhere"},
		"login.audience": {"other.example"}}); p.Status != 303 {
		t.Errorf("all resources: %d %s", p.Status, p.Body)
	}
	want(t, "its page after that", b.Get(one), 200, "The key store is changed", ">*<", "elsewhere", "other.example")

	stale, found := b.Get(one + "/change").Form(one + "/change")
	if !found {
		t.Fatal("no form with the description")
	}
	const vip = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/vip"
	if p := b.Submit(one+"/change", one+"/change", url.Values{"resources": {vip}}); p.Status != 303 {
		t.Fatalf("one resource: %d %s", p.Status, p.Body)
	}
	stale.Set("login.mount", "third")
	p = b.Send(one+"/change", stale)
	want(t, "a form of before", p, 409, "ChangedMeanwhile", vip, `value="elsewhere"`)
	wantNot(t, "its page after that", b.Get(one), ">*<", "third")
	again, _ := p.Form(one + "/change")
	again.Set("login.mount", "third")
	if p := b.Send(one+"/change", again); p.Status != 303 {
		t.Errorf("the form that the refusal shows: %d %s", p.Status, p.Body)
	}
	want(t, "its page after both", b.Get(one), 200, "third", vip)

	fixed := regexp.MustCompile(storePages + `/[0-9a-f]{16}`)
	for _, at := range fixed.FindAllString(list.Body, -1) {
		want(t, "the page of a store of the settings", b.Get(at), 200, "changed or removed there")
		want(t, "its removal", b.Submit(at+"/remove", at+"/remove", nil), 409, "KeyStoreFromSettings")
		want(t, "its description", b.Submit(at+"/change", at+"/change", url.Values{"resources": {"*"}}), 409,
			"KeyStoreFromSettings")
	}
	want(t, "the question", b.Get(one+"/remove"), 200, "Keys in the store stay as they are")
	if p := b.Submit(one+"/remove", one+"/remove", nil); p.Status != http.StatusSeeOther {
		t.Fatalf("remove: %d %s", p.Status, p.Body)
	}
	want(t, "the list afterwards", b.Get(storePages), 200, "The key store is removed")
	wantNot(t, "the list afterwards", b.Get(storePages), "127.0.0.1:1")
	want(t, "its page afterwards", b.Get(one), 404)

	owner := s.As(t, "Olga Owner", identity.Owner)
	for _, at := range []string{storePages, form, one, one + "/remove", one + "/change"} {
		want(t, at+" for an owner", owner.Get(at), 403)
	}
	want(t, "adding by an owner", owner.Send(form, url.Values{"token": {owner.Token()}}), 403)
	wantNot(t, "the navigation of an owner", owner.Get("/console"), storePages)
}
