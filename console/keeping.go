package console

import (
	"cmp"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/face"
)

// keepingPath is the path of the page about how long something is kept: the people of a resource, of a group or list,
// one person or one face.
func keepingPath(account string, on face.Held) string {
	path := resourcePath(account, "keeping")
	if on == (face.Held{}) {
		return path
	}
	return path + "?" + query("of", collectionKindOf(on.Ref.Kind).name+"/"+on.Ref.ID, "item", on.Item)
}

// keptOf returns what a page or a form about retention and holds is about.
func (v *visit) keptOf() (face.Held, error) {
	of, item := v.field("of"), v.field("item")
	if of == "" && item == "" {
		return face.Held{}, nil
	}
	kind, id, _ := strings.Cut(of, "/")
	k, known := kindNamed(kind)
	if !known {
		return face.Held{}, refuseUnknownPage()
	}
	return face.Held{Ref: face.Ref{Kind: k.kind, ID: id}, Item: visage.FoldUUID(item)}, nil
}

// keepingData is the page about retention and legal holds.
type keepingData struct {
	About     string // what the page is about
	Item      bool   // a person or a face: retentions are those of its group or list
	Own       *face.Retention
	Default   *face.Retention // of the resource
	Whole     bool            // the page is about the whole resource
	Retention *form           // nil: the person may not change it
	Holds     table[holdRow]
	Others    int  // holds that are not shown
	Releases  bool // the person may release holds
	Place     *form
	Lists     table[retentionRow] // groups and lists with a retention of their own
}

// holdRow is a legal hold.
type holdRow struct {
	On, Reason, By string
	Placed         time.Time
	To             string // the page about what is held
	Release        *form  // nil: the person may not release it
	of             face.Held
}

// holdOrders are the columns of the table of holds.
var holdOrders = []order[holdRow]{
	{"on", "keeping.of", byText(func(h holdRow) string { return h.On }), false},
	{"reason", "keeping.reason", byText(func(h holdRow) string { return h.Reason }), false},
	{"by", "keeping.by", byText(func(h holdRow) string { return h.By }), false},
	{"placed", "keeping.since.when", byTime(func(h holdRow) time.Time { return h.Placed }), false},
}

// retentionRow is a group or list with a retention of its own.
type retentionRow struct {
	Name, To  string
	Retention face.Retention
}

// retentionOrders are the columns of the table of those. Without days, they keep everything without end.
var retentionOrders = []order[retentionRow]{
	{"list", "keeping.of", byText(func(r retentionRow) string { return r.Name }), false},
	{"days", "keeping.retention", byNumber(func(r retentionRow) int { return cmp.Or(r.Retention.Days, math.MaxInt) }),
		false},
}

// keeping shows how long people are kept, and legal holds.
func (c *Console) keeping(v *visit, a account.Account) (*view, error) {
	on, err := v.keptOf()
	if err != nil {
		return nil, err
	}
	w, _, err := c.keepingPage(v, a, on)
	return w, err
}

func (c *Console) keepingPage(v *visit, a account.Account, on face.Held) (*view, *keepingData, error) {
	all, err := c.cfg.Faces.Keeping(v.Context(), a.Resource)
	if err != nil {
		return nil, nil, err
	}
	data := &keepingData{
		About: v.keptName(on), Item: on.Item != "", Whole: on == (face.Held{}), Default: all.Default,
	}
	scope := c.cfg.AccountPath(a)
	data.Releases = v.may("Microsoft.CognitiveServices/accounts/releaseHold/action", scope)
	for _, r := range all.Collections {
		if r.Ref == on.Ref {
			data.Own = &r.Retention
		}
		if data.Whole {
			of := face.Held{Ref: r.Ref}
			data.Lists.Rows = append(data.Lists.Rows,
				retentionRow{v.keptName(of), keepingPath(a.Name, of), r.Retention})
		}
	}
	page := keepingPath(a.Name, on)
	data.Lists.Columns = sortRows(v, page, data.Lists.Rows, "", retentionOrders)
	data.Lists.Rows = data.Lists.Rows[:min(len(data.Lists.Rows), mostKept)]
	if data.Whole {
		data.Own = all.Default
	}
	for _, h := range all.Holds {
		concerns := data.Whole || h.On.Ref == (face.Ref{}) || h.On.Ref == on.Ref &&
			(on.Item == "" || h.On.Item == "" || h.On.Item == on.Item)
		if !concerns {
			continue
		}
		data.Holds.Rows = append(data.Holds.Rows, holdRow{On: v.keptName(h.On), Reason: h.Reason, By: c.nameOf(h.By),
			Placed: h.Placed, To: keepingPath(a.Name, h.On), of: h.On})
	}
	data.Holds.Columns = sortRows(v, page, data.Holds.Rows, "", holdOrders)
	data.Others = max(0, len(data.Holds.Rows)-mostKept)
	data.Holds.Rows = data.Holds.Rows[:len(data.Holds.Rows)-data.Others]
	for i, row := range data.Holds.Rows {
		if data.Releases {
			f := v.keepingForm(a, "release", v.text("keeping.release"), row.of)
			f.Style = "plain"
			data.Holds.Rows[i].Release = f
		}
	}
	if !data.Item && v.may("Microsoft.CognitiveServices/accounts/retention/write", scope) {
		data.Retention = v.retentionForm(a, on, data.Own)
	}
	if v.may("Microsoft.CognitiveServices/accounts/placeHold/action", scope) {
		data.Place = v.keepingForm(a, "hold", v.text("keeping.place"), on, &field{
			Name: "reason", Kind: "text", Label: v.text("keeping.reason"), Hint: v.text("keeping.reason.hint"),
			Required: true, Max: mostReason,
		})
	}
	w := v.resourcePage("keeping", "people", a, data)
	w.title = v.text("keeping.title")
	if v.mayData("Microsoft.CognitiveServices/accounts/Face/action", scope) {
		w.crumbs = append(w.crumbs, link{v.text("resource.tab.people"), resourcePath(a.Name, "people")})
		if !data.Whole {
			path := collectionPath(a.Name, on.Ref)
			w.crumbs = append(w.crumbs, link{v.keptName(face.Held{Ref: on.Ref}), path})
			if collectionKindOf(on.Ref.Kind).group && on.Item != "" {
				w.crumbs = append(w.crumbs, link{v.keptName(on), path + "/persons/" + on.Item})
			}
		}
	}
	return w, data, nil
}

// mostKept is how many holds, or retentions of groups and lists, a page shows.
const mostKept = 200

// keptName names what is kept or held, by ids: holds are seen by people who may not see names.
func (v *visit) keptName(on face.Held) string {
	switch {
	case on == (face.Held{}):
		return v.text("keeping.resource")
	case on.Item == "":
		return v.text("keeping.collection", collectionKindOf(on.Ref.Kind).one(v), on.Ref.ID)
	case collectionKindOf(on.Ref.Kind).group:
		return v.text("keeping.person", on.Item, on.Ref.ID)
	}
	return v.text("keeping.face", on.Item, on.Ref.ID)
}

// nameOf is the name of a principal, or its id.
func (c *Console) nameOf(id string) string {
	if p, err := c.cfg.Directory.Principal(id); err == nil && p.Name != "" {
		return p.Name
	}
	return id
}

// keepingForm is a form about retention or a hold.
func (v *visit) keepingForm(a account.Account, action, submit string, on face.Held, fields ...*field) *form {
	f := v.form(resourcePath(a.Name, "keeping/"+action), submit, fields...)
	if on.Ref != (face.Ref{}) {
		f.Fields = append(f.Fields,
			&field{Name: "of", Kind: "hidden", Value: collectionKindOf(on.Ref.Kind).name + "/" + on.Ref.ID})
	}
	if on.Item != "" {
		f.Fields = append(f.Fields, &field{Name: "item", Kind: "hidden", Value: on.Item})
	}
	return f
}

// retentionForm is the form for a retention; now is the present one, nil: none.
func (v *visit) retentionForm(a account.Account, on face.Held, now *face.Retention) *form {
	days, since := "", string(face.SinceEnrolment)
	if now != nil {
		days, since = strconv.Itoa(now.Days), string(now.Since)
	}
	hint := "keeping.days.hint"
	if on != (face.Held{}) {
		hint = "keeping.days.hint.own"
	}
	return v.keepingForm(a, "retention", v.text("keeping.save"), on,
		&field{Name: "days", Kind: "number", Label: v.text("keeping.days"), Hint: v.text(hint), Value: days},
		&field{Name: "since", Kind: "radio", Label: v.text("keeping.since"), Value: since, Required: true,
			Options: []option{
				{Value: string(face.SinceEnrolment), Text: v.text("keeping.since.enrolment"),
					Hint: v.text("keeping.since.enrolment.hint")},
				{Value: string(face.SinceMatch), Text: v.text("keeping.since.lastmatch"),
					Hint: v.text("keeping.since.lastmatch.hint")},
			}},
		&field{Name: "was", Kind: "hidden", Value: days + " " + since})
}

// setRetention sets or removes a retention.
func (c *Console) setRetention(v *visit, a account.Account) (*view, error) {
	on, err := v.keptOf()
	if err != nil {
		return nil, err
	}
	w, data, err := c.keepingPage(v, a, on)
	if err != nil {
		return nil, err
	}
	if data.Retention == nil { // of a person or a face
		return nil, refuseUnknownPage()
	}
	var want *face.Retention
	if text := strings.TrimSpace(v.field("days")); text != "" {
		days, wrong := strconv.Atoi(text)
		if wrong != nil {
			err = visage.Refuse(visage.Invalid, "BadArgument", "The number of days must be a whole number.")
		}
		want = &face.Retention{Days: days, Since: face.Since(v.field("since"))}
	}
	if err == nil && v.field("was") != data.Retention.Field("was").Value {
		err = visage.Refuse(visage.Conflict, "ChangedMeanwhile", "Somebody has changed the retention after you opened "+
			"the page, which now shows it as it is. Check it, and send the form again.")
	}
	if err == nil && shorter(data, want) {
		if err := v.needFresh(); err != nil {
			return nil, err // within the hour, it can erase many people
		}
	}
	if err == nil {
		err = c.cfg.Faces.SetRetention(v.Context(), a.Resource, on.Ref, want)
	}
	if err == nil {
		return v.done(keepingPath(a.Name, on), "keeping.saved"), nil
	}
	return c.keepingAgain(v, w, data.Retention, err, "days")
}

// shorter reports whether another retention, nil: none, can end sooner for somebody than the one of the page.
func shorter(page *keepingData, want *face.Retention) bool {
	now := page.Own
	if !page.Whole {
		now, want = cmp.Or(now, page.Default), cmp.Or(want, page.Default)
	}
	switch {
	case want == nil || want.Days == 0:
		return false
	case now == nil || now.Days == 0:
		return true
	}
	return want.Days < now.Days || now.Since == face.SinceMatch && want.Since != face.SinceMatch
}

// keepingAgain shows the page about retention and holds with a form that was refused.
func (c *Console) keepingAgain(v *visit, w *view, f *form, refused error, wrong string) (*view, error) {
	if f == nil || closed(refused) || !v.refused(f, refused, map[string]string{"BadArgument": wrong}) {
		return nil, refused
	}
	return v.again(w, f.Error), nil
}

// placeHold places a legal hold.
func (c *Console) placeHold(v *visit, a account.Account) (*view, error) {
	return c.changeHold(v, a, func(on face.Held) error {
		return c.cfg.Faces.Hold(v.Context(), a.Resource, on, v.field("reason"))
	}, "keeping.placed")
}

// releaseHold releases a legal hold.
func (c *Console) releaseHold(v *visit, a account.Account) (*view, error) {
	return c.changeHold(v, a, func(on face.Held) error {
		return c.cfg.Faces.Release(v.Context(), a.Resource, on)
	}, "keeping.released")
}

func (c *Console) changeHold(
	v *visit, a account.Account, change func(face.Held) error, done string,
) (*view, error) {
	on, err := v.keptOf()
	if err != nil {
		return nil, err
	}
	refused := change(on)
	if refused == nil {
		return v.done(keepingPath(a.Name, on), done), nil
	}
	w, data, err := c.keepingPage(v, a, on)
	if err != nil {
		return nil, err
	}
	return c.keepingAgain(v, w, data.Place, refused, "reason")
}
