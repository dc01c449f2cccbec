package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

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
	const form = storePages + "/-/new/hashivault"
	want(t, "the form", b.Get(form), 200,
		"Audience of the tokens", "File with the secret", "keystores")
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
		if name == "a file elsewhere" {
			fields.Set("login.method", "token")
		}
		for field, values := range try.fields {
			fields[field] = values
		}
		p := b.Submit(form, form, fields)
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

	fixed := regexp.MustCompile(storePages + `/[0-9a-f]{16}`)
	for _, at := range fixed.FindAllString(list.Body, -1) {
		want(t, "the page of a store of the settings", b.Get(at), 200, "and is removed there")
		want(t, "its removal", b.Submit(at+"/remove", at+"/remove", nil), 409, "KeyStoreFromSettings")
	}
	want(t, "the question", b.Get(one+"/remove"), 200, "Keys in the store stay as they are")
	if p := b.Submit(one+"/remove", one+"/remove", nil); p.Status != http.StatusSeeOther {
		t.Fatalf("remove: %d %s", p.Status, p.Body)
	}
	want(t, "the list afterwards", b.Get(storePages), 200, "The key store is removed")
	wantNot(t, "the list afterwards", b.Get(storePages), "127.0.0.1:1")
	want(t, "its page afterwards", b.Get(one), 404)

	owner := s.As(t, "Olga Owner", identity.Owner)
	for _, at := range []string{storePages, form, one, one + "/remove"} {
		want(t, at+" for an owner", owner.Get(at), 403)
	}
	want(t, "adding by an owner", owner.Send(form, url.Values{"token": {owner.Token()}}), 403)
	wantNot(t, "the navigation of an owner", owner.Get("/console"), storePages)
}
