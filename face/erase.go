package face

import (
	"context"
	"errors"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// erasedTogether is how many persons or faces are erased in one transaction: each costs a few rows, and other writers
// wait meanwhile.
const erasedTogether = 100

// erase is update, for what deletes: it returns when the keys of what was deleted are destroyed. When they cannot be
// for the moment the records are deleted all the same, and the store goes on trying.
func (s *Service) erase(ctx context.Context, res visage.Resource, fn func(sealed.Tx) error) (sealed.Receipt, error) {
	receipt, err := s.space(res).Erase(ctx, fn)
	if late, ok := errors.AsType[*sealed.EraseError](err); ok {
		s.log.WarnContext(ctx, "deleted, and not yet erased from older copies", "resource", res.ID.String(), "err",
			late)
		return sealed.Receipt{Space: sealed.SpaceID(res.ID)}, nil
	}
	return receipt, outcome(err)
}

// erased records an erasure. The event names what was erased with its details: the ids of a person or a face.
func (s *Service) erased(
	ctx context.Context, res visage.Resource, kind audit.Kind, ref Ref, receipt sealed.Receipt,
	details map[audit.Detail]string,
) {
	e := event(kind, visage.CallerFrom(ctx), res, ref)
	for d, value := range details {
		e.Set(d, value)
	}
	setReceipt(&e, receipt)
	s.record(ctx, e)
}

// record appends an event of something that is done and cannot be undone, even if its caller has left. A failure is
// logged for the operator.
func (s *Service) record(ctx context.Context, e audit.Event) {
	if err := audit.Answer(ctx, s.audit, nil, e); err != nil {
		s.log.ErrorContext(ctx, "event not recorded in the audit log", "resource", e.Resource.String(), "kind",
			string(e.Kind), "err", err)
	}
}
