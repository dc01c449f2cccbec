package console_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

var (
	headPattern     = regexp.MustCompile(`(?s)<thead>(.*?)</thead>\s*<tbody>(.*?)</tbody>`)
	columnPattern   = regexp.MustCompile(`<th scope="col"([^>]*)>(?:<a href="([^"]*)">)?([^<]*)`)
	rowPattern      = regexp.MustCompile(`(?s)<tr>.*?</tr>`)
	changingPattern = regexp.MustCompile(`(?s)<form.*?</form>|<time.*?</time>`)
	tagPattern      = regexp.MustCompile(`<[^>]*>`)
	morePattern     = regexp.MustCompile(`<p class="more"><a class="button plain" href="([^"]*)"`)
	sortedPattern   = regexp.MustCompile(`aria-sort="([a-z]+)"`)
	rowNamePattern  = regexp.MustCompile(`(?s)<th scope="row"[^>]*>(.*?)</th>`)
)

// tableOf is a table of a page: its headings, with the addresses to which they lead, and its rows without times and
// forms, which differ from one visit to the next.
type tableOf struct {
	headings []heading
	rows     []string
}

type heading struct{ text, to, sorted string }

// tables finds the tables of a page.
func tables(p servertest.Page) (all []tableOf) {
	for _, m := range headPattern.FindAllStringSubmatch(p.Body, -1) {
		var t tableOf
		for _, c := range columnPattern.FindAllStringSubmatch(m[1], -1) {
			h := heading{text: html.UnescapeString(c[3]), to: html.UnescapeString(c[2])}
			if s := sortedPattern.FindStringSubmatch(c[1]); s != nil {
				h.sorted = s[1]
			}
			t.headings = append(t.headings, h)
		}
		t.rows = rowPattern.FindAllString(changingPattern.ReplaceAllString(m[2], ""), -1)
		all = append(all, t)
	}
	return all
}

// names returns the first cells of the rows of a page's only table.
func names(p servertest.Page) (all []string) {
	for _, m := range rowNamePattern.FindAllStringSubmatch(p.Body, -1) {
		all = append(all, html.UnescapeString(tagPattern.ReplaceAllString(m[1], "")))
	}
	return all
}

// find returns the heading of a text.
func (t tableOf) find(text string) heading {
	for _, h := range t.headings {
		if h.text == text {
			return h
		}
	}
	return heading{}
}

// TestEveryListSorts holds that every list of the console is sorted by each of its columns, in both directions, except
// by those that are named here.
func TestEveryListSorts(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	furnish(t, s)
	op := s.Operator()
	group := "/resourceGroups/" + op.ResourceGroup
	vaults := group + "/providers/Microsoft.KeyVault/vaults/"
	for _, name := range []string{"attic", "barn", "cellar"} {
		s.Manage(t, http.MethodPut, vaults+name, map[string]any{"location": "local", "properties": map[string]any{
			"tenantId": op.TenantID, "sku": map[string]string{"family": "A", "name": "standard"},
			"enableRbacAuthorization": name == "barn", "accessPolicies": []any{},
		}})
		if name != "attic" {
			s.Manage(t, http.MethodDelete, vaults+name, nil)
		}
		s.Manage(t, http.MethodPut, group+"/providers/Microsoft.CognitiveServices/accounts/"+name, map[string]any{
			"location": "local", "kind": "Face", "sku": map[string]string{"name": "S0"}})
		s.Manage(t, http.MethodPut, group+"/providers/Microsoft.CognitiveServices/accounts/gone-"+name, map[string]any{
			"location": "local", "kind": "Face", "sku": map[string]string{"name": "S0"}})
		s.Manage(t, http.MethodDelete, group+"/providers/Microsoft.CognitiveServices/accounts/gone-"+name, nil)
		s.As(t, "Person "+name, identity.Reader)
		s.Manage(t, http.MethodPost, "/providers/Visage.Identity/servicePrincipals",
			map[string]any{"displayName": name})
		s.Face(t, http.MethodPut, "persongroups/"+name, map[string]any{"name": "Group " + name})
		s.Face(t, http.MethodPut, "facelists/"+name, map[string]any{"name": "List " + name})
	}
	s.Browser(t, "") // another session
	b := s.Browser(t, "")
	const vault = "/console/vaults/furnished"
	for _, name := range []string{"alpha", "beta", "gamma"} {
		submit(t, b, vault+"/newkey", url.Values{"name": {name}, "kind": {"RSA"}, "size": {"2048"}})
		submit(t, b, "/console/requests",
			url.Values{"name": {name}, "contact": {name + "@example.org"}, "reason": {"x"}})
		hold := url.Values{"of": {"persongroups/attic"}, "reason": {name}}
		if name == "beta" {
			hold.Set("of", "facelists/barn")
		}
		page := "/console/resources/default/keeping?" + url.Values{"of": hold["of"]}.Encode()
		submit(t, b, page, hold, "/console/resources/default/keeping/hold")
	}
	for _, name := range []string{"delta", "epsilon"} {
		submit(t, b, vault+"/newkey", url.Values{"name": {name}, "kind": {"EC P-256"}})
		submit(t, b, vault+"/keys/"+name+"/delete", nil)
		submit(t, b, vault+"/keys/alpha", nil, vault+"/keys/alpha/rotate")
	}
	for _, last := range []string{"1", "2"} {
		object := "00000000-0000-0000-0000-00000000000" + last
		submit(t, b, vault+"/policies/edit", url.Values{"object": {object}, "may-get": {"on"}})
		s.Face(t, http.MethodPost, "persongroups/attic/persons", map[string]any{"name": "Ada " + object})
	}
	const actions = "Actions"
	for path, fixed := range map[string][]string{
		"/console":                           {"Requests a minute", "Persons", "Faces"},
		"/console/deleted":                   {actions},
		"/console/requests":                  nil,
		"/console/access":                    nil,
		"/console/access/applications":       nil,
		"/console/access/roles":              {actions},
		"/console/access/group":              {actions},
		"/console/access/sessions":           {actions},
		"/console/account":                   {actions},
		"/console/resources/default/access":  {actions},
		"/console/resources/default/people":  nil,
		"/console/resources/default/keeping": {actions},
		"/console/vaults":                    nil,
		"/console/vaults/-/deleted":          {actions},
		vault + "/access":                    {actions},
		vault + "/policies":                  {"Permissions on keys", actions},
		vault + "/keys":                      nil,
		vault + "/keys/alpha":                nil,
		vault + "/deletedkeys":               {actions},
		"/console/audit":                     {"What happened", "Outcome", "Actor", "Resource"},
		"/console/audit?resource=default":    {"What happened", "Outcome", "Actor"},
		"/console/resources/default/people/persongroups/attic":          nil,
		"/console/resources/default/people/persongroups/attic?search=a": nil,
	} {
		t.Run(path, func(t *testing.T) { sortsBothWays(t, b, path, fixed) })
	}
}

// sortsBothWays follows the headings of the first table of a page that has any: all lead to the same rows in an order
// and in its reverse, except those that are fixed.
func sortsBothWays(t *testing.T, b *servertest.Browser, path string, fixed []string) {
	t.Helper()
	sortable := func(p servertest.Page) (tableOf, bool) {
		for _, found := range tables(p) {
			if slices.ContainsFunc(found.headings, func(h heading) bool { return h.to != "" }) {
				return found, true
			}
		}
		return tableOf{}, false
	}
	whole, found := sortable(b.Get(path))
	if !found || len(whole.rows) < 2 {
		t.Fatalf("no table of two rows that can be sorted: %v", tables(b.Get(path)))
	}
	for _, h := range whole.headings {
		if (h.to == "") != slices.Contains(fixed, h.text) {
			t.Errorf("column %q leads to %q; fixed are %q", h.text, h.to, fixed)
		}
		if h.to == "" {
			continue
		}
		one, _ := sortable(b.Get(h.to))
		back := one.find(h.text)
		other, _ := sortable(b.Get(back.to))
		if ways := []string{back.sorted, other.find(h.text).sorted}; !slices.Contains(ways, "ascending") ||
			!slices.Contains(ways, "descending") {
			t.Errorf("column %q: %s is sorted %q, %s %q", h.text, h.to, ways[0], back.to, ways[1])
		}
		if len(one.rows) == 0 || len(one.rows) != len(other.rows) {
			t.Errorf("column %q: %d rows, in reverse %d", h.text, len(one.rows), len(other.rows))
		}
		if len(whole.rows) == 50 || strings.HasPrefix(path, "/console/audit") { // the other rows are on other pages
			continue
		}
		slices.Reverse(other.rows)
		if !slices.Equal(one.rows, other.rows) {
			t.Errorf("column %q: %q, in reverse %q", h.text, one.rows, other.rows)
		}
	}
}

// TestSortedTables sorts a list of several pages: what is searched for and the order stay from page to page, accents
// and case do not count, and what is no order is none.
func TestSortedTables(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	person := func(name, email string) {
		s.Manage(t, http.MethodPost, "/providers/Visage.Identity/people",
			map[string]any{"displayName": name, "mail": email})
	}
	for i := range 60 {
		person(fmt.Sprintf("Guest %02d", i), fmt.Sprintf("%02d@example.org", 99-i))
	}
	for _, name := range []string{"Zoé", "émile", "Ada", "Étienne"} {
		person(name, "")
	}
	if got := names(b.Get(access))[:4]; !slices.Equal(got, []string{"Ada", "émile", "Étienne", "Guest 00"}) {
		t.Errorf("by name: %q", got)
	}
	for _, odd := range []string{"nonsense", "-", "--name", "name ", "<script>", "Name"} {
		p := b.Get(access + "?" + url.Values{"sort": {odd}}.Encode())
		want(t, odd, p, 200, `aria-sort="ascending"`)
		if got := names(p); got[0] != "Ada" || strings.Count(p.Body, "aria-sort") != 1 {
			t.Errorf("sort=%s: %q", odd, got)
		}
	}
	found := b.Get(access + "?search=guest")
	byMail := tables(found)[0].find("E-mail address").to
	first := b.Get(byMail)
	more := morePattern.FindStringSubmatch(first.Body)
	if got := names(first); len(got) != 50 || got[0] != "Guest 59" || more == nil {
		t.Fatalf("%s: %q, more at %q", byMail, got, more)
	}
	second := b.Get(html.UnescapeString(more[1]))
	if got := names(second); len(got) != 10 || got[0] != "Guest 09" || got[9] != "Guest 00" {
		t.Errorf("%s: %q", more[1], got)
	}
	want(t, "a new search keeps the order", second, 200, `<input type="hidden" name="sort" value="email">`,
		`name="search" value="guest"`)
	back := tables(second)[0].find("E-mail address").to
	if got := names(b.Get(back)); !strings.Contains(back, "search=guest") || len(got) != 50 || got[0] != "Guest 00" {
		t.Errorf("%s: %q", back, got)
	}
	french(t, b)
	if got := names(b.Get(back)); got[0] != "Guest 00" {
		t.Errorf("in French: %q", got)
	}
}

// TestLongTablesAreNotSorted holds that a group of more persons than are read for a page keeps the order in which the
// service lists them, and says so.
func TestLongTablesAreNotSorted(t *testing.T) {
	s := servertest.Start(t, server.Config{Rate: 1000})
	b := s.Browser(t, "")
	s.Face(t, http.MethodPut, "persongroups/crowd", map[string]any{"name": "Crowd"})
	for i := range 1000 {
		s.Face(t, http.MethodPost, "persongroups/crowd/persons", map[string]any{"name": fmt.Sprintf("P%04d", 1000-i)})
	}
	const path = "/console/resources/default/people/persongroups/crowd"
	byName := tables(b.Get(path))[0].find("Name").to
	first := b.Get(byName)
	if got := names(first); len(got) != 50 || got[0] != "P0001" || got[49] != "P0050" {
		t.Errorf("1,000 persons by name: %q", got)
	}
	last := b.Get(byName + "&skip=950")
	if got := names(last); len(got) != 50 || got[49] != "P1000" || morePattern.MatchString(last.Body) {
		t.Errorf("the last of them: %q", got)
	}
	s.Face(t, http.MethodPost, "persongroups/crowd/persons", map[string]any{"name": "P0000"})
	p := b.Get(byName)
	if got, listed := names(p), names(b.Get(path)); !slices.Equal(got, listed) {
		t.Errorf("1,001 persons are sorted: %q", got)
	}
	for _, h := range tables(p)[0].headings {
		if h.to != "" || (h.sorted == "ascending") != (h.text == "Id") {
			t.Errorf("1,001 persons: %+v", h)
		}
	}
}

// submit sends a form of a page, which must lead on.
func submit(t *testing.T, b *servertest.Browser, page string, fields url.Values, action ...string) {
	t.Helper()
	to := page
	if len(action) > 0 {
		to = action[0]
	}
	if p := b.Submit(page, to, fields); p.Status != http.StatusSeeOther {
		t.Fatalf("form %s: %d %s", to, p.Status, p.Body)
	}
}
