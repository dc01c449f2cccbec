package server

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
)

// auditEvents tells owners of resources what happened to them.
type auditEvents struct{ history *audit.History }

// Events implements armapi.AuditEvents.
func (a auditEvents) Events(
	ctx context.Context, resource visage.ResourceID, kind string, since time.Time, most int,
) ([]json.RawMessage, error) {
	wanted, known := audit.ParseKind(kind)
	if kind != "" && !known {
		return nil, visage.Refuse(visage.Invalid, "InvalidQueryParameter", "The kind of audit event %q is "+
			"unknown.", kind)
	}
	found := []json.RawMessage{}
	q := audit.Query{Resource: resource, From: since, Limit: most}
	if kind != "" {
		q.Kinds = []audit.Kind{wanted}
	}
	for e, err := range a.history.Entries(ctx, q) {
		if err != nil {
			return nil, err
		}
		b, err := e.MarshalJSON()
		if err != nil {
			return nil, err
		}
		found = append(found, b)
	}
	return found, nil
}

// Proof implements armapi.AuditEvents.
func (a auditEvents) Proof(ctx context.Context, resource visage.ResourceID, sequence uint64) (json.RawMessage, error) {
	missing := visage.Refuse(visage.NotFound, "AuditEventNotFound", "The audit log has no event %d of this "+
		"resource.", sequence)
	p, err := a.history.Prove(ctx, sequence)
	var broken *audit.BrokenError
	switch {
	case errors.Is(err, audit.ErrUnsigned):
		refusal := visage.Refuse(visage.Unavailable, "AuditEventNotSigned", "The event is not covered by a "+
			"signed checkpoint yet. Try again later.")
		refusal.RetryAfter = time.Second
		return nil, refusal
	case errors.Is(err, audit.ErrCatchingUp):
		refusal := visage.Refuse(visage.Unavailable, "AuditEventNotSigned", "The Merkle tree of the audit log is "+
			"still being built after an upgrade. Try again later.")
		refusal.RetryAfter = 10 * time.Second
		return nil, refusal
	case errors.As(err, &broken) && broken.Sequence == sequence && sequence != 0:
		return nil, missing
	case err != nil:
		return nil, err
	case p.Entry.Resource != resource:
		return nil, missing
	}
	return json.Marshal(p)
}
