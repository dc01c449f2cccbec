package console

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
)

func (c *Console) deletionRoutes() []route {
	return []route{
		page(oneResource+"/delete", freshly(onAccount("delete")), c.deletePage),
		send(oneResource+"/delete", freshly(onAccount("delete")), c.deleteResource),
		page(prefix+"/deleted", onSubscription(readDeleted), c.deletedResources),
		send(oneDeleted+"/recover", onDeleted, c.recoverResource),
		page(oneDeleted+"/purge", freshly(onSubscription(purgeDeleted)), c.purgePage),
		send(oneDeleted+"/purge", freshly(onSubscription(purgeDeleted)), c.purgeResource),
	}
}

// The actions on deleted resources, as the management plane names them.
const (
	readDeleted  = "Microsoft.CognitiveServices/deletedAccounts/read"
	purgeDeleted = "Microsoft.CognitiveServices/locations/resourceGroups/deletedAccounts/delete"
)

const oneDeleted = prefix + "/deleted/{account}"

// onDeleted needs a role that may make the deleted resource that the path names: to recover it is to make it again.
var onDeleted = need{may: func(v *visit) (bool, error) {
	a, err := v.c.cfg.Accounts.GetDeleted(v.Context(), v.Path("account"))
	return v.may(writeAccount, v.c.pathOf(a, err == nil, v.Path("account"))), nil
}}

// deletedPath is the path of a form for a deleted resource.
func deletedPath(account, action string) string {
	return prefix + "/deleted/" + url.PathEscape(account) + "/" + action
}

// endData asks for a confirmation before a resource is deleted or purged.
type endData struct {
	Name     string
	Locked   bool // its data is under a customer's key
	Form     *form
	Tier     visage.Tier
	Location string
}

func (c *Console) deletePage(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	f := v.form(resourcePath(a.Name, "delete"), v.text("deleted.delete.submit"), revision(a))
	f.Style, f.Icon, f.Cancel = "danger", "trash", resourcePath(a.Name, "")
	return c.endPage(v, "delete", a, f)
}

// endPage shows what follows when a resource is deleted or purged, with a form that does it.
func (c *Console) endPage(v *visit, template string, a account.Account, f *form) (*view, error) {
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return nil, err
	}
	data := endData{a.Name, e.Status.Key != (visage.KeyRef{}), f, a.Tier, a.Location}
	w := v.page(template, v.text("deleted.delete.title", a.Name), data)
	w.crumbs = []link{{v.text("nav.home"), prefix}, {a.Name, resourcePath(a.Name, "")}}
	if template == "purge" {
		w.title = v.text("deleted.purge.title", a.Name)
		w.crumbs = []link{{v.text("nav.home"), prefix}, {v.text("deleted.title"), prefix + "/deleted"}}
	}
	return w, nil
}

func (c *Console) deleteResource(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err == nil {
		if err = v.unchanged(a); err == nil {
			err = c.cfg.Accounts.Delete(v.Context(), v.Caller(), a.Name)
		}
	}
	if err == nil {
		to := prefix
		if v.may(readDeleted, c.subscription()) {
			to = prefix + "/deleted"
		}
		return v.done(to, "deleted.delete.done", a.Name), nil
	}
	w, failed := c.deletePage(v)
	if failed != nil {
		return nil, failed
	}
	f := w.data.(endData).Form
	if !v.refused(f, err, nil) {
		return nil, err
	}
	return v.again(w, f.Error), nil
}

// deletedRow is a deleted resource in a table.
type deletedRow struct {
	account.Account
	Key     badge
	Recover *form  // nil: the person may not recover it
	Purge   string // the page that asks; empty: the person may not purge it
}

// deletedData is the page of deleted resources.
type deletedData struct {
	Resources []deletedRow
	Columns   []column
	Search    string
	More      string
}

// deletedOrders are the columns of the table of deleted resources.
func (v *visit) deletedOrders() []order[account.Account] {
	return []order[account.Account]{
		{"name", "home.name", byText(func(a account.Account) string { return a.Name }), false},
		{"key", "home.key", byText(v.keyText), false},
		{"tier", "home.tier", byText(func(a account.Account) string { return string(a.Tier) }), false},
		{"location", "home.location", byText(func(a account.Account) string { return a.Location }), false},
		{"deleted", "deleted.at", byTime(func(a account.Account) time.Time { return a.Deleted }), false},
		{"until", "deleted.until", byTime(func(a account.Account) time.Time { return a.PurgeAt }), false},
	}
}

// deletedResources lists the resources that can be recovered.
func (c *Console) deletedResources(v *visit) (*view, error) {
	all, err := c.cfg.Accounts.Deleted(v.Context())
	if err != nil {
		return nil, err
	}
	data := deletedData{Search: v.field("search")}
	search := strings.ToLower(data.Search)
	all = slices.DeleteFunc(all, func(a account.Account) bool {
		return !strings.Contains(strings.ToLower(a.Name), search)
	})
	t := tabled(v, prefix+"/deleted", all, "name", v.deletedOrders())
	data.Columns, data.More = t.Columns, t.More
	purge := v.may(purgeDeleted, c.subscription())
	for _, a := range t.Rows {
		e, err := c.cfg.Accounts.Encryption(v.Context(), a)
		if err != nil {
			return nil, err
		}
		row := deletedRow{Account: a, Key: v.keyBadge(e.Status)}
		if v.may(writeAccount, c.cfg.AccountPath(a)) {
			row.Recover = v.button(deletedPath(a.Name, "recover"), v.text("deleted.recover"), "plain")
			row.Recover.Icon = "undo"
		}
		if purge {
			row.Purge = deletedPath(a.Name, "purge")
		}
		data.Resources = append(data.Resources, row)
	}
	w := v.page("deleted", v.text("deleted.title"), data)
	w.crumbs = []link{{v.text("nav.home"), prefix}}
	return w, nil
}

func (c *Console) recoverResource(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Recover(v.Context(), v.Caller(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	return v.done(resourcePath(a.Name, ""), "deleted.recovered", a.Name), nil
}

func (c *Console) purgePage(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.GetDeleted(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	f := v.form(deletedPath(a.Name, "purge"), v.text("deleted.purge.submit"), &field{
		Name: "confirm", Kind: "text", Label: v.text("deleted.purge.confirm"), Required: true, Code: true, Max: 64,
		Hint: v.text("deleted.purge.confirm.hint", a.Name),
	})
	f.Style, f.Icon, f.Cancel = "danger", "erase", prefix+"/deleted"
	return c.endPage(v, "purge", a, f)
}

func (c *Console) purgeResource(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.GetDeleted(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	if v.field("confirm") != a.Name {
		err = visage.Refuse(visage.Invalid, "NameNotConfirmed",
			"Type the name of the resource, %s, to confirm that it is to be destroyed: it is not what you typed.",
			a.Name)
	} else if err = c.cfg.Accounts.Purge(v.Context(), v.Caller(), a.Name); err == nil {
		return v.done(prefix+"/deleted", "deleted.purged", a.Name), nil
	}
	w, failed := c.purgePage(v)
	if failed != nil {
		return nil, failed
	}
	f := w.data.(endData).Form
	if !v.refused(f, err, map[string]string{"NameNotConfirmed": "confirm"}) {
		return nil, err
	}
	return v.again(w, f.Error), nil
}
