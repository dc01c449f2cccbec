package console

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/visage-face/visage/api"
)

// view is what a handler wants to show: a page, a redirection or a download.
type view struct {
	status   int    // 0: 200
	template string // the page: the name of a file in templates/, without .html
	title    string // in the visitor's language
	crumbs   []link // the pages above it
	tabs     []tab
	notices  []notice
	once     bool          // it shows something that is shown once: the form that made it is not done again
	refresh  time.Duration // until the page asks again, while something on it is under way; 0: it does not
	data     any           // for the template

	location string // a redirection to a path of the console, instead of a page
	header   http.Header
	download *download // a file instead of a page
	raw      []byte    // an answer of any type instead, which header names
}

// link is a link to a page of the console.
type link struct{ Text, To string }

// tab is one of the pages of a thing.
type tab struct {
	Text, To string
	Current  bool
}

// download is a file that the browser saves.
type download struct {
	name        string // plain ASCII
	contentType string
	data        []byte
	stream      func(context.Context, io.Writer) error // instead of data
}

// page shows a page.
func (v *visit) page(template, title string, data any) *view {
	return &view{template: template, title: title, data: data}
}

// redirect leads to another page of the console.
func (v *visit) redirect(to string) *view { return &view{location: to} }

// done leads to a page that shows a message: what a form has done.
func (v *visit) done(to, key string, args ...any) *view {
	v.c.notices.add(v.session.ID, notice{Kind: "ok", Text: v.text(key, args...)})
	return v.redirect(to)
}

// notice is a message on the next page.
type notice struct {
	Kind string // "ok", "warn", "bad" or "info"
	Text string
}

// frame is what templates see: the page's data and what surrounds it.
type frame struct {
	Lang    string // "en", "fr"
	Other   []link // the other languages: To is the code
	Title   string
	Crumbs  []link
	Tabs    []tab
	Nav     []tab
	Person  string // the name of the signed-in person; empty: nobody is signed in
	Notices []notice
	Refresh int // seconds; 0: the page does not ask again
	Path    string
	Again   string // the address that the page asks again without scripts
	Token   string // of the forms of the frame: sign out
	Missing []string
	Data    any
}

// reply writes a view as the answer to a request.
func (v *visit) reply(w *view) (any, error) {
	header := w.header
	if header == nil {
		header = http.Header{}
	}
	switch {
	case w.location != "":
		header.Set("Location", w.location)
		return api.Reply{Status: http.StatusSeeOther, Header: header}, nil
	case w.download != nil:
		header.Set("Content-Type", w.download.contentType)
		header.Set("Content-Disposition", `attachment; filename="`+w.download.name+`"`)
		return api.Reply{Status: http.StatusOK, Header: header, Raw: w.download.data, Stream: w.download.stream}, nil
	}
	if w.raw != nil {
		return api.Reply{Status: http.StatusOK, Header: header, Raw: w.raw}, nil
	}
	if removed := v.fillDraft(w); removed != "" {
		header.Add("Set-Cookie", removed)
	}
	f := v.frame(w)
	body, err := v.lang.render(w.template, f)
	if err != nil {
		return nil, err
	}
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Language", v.lang.code)
	header.Add("Vary", "Accept-Language, Cookie")
	status := w.status
	if status == 0 {
		status = http.StatusOK
	}
	return api.Reply{Status: status, Header: header, Raw: body}, nil
}

func (v *visit) frame(w *view) frame {
	f := frame{
		Lang: v.lang.code, Title: w.title, Crumbs: w.crumbs, Tabs: w.tabs, Refresh: int(w.refresh / time.Second),
		Path: v.URL(), Again: refreshed(v.URL()), Data: w.data, Missing: missingAssets(), Notices: w.notices,
	}
	if w.refresh > 0 && f.Refresh == 0 {
		f.Refresh = 1
	}
	for _, l := range v.c.languages {
		if l != v.lang {
			f.Other = append(f.Other, link{l.name, l.code})
		}
	}
	if v.signedIn() {
		f.Person, f.Token = v.session.Name, v.token()
		f.Nav = v.navigation()
		if !isRefresh(v.Request) { // which shows no messages
			f.Notices = append(f.Notices, v.c.notices.take(v.session.ID)...)
		}
	}
	return f
}

// withQuery is a path with pairs of names and values as its query, without those whose value is empty.
func withQuery(path string, pairs ...string) string {
	if q := query(pairs...); q != "" {
		return path + "?" + q
	}
	return path
}

// query encodes pairs of names and values as the query of an address, without those whose value is empty.
func query(pairs ...string) string {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	return values.Encode()
}
