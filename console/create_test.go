package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestCreateResource goes through the refusals of the form, each at its field and with what was typed.
func TestCreateResource(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b, _ := visitorWith(t, s, "Cora", identity.Contributor)
	const create = "/console/create"
	want(t, "home", b.Get("/console"), http.StatusOK, `href="/console/create"`)
	for name, try := range map[string]struct {
		fields url.Values
		status int
		field  string
	}{
		"hostile name":  {url.Values{"name": {"<script>alert(1)</script>"}}, 400, "name"},
		"emoji":         {url.Values{"name": {strings.Repeat("🦉", 16)}}, 400, "name"},
		"right to left": {url.Values{"name": {"\u202egnp.exe"}}, 400, "name"},
		"name taken":    {url.Values{"name": {"DEFAULT"}}, 409, "name"},
		"no region":     {url.Values{"name": {"shop"}, "location": {""}}, 400, "location"},
		"region":        {url.Values{"name": {"shop"}, "location": {"/etc"}}, 400, "location"},
		"no tier":       {url.Values{"name": {"shop"}, "tier": {""}}, 400, "tier"},
		"E0 unapproved": {url.Values{"name": {"shop"}, "tier": {"E0"}}, 403, "tier"},
		"subdomain":     {url.Values{"name": {"shop"}, "subdomain": {"-x"}}, 400, "subdomain"},
	} {
		p := b.Submit(create, create, try.fields)
		want(t, name, p, try.status, `id="e-`+try.field+`"`)
		again, _ := p.Form(create)
		for field, values := range try.fields {
			if field != "tier" && again.Get(field) != values[0] {
				t.Errorf("%s: %s was %q and comes back as %q", name, field, values[0], again.Get(field))
			}
		}
		wantNot(t, name, p, "<script>alert")
	}
	fields := url.Values{"name": {"shop"}, "location": {"West US 2"}, "tier": {"F0"}}
	p := b.Submit(create, create, fields)
	if p.Status != http.StatusSeeOther || p.Header.Get("Location") != "/console/resources/shop" {
		t.Fatalf("create: %d %s", p.Status, p.Body)
	}
	want(t, "created", b.Get("/console/resources/shop"), http.StatusOK, "West US 2", "F0", "was created")
	want(t, "a second free one", b.Submit(create, create, url.Values{"name": {"shop2"}, "location": {"westus2"},
		"tier": {"F0"}}), http.StatusConflict, `id="e-tier"`)

	french(t, b)
	want(t, "in French", b.Submit(create, create, url.Values{"name": {"!"}}), http.StatusBadRequest, `lang="fr"`,
		"Le nom n’est pas valide", "The name &#34;!&#34;")

	// A person without a role for it is not offered the page, and is refused.
	r, _ := visitorWith(t, s, "Rita", identity.Reader)
	wantNot(t, "home of a reader", r.Get("/console"), `href="/console/create"`)
	want(t, "the page, for a reader", r.Get(create), http.StatusForbidden)
	token, _ := r.Get("/console").Form("/console/signout")
	want(t, "the form, from a reader", r.Send(create, url.Values{"token": token["token"], "name": {"mine"},
		"location": {"here"}, "tier": {"S0"}}), http.StatusForbidden)
}

// TestDeleteRecoverPurge ends a resource step by step, and asks for a proof before each step that destroys.
func TestDeleteRecoverPurge(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	const resource, deleted = "/console/resources/default", "/console/deleted"
	b := s.Browser(t, "")
	want(t, "overview", b.Get(resource), http.StatusOK, `href="/console/resources/default/delete"`)
	page := b.Get(resource + "/delete")
	want(t, "before deletion", page, http.StatusOK, "48 hours")
	if p := b.Submit(resource, resource+"/tags", url.Values{"tags": {"a = b"}}); p.Status != http.StatusSeeOther {
		t.Fatalf("tags: %d", p.Status)
	}
	fields, _ := page.Form(resource + "/delete")
	want(t, "deletion of what has changed meanwhile", b.Send(resource+"/delete", fields), http.StatusConflict,
		"operator changed this resource")
	if p := b.Submit(resource+"/delete", resource+"/delete", nil); p.Header.Get("Location") != deleted {
		t.Fatalf("delete: %d %s", p.Status, p.Body)
	}
	want(t, "of a deleted one", b.Get(resource), http.StatusNotFound)
	const back = deleted + "/default/recover"
	list := b.Get(deleted)
	want(t, "deleted", list, http.StatusOK, `action="`+back+`"`, `href="/console/deleted/default/purge"`)
	again, _ := list.Form(back)
	if p := b.Send(back, again); p.Header.Get("Location") != resource {
		t.Fatalf("recover: %d %s", p.Status, p.Body)
	}
	if p := b.Send(back, again); p.Header.Get("Location") != resource { // a double click
		t.Errorf("recover, sent twice: %d %s", p.Status, p.Body)
	}
	want(t, "recovered", b.Get(resource), http.StatusOK)
	b.Submit(resource+"/delete", resource+"/delete", nil)

	const purge = deleted + "/default/purge"
	want(t, "purge without the name", b.Submit(purge, purge, url.Values{"confirm": {"Default"}}),
		http.StatusBadRequest, `id="e-confirm"`, `value="Default"`)
	form, _ := b.Get(purge).Form(purge)
	reader, _ := visitorWith(t, s, "Rita", identity.Reader)
	wantNot(t, "deleted, for a reader", reader.Get(deleted), back, purge)
	readers, _ := reader.Get("/console").Form("/console/signout")
	for _, action := range []string{back, purge} {
		want(t, action+" by a reader", reader.Send(action, url.Values{"token": readers["token"],
			"confirm": {"default"}}), http.StatusForbidden)
	}
	form.Set("confirm", "default")
	if p := b.Send(purge, form); p.Header.Get("Location") != deleted {
		t.Fatalf("purge: %d %s", p.Status, p.Body)
	}
	want(t, "purged", b.Get(deleted), http.StatusOK, "There is no deleted resource.")
	want(t, "home without resources", b.Get("/console"), http.StatusOK, "visage resource create")
}
