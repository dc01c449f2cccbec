package armapi

import (
	"context"
	"net/http"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// Remedies says how people mend what a key lacks: commands, one a line, for the customer or the operator; nil: the
// sentence of the refusal says it.
type Remedies func(ctx context.Context, of account.Account, key visage.KeyRef, unmet account.Precondition) []string

func (p *plane) checkRoutes(route routeMaker) []api.Route {
	return []api.Route{
		route(http.MethodPost, one+"/encryption:check", p.checkEncryption,
			api.Doc{Summary: "Say what is missing before a key can encrypt an account's data; nothing changes",
				Body: armwire.EncryptionRequest{}, Answer: armwire.EncryptionCheck{}}),
	}
}

func (p *plane) checkEncryption(r *api.Request) (any, error) {
	var want armwire.EncryptionRequest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	protection, err := protectionOf(&want)
	if err != nil {
		return nil, err
	}
	of, err := p.Accounts.Get(r.Context(), r.Path("account"))
	if err != nil {
		return nil, err
	}
	found, err := p.Accounts.CheckProtection(r.Context(), r.Caller(), of.Name, *protection)
	if err != nil {
		return nil, err
	}
	answer := armwire.EncryptionCheck{InUse: found.InUse, Ready: true, PrincipalID: of.Identity.System.PrincipalID}
	if found.Key != (visage.KeyRef{}) {
		answer.Key = found.Key.String()
	}
	if told := found.Answer; told != nil {
		answer.Answer = &armwire.EncryptionAnswer{
			Class: told.Class, Milliseconds: float64(told.Took.Microseconds()) / 1000,
			KeyVersion: told.Key.Ref.Version, KeyType: told.Key.KeyType, Expires: stampOf(told.Key.Expires),
		}
	}
	for _, f := range found.Findings {
		if f.State == account.NotKnown && found.Elsewhere && (f.Precondition == account.SameRegion ||
			f.Precondition == account.SameTenant) {
			continue // a store elsewhere has neither
		}
		point := armwire.EncryptionPoint{Requirement: string(f.Precondition), State: string(f.State)}
		if f.Refusal != nil {
			point.Code, point.Message = f.Refusal.Code, f.Refusal.Message
			point.Remedy = p.Remedies(r.Context(), of, found.Key, f.Precondition)
		}
		answer.Ready = answer.Ready && (f.State == account.Met || f.State == account.WillBeMet)
		answer.Checks = append(answer.Checks, point)
	}
	return answer, nil
}
