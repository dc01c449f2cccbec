package console

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/visage-face/visage/account"
)

// expiringKey is a resource whose customer-managed key expires soon or has expired.
type expiringKey struct {
	resource, page string // its name, and the address of the page about its key
	ends           time.Time
}

// keysExpiring returns those of the resources whose key the person controls, the first to expire first; for operators,
// of all resources.
func (c *Console) keysExpiring(v *visit) (some []expiringKey, err error) {
	ending := c.cfg.KeysExpiring()
	if len(ending) == 0 {
		return nil, nil
	}
	all, err := c.cfg.Accounts.List(v.Context())
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		ends, found := ending[a.ID]
		if found && (v.operates() || v.may(writeAccount, c.cfg.AccountPath(a))) {
			some = append(some, expiringKey{a.Name, encryptionPath(a, ""), ends})
		}
	}
	slices.SortFunc(some, func(a, b expiringKey) int {
		return cmp.Or(a.ends.Compare(b.ends), strings.Compare(a.resource, b.resource))
	})
	return some, nil
}

// mostKeyAlerts is how many keys that expire are told one by one.
const mostKeyAlerts = 5

// keyExpiryAlerts asks for keys that expire to be replaced, or given a later date.
func (v *visit) keyExpiryAlerts(keys []expiringKey) (all []task) {
	for i, k := range keys {
		if i == mostKeyAlerts {
			return append(all, task{"warn", v.text("operations.alert.keys", len(keys)-i), ""})
		}
		left := time.Until(k.ends)
		if left <= 0 {
			text := v.text("operations.alert.key.expired", k.resource, v.lang.day(k.ends))
			all = append(all, task{"bad", text, k.page})
			continue
		}
		all = append(all, task{"warn", v.text("operations.alert.key", int(left/(24*time.Hour)), k.resource), k.page})
	}
	return all
}

// endOrders are the columns of the table of certificates and keys.
var endOrders = []order[endRow]{
	{"name", "operations.ends.name", byText(func(e endRow) string { return e.Name }), false},
	{"what", "operations.ends.what", byText(func(e endRow) string { return e.What }), false},
	{"ends", "operations.ends.on", byTime(func(e endRow) time.Time { return e.Ends }), false},
	{"state", "operations.state", nil, false}, // it follows from the date
}

// endRow is a row of the table of certificates and keys.
func (v *visit) endRow(what, name, to string, ends time.Time) endRow {
	row := endRow{what, name, to, ends, badge{"ok", "ok", v.text("operations.ends.ok")}}
	switch left := time.Until(ends); {
	case left <= 0:
		row.Badge = badge{"bad", "bad", v.text("operations.ends.over")}
	case left < endsSoon:
		row.Badge = badge{"warn", "warn", v.text("operations.ends.soon")}
	}
	return row
}

// keyEnds says in how many days a customer's key expires; nil: it has no expiry date.
func (v *visit) keyEnds(ends time.Time) *badge {
	left := time.Until(ends)
	days := int(left / (24 * time.Hour))
	switch {
	case ends.IsZero():
		return nil
	case left <= 0:
		return &badge{"bad", "bad", v.text("operations.ends.over")}
	case left < endsSoon:
		return &badge{"warn", "warn", v.text("key.ends.days", days)}
	}
	return &badge{"ok", "clock", v.text("key.ends.days", days)}
}

// keyEndsOf returns when the first of the customer's keys of a resource expires; zero: none does.
func (c *Console) keyEndsOf(v *visit, a account.Account) (ends time.Time, err error) {
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return ends, err
	}
	for _, store := range e.Status.Stores {
		if !store.KeyExpires.IsZero() && (ends.IsZero() || store.KeyExpires.Before(ends)) {
			ends = store.KeyExpires
		}
	}
	return ends, nil
}
