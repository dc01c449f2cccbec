package console

import (
	"context"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
)

// Rehearsal is the report of a rehearsed revocation.
type Rehearsal struct {
	ToRefusal, ToOpen string // how long the data took to close, and to open again, as texts such as "120ms"
	Others            int    // resources under the service's key that remained available
	Checks            []RehearsalCheck
	Passed            bool
}

// RehearsalCheck is one thing that a revocation must do, or must leave alone.
type RehearsalCheck struct {
	Name string // as in server/drill
	Held bool
}

func (c *Console) rehearsalPage(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	e, err := c.cfg.Accounts.Encryption(v.Context(), a)
	if err != nil {
		return nil, err
	}
	d := confirmData{Consequences: []string{v.text("encryption.rehearse.copy"), v.text("encryption.rehearse.revoke"),
		v.text("encryption.rehearse.room"), v.text("encryption.rehearse.record")}}
	if e.Status.Condition == custody.ServiceManaged {
		d.Problem = v.text("encryption.rehearse.service")
	} else {
		d.Form = v.button(encryptionPath(a, "rehearsal"), v.text("encryption.rehearse"), "primary")
		d.Form.Icon, d.Form.Cancel = "play", encryptionPath(a, "")
	}
	return v.encryptionStep(a, "encryptionconfirm", v.text("encryption.rehearse"), d), nil
}

// rehearse rehearses a revocation as a job.
func (c *Console) rehearse(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	by, back := v.Caller(), link{v.text("resource.tab.encryption"), encryptionPath(a, "")}
	title := v.text("encryption.rehearse.of", a.Name)
	return v.start(title, back, c.cfg.Operates, func(ctx context.Context, p progress) error {
		report, err := c.cfg.Rehearse(ctx, by, a.Name, func(step string) {
			p.step(v.text("encryption.rehearse.step." + step))
		})
		if err != nil {
			return err
		}
		for _, check := range report.Checks {
			p.line(check.Held, v.rehearsed(report, check.Name))
		}
		if !report.Passed {
			return visage.Refuse(visage.Conflict, "RehearsalFailed",
				"The revocation did not do everything that it must: check the lines of this report and the service's "+
					"log.")
		}
		p.line(true, v.text("encryption.rehearse.times", report.ToRefusal, report.ToOpen))
		p.result(back)
		return nil
	})
}

// rehearsed says what a check of a rehearsal looked at, and found.
func (v *visit) rehearsed(report Rehearsal, name string) string {
	switch key := "encryption.rehearse.check." + name; name {
	case "refused":
		return v.text(key, report.ToRefusal)
	case "opened":
		return v.text(key, report.ToOpen)
	case "others":
		return v.text(key, report.Others)
	default:
		return v.text(key)
	}
}
