package console

import (
	"net/url"

	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/custody"
)

// resourcePath is the path of a page of a resource; its overview for an empty name.
func resourcePath(account, page string) string {
	path := prefix + "/resources/" + url.PathEscape(account)
	if page != "" {
		path += "/" + page
	}
	return path
}

// resourceTab is a page of a resource.
type resourceTab struct {
	name string // the last segment of its path, and of its message; empty: the overview
	need need
	to   func(account string) string // the address of a page elsewhere; nil: the page lies below the resource's
}

// resourceTabs are the pages of a resource, in their order.
func (c *Console) resourceTabs() []resourceTab {
	return []resourceTab{
		{need: onAccount("read")},
		{name: "encryption", need: onAccount("read")},
		{name: "identity", need: onAccount("read")},
		{name: "access", need: roleScope{scope: (*visit).resourceScope}.need(readRoles)},
		{name: "people", need: onFaces()},
		{name: "tryit", need: onFaces()},
		{name: "metrics", need: onAccount("read")},
		{name: "audit", need: onAccount("auditEvents/read"), to: func(account string) string {
			return prefix + "/audit?" + query("resource", account)
		}},
	}
}

// resourcePage shows a page of a resource, beside the others that the person may see. name is that of a resourceTab;
// the template is its name too.
func (v *visit) resourcePage(template, name string, a account.Account, data any) *view {
	w := v.page(template, a.Name, data)
	w.crumbs = []link{{v.text("nav.home"), prefix}, {a.Name, resourcePath(a.Name, "")}}
	for _, t := range v.c.resourceTabs() {
		if allowed, err := t.need.may(v); err != nil || !allowed {
			continue
		}
		key := "resource.tab.overview"
		if t.name != "" {
			key = "resource.tab." + t.name
		}
		to := resourcePath(a.Name, t.name)
		if t.to != nil {
			to = t.to(a.Name)
		}
		w.tabs = append(w.tabs, tab{v.text(key), to, t.name == name})
		if t.name == name && name != "" {
			w.title = v.text("resource.title", v.text(key), a.Name)
		}
	}
	return w
}

// badge is a state in a word, with an icon: colour alone never says it.
type badge struct {
	Kind string // "ok", "warn", "bad", "info" or "off"
	Icon string
	Text string
}

// keyBadge says who holds the key of a resource, and whether its data can be used.
func (v *visit) keyBadge(s custody.Status) badge {
	kind, icon := "off", "shield"
	switch s.Condition {
	case custody.ServiceManaged:
	case custody.Active:
		kind, icon = "ok", "key"
	case custody.Degraded:
		kind, icon = "warn", "clock"
	default:
		kind, icon = "bad", "lock"
	}
	return badge{kind, icon, v.text("condition." + string(s.Condition))}
}
