package face

import (
	"context"
	"errors"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// decided writes down what was decided.
func (s *Service) decided(ctx context.Context, res visage.Resource, d Decision) {
	d.Resource, d.By = res.ID, visage.CallerFrom(ctx)
	if err := s.audit.Decided(context.WithoutCancel(ctx), d); err != nil {
		s.log.ErrorContext(ctx, "decision not audited", "resource", res.ID.String(), "what", string(d.What), "err", err)
	}
}

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

// told writes down what was erased, even when who asked has left.
func (s *Service) told(ctx context.Context, res visage.Resource, e Erasure) {
	e.Resource, e.By = res.ID, visage.CallerFrom(ctx)
	if err := s.audit.Erased(context.WithoutCancel(ctx), e); err != nil {
		s.log.ErrorContext(ctx, "erasure not audited", "resource", res.ID.String(), "what", string(e.What), "err", err)
	}
}
