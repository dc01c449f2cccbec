package server

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/audit"
)

// refusals records requests whose caller was refused.
type refusals struct {
	accounts *account.Accounts
	audit    audit.Recorder
	log      *slog.Logger
}

// refused implements api.Config.Refused. Anybody can cause refusals without end, so they are counted (see
// audit.Recorder). Vaults record by themselves which authenticated callers they refuse; that an authenticated caller
// sends too many requests is not a security event. Of the console, a refused form may be the attempt of another site.
func (f refusals) refused(plane string, r *api.Request, p *api.Problem) {
	proved := r.Principal != (visage.Principal{})
	code := p.Code
	switch {
	case r.Recorded:
		return
	case plane == "vault" && r.Bearer() == "":
		return // clients of vaults send a first request without a token, to learn where to get one
	case p.Status == http.StatusForbidden && plane != "management" && plane != "console",
		p.Status == http.StatusTooManyRequests && proved:
		return
	case p.Status == http.StatusTooManyRequests:
		code = "TooManyRequests"
	}
	e := audit.Event{
		Kind: audit.AccessRefuse, Outcome: audit.Refused, Code: code, Actor: audit.ActorOf(r.Caller()), RequestID: r.ID,
	}
	e.Set(audit.DetailPlane, plane)
	e.Set(audit.DetailOperation, r.Route().Label())
	e.SetAddress(r.ClientAddress())
	if proved && (plane == "management" || plane == "console") {
		if plane == "management" {
			e.Set(audit.DetailScope, r.Where())
		}
		if strings.Contains(r.Route().Pattern, "/{account}") {
			if a, found := f.accounts.Find(r.Path("account")); found {
				e.Resource = a.ID
			}
		}
	}
	if err := f.audit.Tally(context.WithoutCancel(r.Context()), e); err != nil {
		f.log.Error("refusal not recorded in the audit log", "request_id", r.ID, "err", err)
	}
}
