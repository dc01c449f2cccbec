package console

import (
	"html/template"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/console/internal/chart"
)

func (c *Console) homeRoutes() []route {
	return []route{page(prefix, signedIn, c.home)}
}

// readAccount is the action of reading a resource.
const readAccount = "Microsoft.CognitiveServices/accounts/read"

// rows is how many rows a table of a page has.
const rows = 50

// resourceRow is a resource in the table of the first page.
type resourceRow struct {
	Name, To string
	Tier     visage.Tier
	Location string
	Key      badge
	// Requests is how many a minute there were in the last hour. Without a figure, it, Persons and Faces are empty.
	Requests, Persons, Faces string
}

// homeData is the first page.
type homeData struct {
	Alerts    []task
	Traffic   *traffic // of the instance, for operators; nil: not shown
	Resources []resourceRow
	Columns   []column
	Search    string
	More      string // the address of the next page; empty: this is the last
	Create    string // the page that creates a resource; empty: the person may not
	Deleted   string // the page of deleted resources; empty: the person may not see it
}

// home lists the resources that the person may read, with the state of their keys.
func (c *Console) home(v *visit) (*view, error) {
	all, err := c.cfg.Accounts.List(v.Context())
	if err != nil {
		return nil, err
	}
	data := homeData{Search: v.field("search")}
	everywhere, search := v.may(readAccount, c.subscription()), strings.ToLower(data.Search)
	all = slices.DeleteFunc(all, func(a account.Account) bool {
		return !strings.Contains(strings.ToLower(a.Name), search) ||
			!everywhere && !v.may(readAccount, c.cfg.AccountPath(a))
	})
	t := tabled(v, prefix, all, "name", v.resourceOrders())
	data.Columns, data.More = t.Columns, t.More
	var listed []account.Account
	for _, a := range t.Rows {
		row, err := c.resourceRow(v, a)
		if now, found := c.cfg.Accounts.Find(a.Name); err != nil && (!found || now.ID != a.ID) {
			continue // it was purged since it was listed
		}
		if err != nil {
			return nil, err
		}
		data.Resources, listed = append(data.Resources, row), append(listed, a)
	}
	if err := c.requestsOf(v, listed, data.Resources); err != nil {
		return nil, err
	}
	if v.may(writeAccount, c.group()) {
		data.Create = prefix + "/create"
	}
	if v.may(readDeleted, c.subscription()) {
		data.Deleted = prefix + "/deleted"
	}
	keys, err := c.keysExpiring(v)
	if err != nil {
		return nil, err
	}
	data.Alerts = v.keyExpiryAlerts(keys)
	if v.operates() {
		alerts, _, err := c.alerts(v)
		if err != nil {
			return nil, err
		}
		data.Alerts = append(data.Alerts, alerts...)
		if data.Traffic, err = c.traffic(v); err != nil {
			return nil, err
		}
	}
	return v.page("home", v.text("home.title"), data), nil
}

// resourceOrders are the columns of the table of resources. What is counted comes from the sealed space of each: it is
// read for the rows of a page, and not for all resources.
func (v *visit) resourceOrders() []order[account.Account] {
	return []order[account.Account]{
		{"name", "home.name", byText(func(a account.Account) string { return a.Name }), false},
		{"key", "home.key", byText(v.keyText), false},
		{"requests", "home.requests", nil, true},
		{"persons", "home.persons", nil, true},
		{"faces", "home.faces", nil, true},
		{"tier", "home.tier", byText(func(a account.Account) string { return string(a.Tier) }), false},
		{"location", "home.location", byText(func(a account.Account) string { return a.Location }), false},
	}
}

// keyText says who holds the key of a resource; nothing if that cannot be read.
func (v *visit) keyText(a account.Account) string {
	e, err := v.c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return ""
	}
	return v.keyBadge(e.Status).Text
}

// resourceRow describes a resource for the first page.
func (c *Console) resourceRow(v *visit, a account.Account) (resourceRow, error) {
	row := resourceRow{Name: a.Name, To: resourcePath(a.Name, ""), Tier: a.Tier, Location: a.Location}
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return row, err
	}
	row.Key = v.keyBadge(e.Status)
	if e.Status.Code == "" {
		row.Persons, row.Faces, err = c.enrolledIn(v, a)
	}
	return row, err
}

// enrolledIn counts the persons and faces of a resource, for people with a role for its data.
func (c *Console) enrolledIn(v *visit, a account.Account) (persons, faces string, err error) {
	if !v.mayData(useFaces, c.cfg.AccountPath(a)) {
		return "", "", nil
	}
	e, err := c.cfg.Faces.Enrolled(v.Context(), a.Resource)
	if closed(err) {
		return "", "", nil
	}
	if e.Counted {
		faces = v.lang.number(e.Faces)
	}
	return v.lang.number(e.Persons), faces, err
}

// requestsOf fills in how busy the resources of rows were in the last hour.
func (c *Console) requestsOf(v *visit, of []account.Account, in []resourceRow) error {
	ids := make([]visage.ResourceID, len(of))
	for i, a := range of {
		ids[i] = a.ID
	}
	now := time.Now().UTC()
	rates, err := c.cfg.Figures.Rates(v.Context(), ids, now.Add(-time.Hour), now)
	for i, rate := range rates {
		in[i].Requests = v.lang.short(rate)
	}
	return err
}

// traffic is how busy the instance was in the last hour.
type traffic struct {
	Requests, PerMinute string
	Line                template.HTML // empty: nothing has been counted yet
}

func (c *Console) traffic(v *visit) (*traffic, error) {
	now := time.Now().UTC()
	series, err := c.cfg.Figures.Read(v.Context(), visage.ResourceID{}, now.Add(-time.Hour), now, time.Minute)
	if err != nil {
		return nil, err
	}
	if nothingCounted(series) {
		return &traffic{}, nil
	}
	line, minutes := chart.Sparkline{}, 0
	for _, p := range series.Points {
		value := math.NaN()
		if !p.Missing {
			value = float64(p.Requests)
			minutes++
		}
		line.Values = append(line.Values, value)
	}
	t := &traffic{
		Requests:  v.lang.number(int(series.Total.Requests)),
		PerMinute: v.lang.short(float64(series.Total.Requests) / float64(max(1, minutes))),
	}
	line.Title = v.text("home.traffic.line", t.Requests)
	t.Line = chart.Spark(line)
	return t, nil
}
