package console

import (
	"regexp"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keyvault"
)

// rotationData is the page with the rotation policy of a key.
type rotationData struct {
	Facts []fact
	Form  *form // nil: the person may not change the policy
}

// The kinds of triggers, as forms name them.
const (
	triggerNever  = "never"
	triggerAfter  = "after"
	triggerBefore = "before"
)

// periodPart is a period that a form can show as a number and a unit.
var periodPart = regexp.MustCompile(`^P(\d{1,5})([DWMY])$`)

// isoUnit is the unit of a period that is written as ISO 8601 has it.
const isoUnit = "iso"

// splitPeriod returns a period as a number and a unit; longer ones as they are, with isoUnit.
func splitPeriod(p keyvault.Period) (number, unit string) {
	if m := periodPart.FindStringSubmatch(string(p)); m != nil {
		return m[1], m[2]
	}
	if p == "" {
		return "", "D"
	}
	return string(p), isoUnit
}

// periodFields are a number and its unit.
func (v *visit) periodFields(name, label, hint string, p keyvault.Period) []*field {
	number, unit := splitPeriod(p)
	return []*field{
		{Name: name, Kind: "text", Label: label, Hint: hint, Value: number, Max: 16},
		{Name: name + "-unit", Kind: "select", Label: v.text("vaultkey.policy.unit"), Value: unit, Required: true,
			Options: []option{
				{Value: "D", Text: v.text("vaultkey.policy.days")}, {Value: "W", Text: v.text("vaultkey.policy.weeks")},
				{Value: "M", Text: v.text("vaultkey.policy.months")},
				{Value: "Y", Text: v.text("vaultkey.policy.years")},
				{Value: isoUnit, Text: v.text("vaultkey.policy.iso")},
			}},
	}
}

// typedPeriod reads a number and its unit; an empty number is no period.
func (v *visit) typedPeriod(name string) (keyvault.Period, error) {
	number, unit := strings.TrimSpace(v.field(name)), v.field(name+"-unit")
	if number == "" {
		return "", nil
	}
	text := "P" + number + unit
	if unit == isoUnit {
		text = number
	}
	return keyvault.ParsePeriod(text)
}

// rotationTrigger names when something of a policy happens.
type rotationTrigger struct {
	name string // "rotate" or "notify"
	at   *keyvault.Trigger
}

func triggersOf(p *keyvault.RotationPolicy) []rotationTrigger {
	return []rotationTrigger{{"rotate", &p.Rotate}, {"notify", &p.Notify}}
}

func (v *visit) rotationForm(ref keyvault.Ref, p keyvault.RotationPolicy) *form {
	fields := v.periodFields("expiry", v.text("vaultkey.policy.expiry"), v.text("vaultkey.policy.expiry.hint"),
		p.Expiry)
	for _, t := range triggersOf(&p) {
		when, period := triggerNever, keyvault.Period("")
		switch {
		case t.at.AfterCreate != "":
			when, period = triggerAfter, t.at.AfterCreate
		case t.at.BeforeExpiry != "":
			when, period = triggerBefore, t.at.BeforeExpiry
		}
		fields = append(fields, &field{
			Name: t.name, Kind: "radio", Label: v.text("vaultkey.policy." + t.name), Value: when, Required: true,
			Options: []option{
				{Value: triggerNever, Text: v.text("vaultkey.policy.never")},
				{Value: triggerAfter, Text: v.text("vaultkey.policy.after")},
				{Value: triggerBefore, Text: v.text("vaultkey.policy.before")},
			},
		})
		fields = append(fields, v.periodFields(t.name+"-time", v.text("vaultkey.policy.time"),
			v.text("vaultkey.policy.time.hint"), period)...)
	}
	return v.form(vaultKeyPath(ref, "rotationpolicy"), v.text("vaultkey.policy.save"), fields...)
}

// typedPolicy reads the policy of a form.
func (v *visit) typedPolicy() (p keyvault.RotationPolicy, err error) {
	if p.Expiry, err = v.typedPeriod("expiry"); err != nil {
		return p, err
	}
	for _, t := range triggersOf(&p) {
		period, err := v.typedPeriod(t.name + "-time")
		if err != nil {
			return p, err
		}
		when := v.field(t.name)
		if period == "" && when != triggerNever {
			return p, visage.Refuse(visage.Invalid, "PeriodRequired", "A rotation or a notice needs a time: write how "+
				"long after the creation or before the expiration it happens, or choose never.")
		}
		switch when {
		case triggerAfter:
			t.at.AfterCreate = period
		case triggerBefore:
			t.at.BeforeExpiry = period
		}
	}
	return p, nil
}

// periodText writes a period for people.
func (v *visit) periodText(p keyvault.Period) string {
	number, unit := splitPeriod(p)
	texts := map[string]string{"D": "vaultkey.policy.days", "W": "vaultkey.policy.weeks", "M": "vaultkey.policy.months",
		"Y": "vaultkey.policy.years"}
	if unit == isoUnit {
		return number
	}
	return number + "\u00a0" + v.text(texts[unit])
}

func (v *visit) triggerText(t keyvault.Trigger) string {
	switch {
	case t.AfterCreate != "":
		return v.text("vaultkey.policy.after.text", v.periodText(t.AfterCreate))
	case t.BeforeExpiry != "":
		return v.text("vaultkey.policy.before.text", v.periodText(t.BeforeExpiry))
	}
	return v.text("vaultkey.policy.never")
}

func (c *Console) rotationPage(v *visit) (*view, *rotationData, error) {
	ref := v.pathRef()
	vault, err := c.cfg.Vaults.Vault(v.Context(), ref.Vault)
	if err != nil {
		return nil, nil, err
	}
	p, err := c.cfg.Vaults.RotationPolicy(v.Context(), v.Caller(), ref)
	if err != nil {
		return nil, nil, err
	}
	expiry := v.text("vaultkey.policy.never")
	if p.Expiry != "" {
		expiry = v.periodText(p.Expiry)
	}
	data := &rotationData{Facts: []fact{
		{v.text("vaultkey.policy.expiry"), expiry, false},
		{v.text("vaultkey.policy.rotate"), v.triggerText(p.Rotate), false},
		{v.text("vaultkey.policy.notify"), v.triggerText(p.Notify), false},
	}}
	allowed, err := v.permitted(vault.Name, keyvault.MaySetRotationPolicy)
	if err != nil {
		return nil, nil, err
	}
	if allowed {
		data.Form = v.rotationForm(ref, p)
		data.Form.Cancel = vaultKeyPath(ref, "")
	}
	w := v.vaultPage("vaultkeypolicy", "keys", vault, data)
	w.crumbs = append(w.crumbs, link{v.text("vault.tab.keys"), vaultPagePath(vault.Name, "keys")},
		link{ref.Name, vaultKeyPath(ref, "")})
	w.title = v.text("vaultkey.policy.title", ref.Name)
	return w, data, nil
}

func (c *Console) rotationPolicy(v *visit) (*view, error) {
	w, _, err := c.rotationPage(v)
	return w, err
}

func (c *Console) setRotationPolicy(v *visit) (*view, error) {
	p, refused := v.typedPolicy()
	if refused == nil {
		_, refused = c.cfg.Vaults.SetRotationPolicy(v.Context(), v.Caller(), v.pathRef(), p)
	}
	if refused == nil {
		return v.done(vaultKeyPath(v.pathRef(), ""), "vaultkey.policy.saved"), nil
	}
	w, data, err := c.rotationPage(v)
	if err != nil || data.Form == nil {
		return nil, refused
	}
	if !v.refused(data.Form, refused, nil) {
		return nil, refused
	}
	return v.again(w, data.Form.Error), nil
}
