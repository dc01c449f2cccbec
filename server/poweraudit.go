package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/identity"
)

// identityAudit writes what changes of who there is and who may do what.
type identityAudit struct {
	log      *audit.Log
	runs     *audit.Runs
	operator string // object id
}

// changes says what each operation on identities is called in the audit log.
var changes = map[identity.Operation]struct {
	kind      audit.Kind
	operation string
}{
	identity.PrincipalMade:   {audit.IdentityCreate, "principal"},
	identity.PrincipalEnded:  {audit.IdentityDelete, "principal"},
	identity.SecretMade:      {audit.IdentityCreate, "secret"},
	identity.SecretEnded:     {audit.IdentityDelete, "secret"},
	identity.SubjectsChanged: {audit.IdentityCreate, "federated-subjects"},
	identity.RoleGiven:       {audit.IdentityRole, "assign"},
	identity.RoleTaken:       {audit.IdentityRole, "unassign"},
	identity.RoleEnded:       {audit.IdentityRole, "end"},
	identity.SigningKeyMade:  {audit.IdentityRotate, "signing-key"},
}

// Record implements identity.Auditor.
func (a identityAudit) Record(ctx context.Context, e identity.Event, outcome error) error {
	what := changes[e.Operation]
	event := audit.Event{
		Time: time.Unix(0, e.Time), Kind: what.kind, Actor: actor(e.By, e.RequestID), RequestID: e.RequestID,
		Details: map[audit.Detail]string{
			audit.DetailOperation: what.operation, audit.DetailChange: e.Change,
		},
	}
	event.Outcome, event.Code = outcomeOf(outcome)
	note(event.Details, map[audit.Detail]string{
		audit.DetailSubject: e.Subject, audit.DetailSecret: e.Secret, audit.DetailAssignment: e.Assignment,
		audit.DetailRole:  e.Role,
		audit.DetailScope: e.Scope,
	})
	beforeAndAfter(event.Details, e.Before, e.After)
	if strings.Contains(e.Scope, "/providers/microsoft.cognitiveservices/accounts/") {
		if id, err := visage.ParseResourceID(e.Instance); err == nil {
			event.Resource = id // its owner sees it in the log of the resource
		}
	}
	return a.log.Append(ctx, event)
}

// Granted implements identity.Auditor.
func (a identityAudit) Granted(ctx context.Context, t identity.Attempt, outcome error) error {
	event := audit.Event{
		Kind: audit.IdentityToken, Actor: audit.Actor{Kind: audit.Anonymous},
		RequestID: visage.CallerFrom(ctx).RequestID,
		Details:   map[audit.Detail]string{audit.DetailOperation: t.Proof},
	}
	event.Outcome, event.Code = outcomeOf(outcome)
	switch {
	case event.Outcome != audit.Done:
	case t.Subject == a.operator:
		event.Actor = audit.Actor{Kind: audit.OperatorActor}
	default:
		event.Actor = audit.Actor{Kind: audit.Identity, ID: t.Subject}
	}
	if refusal, ok := errors.AsType[*visage.Refusal](outcome); ok && refusal.InnerCode != "" {
		event.Details[audit.DetailReason] = "AADSTS" + refusal.InnerCode
	}
	note(
		event.Details, map[audit.Detail]string{audit.DetailSubject: t.Subject,
			audit.DetailAddress: addressText(visage.CallerFrom(ctx).Address)},
	)
	// else it is what a stranger wrote, and may be anything, a secret in the wrong field too
	if event.Outcome == audit.Done {
		event.Details[audit.DetailAudience] = t.Audience
	} else if client := visage.FoldUUID(t.ClientID); t.Subject == "" && visage.IsUUID(client) {
		event.Details[audit.DetailClient] = client
	}
	return a.runs.Note(ctx, event)
}

// addressText names where a request came from: of IPv6 the part that a network has, since everybody has many of the
// rest.
func addressText(from netip.Addr) string {
	switch {
	case !from.IsValid():
		return ""
	case from.Is6() && !from.Is4In6():
		if network, err := from.WithZone("").Prefix(64); err == nil {
			return network.String()
		}
	}
	return from.Unmap().String()
}

// refusals tells of callers that were not let in.
type refusals struct {
	accounts *account.Accounts
	runs     *audit.Runs
	log      *slog.Logger
}

// refused implements api.Config.Refused. The vaults tell themselves of who was proved and may not; that somebody who
// was proved asks too often is no news.
func (f refusals) refused(plane string, r *api.Request, p *api.Problem) {
	proved := r.Principal != (visage.Principal{})
	code := p.Code
	switch {
	case plane == "vault" && r.Bearer() == "":
		return // clients of vaults ask first without a token, to learn where to get one
	case p.Status == http.StatusForbidden && plane != "management", p.Status == http.StatusTooManyRequests && proved:
		return
	case p.Status == http.StatusTooManyRequests:
		code = "TooManyRequests"
	}
	event := audit.Event{
		Kind: audit.AccessRefuse, Outcome: audit.Refused, Code: code, Actor: audit.ActorOf(r.Principal),
		RequestID: r.ID,
		Details:   map[audit.Detail]string{audit.DetailPlane: plane, audit.DetailOperation: r.Route().Label()},
	}
	note(event.Details, map[audit.Detail]string{audit.DetailAddress: addressText(r.ClientAddress())})
	if proved && plane == "management" {
		event.Details[audit.DetailScope] = r.Where()
		if strings.Contains(r.Route().Pattern, "/{account}") {
			if a, found := f.accounts.Find(r.Path("account")); found {
				event.Resource = a.ID
			}
		}
	}
	if err := f.runs.Note(context.WithoutCancel(r.Context()), event); err != nil {
		f.log.Error("refusal not audited", "request_id", r.ID, "err", err)
	}
}

// actor is who asks, or the instance by itself.
func actor(by visage.Principal, request string) audit.Actor {
	if by == (visage.Principal{}) && request == "" {
		return audit.Actor{Kind: audit.Service}
	}
	return audit.ActorOf(by)
}

// outcomeOf says what became of something that ended with an error or none.
func outcomeOf(err error) (outcome audit.Outcome, code string) {
	if err == nil {
		return audit.Done, ""
	}
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok {
		return audit.Refused, refusal.Code
	}
	return audit.Failed, ""
}

// note adds the details that are there.
func note(details, more map[audit.Detail]string) {
	for k, v := range more {
		if v != "" {
			details[k] = v
		}
	}
}

// beforeAndAfter adds what was true and what is, where one of them is there.
func beforeAndAfter(details map[audit.Detail]string, before, after string) {
	if before == "" && after == "" {
		return
	}
	none := func(s string) string {
		if s == "" {
			return "none"
		}
		return s
	}
	details[audit.DetailBefore], details[audit.DetailAfter] = none(before), none(after)
}
