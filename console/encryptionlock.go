package console

import (
	"strconv"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/custody"
)

// confirmData is a page that asks before something far-reaching is done, with what will happen.
type confirmData struct {
	Consequences []string
	Problem      string // why it cannot be done now; empty: it can
	Form         *form  // nil: it cannot be done
}

func (c *Console) lockPage(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	d := confirmData{
		Consequences: []string{v.text("encryption.lock.data"), v.text("encryption.lock.stays"),
			v.text("encryption.lock.nothing")},
		Form: v.button(encryptionPath(a, "lock"), v.text("encryption.lock.submit"), "danger"),
	}
	d.Form.Icon, d.Form.Cancel = "lock", encryptionPath(a, "")
	return v.encryptionStep(a, "encryptionconfirm", v.text("encryption.lock"), d), nil
}

func (c *Console) lock(v *visit) (*view, error) {
	name := v.Path("account")
	if err := c.cfg.Accounts.Lock(v.Context(), v.Caller(), name); err != nil {
		return c.keyCommandRefused(v, err)
	}
	return v.done(resourcePath(name, "encryption"), "encryption.lock.done"), nil
}

func (c *Console) unlock(v *visit) (*view, error) {
	name := v.Path("account")
	if err := c.cfg.Accounts.Unlock(v.Context(), v.Caller(), name); err != nil {
		return c.keyCommandRefused(v, err)
	}
	return v.done(resourcePath(name, "encryption"), "encryption.unlock.done"), nil
}

// keyCommandRefused shows the page of the key with the refusal of a command.
func (c *Console) keyCommandRefused(v *visit, err error) (*view, error) {
	said, ok := v.explain(err)
	if !ok {
		return nil, err
	}
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	return c.conflictPage(v, a, said)
}

// keyPolicyData is the page with the form of a resource's key policy.
type keyPolicyData struct {
	Form    *form
	Warning *protected // the resource, if the policy would lock it; nil: it would not, or that was not asked
}

func (c *Console) keyPolicyPage(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return nil, err
	}
	return v.keyPolicyPage(a, v.keyPolicyForm(a, e.Status.Policy), nil), nil
}

func (v *visit) keyPolicyPage(a account.Account, f *form, warning *protected) *view {
	return v.encryptionStep(a, "encryptionpolicy", v.text("encryption.policy"), keyPolicyData{f, warning})
}

func (v *visit) keyPolicyForm(a account.Account, p account.Policy) *form {
	f := v.form(encryptionPath(a, "policy"), v.text("encryption.policy.save"),
		&field{Name: "grace", Kind: "number", Label: v.text("encryption.policy.minutes"), Required: true,
			Value: strconv.FormatInt(int64(p.Grace/time.Minute), 10),
			Hint: v.text("encryption.policy.grace.hint", int(custody.MinGrace/time.Minute),
				int(custody.MaxGrace/time.Minute))},
		&field{Name: "expiry", Kind: "checkbox", Label: v.text("encryption.policy.expiry"), Checked: p.LockOnExpiry,
			Hint: v.text("encryption.policy.expiry.hint")},
		&field{Name: "manual", Kind: "checkbox", Label: v.text("encryption.policy.manual"), Checked: p.ManualRestore,
			Hint: v.text("encryption.policy.manual.hint")},
		// the policy is no part of the account's revision: its own former state stands for it
		&field{Name: "before", Kind: "hidden", Value: policyText(p)})
	f.Cancel = encryptionPath(a, "")
	return f
}

func policyText(p account.Policy) string {
	return p.Grace.String() + " " + strconv.FormatBool(p.LockOnExpiry) + " " + strconv.FormatBool(p.ManualRestore)
}

func (c *Console) setKeyPolicy(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return nil, err
	}
	var locks *protected
	minutes, err := strconv.Atoi(v.field("grace"))
	switch {
	case err != nil || minutes < 1 || minutes > int(custody.MaxGrace/time.Minute):
		err = visage.Refuse(visage.Invalid, "InvalidEncryptionPolicy",
			"The grace must be %d to %d minutes.", custody.MinGrace/time.Minute, custody.MaxGrace/time.Minute)
	case v.field("before") != policyText(e.Status.Policy):
		err = visage.Refuse(visage.Conflict, "ChangedMeanwhile",
			"Somebody changed the policy after you opened the page: check what it is now, and send the form again.")
	default:
		want := account.Policy{Grace: time.Duration(minutes) * time.Minute, LockOnExpiry: v.checked("expiry"),
			ManualRestore: v.checked("manual")}
		if policyMayLock(e.Status, want) {
			locks = &protected{Resources: []protectedResource{
				v.protectedResource(account.ProtectedResource{Resource: a.Resource, Condition: e.Status.Condition}),
			}}
		}
		if err = v.confirmLock(locks); err == nil {
			err = c.cfg.Accounts.SetPolicy(v.Context(), v.Caller(), a.Name, want)
		}
	}
	if err != nil {
		f := v.keyPolicyForm(a, e.Status.Policy)
		v.mayConfirm(f, locks)
		if !v.refused(f, err, map[string]string{"InvalidEncryptionPolicy": "grace"}) {
			return nil, err
		}
		return v.again(v.keyPolicyPage(a, f, locks), f.Error), nil
	}
	return v.done(encryptionPath(a, ""), "encryption.policy.saved"), nil
}

// policyMayLock reports whether another policy locks open data at the next check of the key, or may do so: the key has
// ended, or does not answer, so that nobody knows.
func policyMayLock(now custody.Status, want account.Policy) bool {
	if now.Condition != custody.Active && now.Condition != custody.Degraded {
		return false
	}
	ended := !now.KeyExpires.IsZero() && !now.KeyExpires.After(time.Now())
	silent := now.Condition == custody.Degraded && now.Cause != "expired"
	return want.LockOnExpiry && !now.Policy.LockOnExpiry && (ended || now.Condition == custody.Degraded) ||
		want.Grace < now.Policy.Grace && (silent || time.Since(now.LastSuccess) >= want.Grace)
}

// returnToServicePage asks before a resource returns to the service's key.
func (c *Console) returnToServicePage(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	return c.returnPage(v, a)
}

func (c *Console) returnPage(v *visit, a account.Account) (*view, error) {
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return nil, err
	}
	d := &confirmData{Consequences: []string{v.text("encryption.return.key"), v.text("encryption.return.revoke"),
		v.text("encryption.return.data"), v.text("encryption.return.identity")}}
	switch e.Status.Condition {
	case custody.ServiceManaged:
		d.Problem = v.text("encryption.service.already")
	case custody.Revoked, custody.Locked, custody.Unavailable:
		d.Problem = v.text("encryption.return.closed")
	default:
		d.Form = v.button(encryptionPath(a, "service"), v.text("encryption.return.submit"), "danger")
		d.Form.Fields = append(d.Form.Fields, revision(a))
		d.Form.Cancel = encryptionPath(a, "")
	}
	return v.encryptionStep(a, "encryptionconfirm", v.text("encryption.return"), d), nil
}

func (c *Console) returnToService(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Update(v.Context(), v.Caller(), v.Path("account"),
		func(now account.Account) (account.Change, error) {
			return account.Change{Protection: &account.Protection{}}, v.unchanged(now)
		})
	if err == nil {
		return v.done(encryptionPath(a, ""), "encryption.return.done"), nil
	}
	said, ok := v.explain(err)
	if !ok {
		return nil, err
	}
	if a, err = c.cfg.Accounts.Get(v.Context(), v.Path("account")); err != nil {
		return nil, err
	}
	w, err := c.returnPage(v, a)
	if err != nil {
		return nil, err
	}
	if d, ok := w.data.(*confirmData); ok && d.Form != nil {
		d.Form.Error = said
	} else if ok {
		d.Problem = said.Sentence
	}
	return v.again(w, said), nil
}
