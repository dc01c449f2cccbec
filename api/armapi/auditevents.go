package armapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
)

// AuditEvents reads the audit log of a resource for its owner, also while its key is revoked.
type AuditEvents interface {
	// Events returns the newest entries of a resource, newest first and limited in number, each in its exported form.
	// An empty kind means all kinds, a zero time the beginning.
	Events(ctx context.Context, resource visage.ResourceID, kind string, since time.Time, most int) ([]json.RawMessage,
		error)
	// Proof returns an inclusion proof of an entry of a resource. Refusals: NotFound; Unavailable when no checkpoint
	// covers the entry yet.
	Proof(ctx context.Context, resource visage.ResourceID, sequence uint64) (json.RawMessage, error)
}

// auditRoutes are extensions: Azure has such a log in another service.
func (p *plane) auditRoutes(route routeMaker) []api.Route {
	return []api.Route{
		route(http.MethodGet, one+"/auditEvents", p.auditEvents,
			api.Doc{Summary: "List what happened to an account, newest first", Answer: auditList{},
				Query: []api.Param{
					{Name: "kind", Text: "only entries of this kind", Value: ""},
					{Name: "since", Text: "only entries from this time on", Value: ""},
					{Name: "top", Text: "at most so many, 1 to 1000; default 100", Value: 0},
				}}),
		route(http.MethodGet, one+"/auditEvents/{sequence}/proof", p.auditProof,
			api.Doc{Summary: "Prove to others that an entry is in the log", Answer: json.RawMessage{}}),
	}
}

type auditList struct {
	Value []json.RawMessage `json:"value"`
}

func (p *plane) auditEvents(r *api.Request) (any, error) {
	a, err := p.Accounts.Get(r.Context(), r.Path("account"))
	if err != nil {
		return nil, err
	}
	wrong := func(what string) error {
		return visage.Refuse(visage.Invalid, "InvalidQueryParameter", "The query parameter %s", what)
	}
	kind, _, err := r.Query("kind")
	if err != nil {
		return nil, err
	}
	var since time.Time
	if text, given, err := r.Query("since"); err != nil {
		return nil, err
	} else if given {
		if since, err = time.Parse(time.RFC3339, text); err != nil {
			return nil, wrong("since must be a time such as 2026-11-23T15:00:00Z.")
		}
	}
	most := 100
	if text, given, err := r.Query("top"); err != nil {
		return nil, err
	} else if given {
		if most, err = strconv.Atoi(text); err != nil || most < 1 || most > 1000 {
			return nil, wrong("top must be a number from 1 to 1000.")
		}
	}
	events, err := p.AuditEvents.Events(r.Context(), a.ID, kind, since, most)
	if err != nil {
		return nil, err
	}
	return auditList{events}, nil
}

func (p *plane) auditProof(r *api.Request) (any, error) {
	a, err := p.Accounts.Get(r.Context(), r.Path("account"))
	if err != nil {
		return nil, err
	}
	sequence, err := strconv.ParseUint(r.Path("sequence"), 10, 64)
	if err != nil {
		return nil, visage.Refuse(visage.NotFound, "AuditEventNotFound", "The id of an audit event must be a number.")
	}
	return p.AuditEvents.Proof(r.Context(), a.ID, sequence)
}
