package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestAccessRequests has a contributor ask for tier E0 and the operator decide.
func TestAccessRequests(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	operator := s.Browser(t, "")
	asks, _ := visitorWith(t, s, "Ada", identity.Contributor)
	const requests = "/console/requests"
	one := func(name, action string) string { return requests + "/" + name + action }
	ask := func(name string) url.Values {
		return url.Values{"name": {name}, "region": {"here"}, "contact": {"ada@example.org"},
			"reason": {"<b>bold</b>\nsecond line"}}
	}

	for name, try := range map[string]struct{ name, value, field string }{
		"name":    {"name", "a b", "name"},
		"region":  {"region", "<here>", "region"},
		"contact": {"contact", "", "contact"},
		"reason":  {"reason", strings.Repeat("é", 2049), "reason"},
	} {
		fields := ask("first")
		fields.Set(try.name, try.value)
		p := asks.Submit(requests, requests, fields)
		want(t, name, p, http.StatusBadRequest, `id="e-`+try.field+`"`)
		wantNot(t, name, p, "<b>")
		again, _ := p.Form(requests)
		if again.Get(try.name) != try.value && try.name != "reason" {
			t.Errorf("%s: %q came back as %q", name, try.value, again.Get(try.name))
		}
	}
	if p := operator.Submit(requests, requests+"/capacity", url.Values{"places": {"1"}}); p.Status != 303 {
		t.Fatalf("capacity: %d %s", p.Status, p.Body)
	}
	want(t, "capacity", operator.Submit(requests, requests+"/capacity", url.Values{"places": {"-1"}}), 400,
		`id="e-places"`, `value="-1"`)
	for _, name := range []string{"first", "second", "third"} {
		if p := asks.Submit(requests, requests, ask(name)); p.Header.Get("Location") != one(name, "") {
			t.Fatalf("ask: %d %s", p.Status, p.Body)
		}
	}
	want(t, "ask again", asks.Submit(requests, requests, ask("FIRST")), http.StatusConflict, `id="e-name"`)
	mine := asks.Get(one("first", ""))
	want(t, "first", mine, http.StatusOK, "not decided yet", "&lt;b&gt;bold", one("first", "/withdraw"))
	wantNot(t, "first, for who asks", mine, one("first", "/approve"), "<b>")
	fields, _ := mine.Form(one("first", "/withdraw"))
	for _, action := range []string{"/approve", "/reject"} {
		want(t, action+" one's own", asks.Send(one("first", action), fields), http.StatusForbidden)
	}
	want(t, "set the capacity", asks.Send(requests+"/capacity", fields), http.StatusForbidden)

	want(t, "waiting", operator.Get(requests), http.StatusOK, "3 requests wait for your decision")
	decide := func(name, action string, fields url.Values) {
		t.Helper()
		if p := operator.Submit(one(name, ""), one(name, action), fields); p.Status != http.StatusSeeOther {
			t.Fatalf("%s %s: %d %s", action, name, p.Status, p.Body)
		}
	}
	decide("first", "/approve", nil)
	decide("second", "/approve", nil)
	decide("third", "/reject", url.Values{"note": {"Ask <i>again</i> in May."}})
	want(t, "first", asks.Get(one("first", "")), 200, "Approved: a place is free", `href="/console/create"`)
	want(t, "second", asks.Get(one("second", "")), 200, "It is number 1 in the queue")
	want(t, "third", asks.Get(one("third", "")), 200, "Rejected", "Ask &lt;i&gt;again&lt;/i&gt; in May.")
	want(t, "too long a note", operator.Submit(one("first", ""), one("first", "/reject"),
		url.Values{"note": {strings.Repeat("x", 1025)}}), 400, `id="e-note"`)

	// A form for what has changed meanwhile is refused in words.
	want(t, "withdrawn from an old page", asks.Send(one("first", "/withdraw"), fields), http.StatusConflict,
		"was changed on")
	if p := asks.Submit("/console/create", "/console/create", url.Values{"name": {"safe"}, "location": {"here"},
		"tier": {"E0"}}); p.Status != http.StatusSeeOther {
		t.Fatalf("create in the place: %d %s", p.Status, p.Body)
	}
	want(t, "used", asks.Get(one("first", "")), 200, "Approved: used by safe", "can no longer enable")
	if p := asks.Submit(one("second", ""), one("second", "/withdraw"), nil); p.Status != http.StatusSeeOther {
		t.Fatalf("withdraw: %d %s", p.Status, p.Body)
	}
	french(t, asks)
	want(t, "in French", asks.Get(requests), 200, "Demandes d’accès", "Retirée", "Approuvée", "Rejetée")
	want(t, "unknown", asks.Get(one("none", "")), http.StatusNotFound)

	reader, _ := visitorWith(t, s, "Rita", identity.Reader)
	page := reader.Get(requests)
	want(t, "for a reader", page, 200, "second")
	wantNot(t, "for a reader", page, `action="/console/requests"`, `action="/console/requests/capacity"`)
	nobody, _ := visitorWith(t, s, "Nils")
	wantNot(t, "navigation of a person without a role", nobody.Get("/console"), `href="/console/requests"`)
	want(t, "for a person without a role", nobody.Get(requests), http.StatusForbidden)
}

// TestManyAccessRequests pages through more requests than a table has rows.
func TestManyAccessRequests(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	const requests = "/console/requests"
	for i := range 60 {
		fields := url.Values{"name": {fmt.Sprintf("r%02d", i)}, "contact": {"c"}, "reason": {"r"}}
		if p := b.Submit(requests, requests, fields); p.Status != http.StatusSeeOther {
			t.Fatal(p.Status)
		}
	}
	first, second := b.Get(requests), b.Get(requests+"?skip=50")
	want(t, "first page", first, 200, "/console/requests/r59", "/console/requests/r10", "?skip=50")
	want(t, "second page", second, 200, "/console/requests/r09", "/console/requests/r00")
	wantNot(t, "second page", second, "/console/requests/r10\"", "?skip=100")
}
