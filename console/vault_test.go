package console_test

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// office is a server with people who look after key vaults.
type office struct {
	*servertest.Server

	t testing.TB
}

func newOffice(t testing.TB) *office { return &office{servertest.Start(t, server.Config{}), t} }

// vault creates a vault with access policies, and with what else is given.
func (o *office) vault(b *servertest.Browser, name string, given url.Values) {
	o.t.Helper()
	fields := url.Values{"name": {name}, "model": {"policies"}, "sku": {"standard"}}
	for field, values := range given {
		fields[field] = values
	}
	o.sent(b.Submit("/console/vaults/-/new", "/console/vaults/-/new", fields), "/console/vaults/"+name)
}

// sent fails the test unless a form was accepted and leads to a page.
func (o *office) sent(p servertest.Page, to string) {
	o.t.Helper()
	if p.Status != http.StatusSeeOther || p.Header.Get("Location") != to {
		o.t.Fatalf("status %d, to %q, want %q:\n%s", p.Status, p.Header.Get("Location"), to, mainOf(p))
	}
}

// shows fails the test unless a page has some texts.
func (o *office) shows(p servertest.Page, status int, texts ...string) {
	o.t.Helper()
	if p.Status != status {
		o.t.Errorf("status %d, want %d:\n%s", p.Status, status, mainOf(p))
	}
	for _, text := range texts {
		if !strings.Contains(p.Body, text) {
			o.t.Errorf("the page lacks %q:\n%s", text, mainOf(p))
		}
	}
}

// lacks fails the test if a page has one of some texts.
func (o *office) lacks(p servertest.Page, texts ...string) {
	o.t.Helper()
	for _, text := range texts {
		if strings.Contains(p.Body, text) {
			o.t.Errorf("the page has %q:\n%s", text, mainOf(p))
		}
	}
}

// mainOf is what is particular to a page.
func mainOf(p servertest.Page) string {
	_, body, found := strings.Cut(p.Body, "<main")
	if !found {
		return p.Body
	}
	body, _, _ = strings.Cut(body, "</main>")
	return body
}

// upload sends a form with a file.
func (o *office) upload(
	b *servertest.Browser, path string, given url.Values, field, name string, data []byte,
) servertest.Page {
	o.t.Helper()
	fields, found := b.Get(path).Form(path)
	if !found {
		o.t.Fatalf("page %s has no form", path)
	}
	for name, values := range given {
		fields[name] = values
	}
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for name, values := range fields {
		for _, value := range values {
			if err := w.WriteField(name, value); err != nil {
				o.t.Fatal(err)
			}
		}
	}
	part, err := w.CreateFormFile(field, name)
	if err == nil {
		_, err = part.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		o.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(o.t.Context(), http.MethodPost, o.URL+path, &body)
	if err != nil {
		o.t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	return b.Ask(req)
}

var versionPattern = regexp.MustCompile(`/keys/[0-9A-Za-z-]+/([0-9a-f]{32})`)

// version is the version of a key on a page: the first that it names.
func (o *office) version(p servertest.Page) string {
	o.t.Helper()
	m := versionPattern.FindStringSubmatch(p.Body)
	if m == nil {
		o.t.Fatalf("the page names no version:\n%s", mainOf(p))
	}
	return m[1]
}

// tokenOf is what a form of a page has at least: its token.
func tokenOf(p servertest.Page) url.Values {
	fields, _ := p.Form("/console/signout")
	return fields
}

// TestVaultLife takes a vault from its creation to its end.
func TestVaultLife(t *testing.T) {
	o := newOffice(t)
	b := o.Browser(t, "")
	o.shows(b.Get("/console/vaults"), http.StatusOK, "There is no key vault",
		"/console/vaults/-/new", "visage vault create")

	const form = "/console/vaults/-/new"
	for field, wrong := range map[string][2]string{
		"name":      {"9 <lives>", "The name of a key vault must have"},
		"retention": {"91", "7 to 90 days"},
		"location":  {" ", "needs a region"},
		"tags":      {"no tag", "is not a tag"},
	} {
		p := b.Submit(form, form, url.Values{"name": {"safe"}, "model": {"policies"}, field: {wrong[0]}})
		o.shows(p, http.StatusBadRequest, wrong[1], `id="e-`+field)
		o.lacks(p, "<lives>")
		fields, _ := p.Form(form)
		if fields.Get(field) != wrong[0] || fields.Get("model") != "policies" {
			t.Errorf("%s: the form keeps %q", field, fields)
		}
	}
	o.vault(b, "safe", url.Values{"protect": nil, "retention": {"7"}, "tags": {"team = <b>keys</b>"}})
	p := b.Get("/console/vaults/safe")
	o.shows(p, http.StatusOK, "The key vault safe is created.", "7 days", "Purge protection is off",
		"&lt;b&gt;keys&lt;/b&gt;", "https://safe.vault.localhost:")
	o.shows(b.Submit(form, form, url.Values{"name": {"SAFE"}, "model": {"roles"}}), http.StatusConflict,
		"already in use", `id="e-name"`)

	// deleted, its name stays taken; recovered, all is as before
	o.sent(b.Submit("/console/vaults/safe/delete", "/console/vaults/safe/delete", nil), "/console/vaults/-/deleted")
	o.shows(b.Get("/console/vaults/-/deleted"), http.StatusOK, "The key vault safe is deleted.")
	o.shows(b.Submit(form, form, url.Values{"name": {"safe"}}), http.StatusConflict, "recover it or purge it first")
	o.sent(b.Submit("/console/vaults/-/deleted", "/console/vaults/-/deleted/safe/recover", nil), "/console/vaults/safe")

	// without purge protection it can be purged
	o.sent(b.Submit("/console/vaults/safe/delete", "/console/vaults/safe/delete", nil), "/console/vaults/-/deleted")
	const purge = "/console/vaults/-/deleted/safe/purge"
	o.sent(b.Submit(purge, purge, nil), "/console/vaults/-/deleted")
	o.shows(b.Get("/console/vaults/safe"), http.StatusNotFound)

	// with it, nobody can
	o.vault(b, "safe", url.Values{"protect": nil})
	const protect = "/console/vaults/safe/purgeprotection"
	fields, _ := b.Get(protect).Form(protect)
	o.sent(b.Send(protect, fields), "/console/vaults/safe")
	o.sent(b.Send(protect, fields), "/console/vaults/safe") // the same form again, as by a double click
	fields.Set("again", "1")                                // another form for the state before
	o.shows(b.Send(protect, fields), http.StatusConflict, "after you opened the page")
	o.lacks(b.Get("/console/vaults/safe"), protect)
	o.sent(b.Submit("/console/vaults/safe/delete", "/console/vaults/safe/delete", nil), "/console/vaults/-/deleted")
	o.lacks(b.Get("/console/vaults/-/deleted"), purge)
	p = b.Get(purge)
	o.shows(p, http.StatusOK, "nobody can do this before")
	if _, offered := p.Form(purge); offered {
		t.Error("purging is offered under purge protection")
	}
	p = b.Send(purge, tokenOf(p))
	o.shows(p, http.StatusForbidden, "has purge protection until 20")
}
