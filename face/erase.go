package face

import (
	"context"
	"errors"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Erasure is something that was deleted, with what became of its keys.
type Erasure struct {
	What     Erased
	Resource visage.ResourceID
	By       visage.Caller // zero: the service itself, because a time was up
	Ref      Ref           // the group or list
	Person   string        // id; empty where it is about no person
	Face     string        // persisted face id; empty where it is about no single face
	// Receipt names the epoch whose key was destroyed. Its epoch is zero when the key lives on for the moment: the
	// store goes on trying, and the next erasure has it.
	Receipt sealed.Receipt
}

// Erased says what was deleted.
type Erased string

// What can be deleted.
const (
	ErasedPerson   Erased = "person"
	ErasedFace     Erased = "face"
	ErasedGroup    Erased = "group"    // a group or list: its name and settings
	ErasedContents Erased = "contents" // of a deleted group or list: everybody in it, a moment after the group
	// ErasedTemplates are those by one pack of a whole group or list, a moment after its migration ended, or after it.
	ErasedTemplates Erased = "templates"
)

// Auditor writes down what was erased.
type Auditor interface {
	// Erased is called after the erasure, which it cannot undo: an error is the operator's to know.
	Erased(ctx context.Context, e Erasure) error
	// Decided is called after somebody has decided how long others are kept.
	Decided(ctx context.Context, d Decision) error
}

// Decision is a change of how long somebody is kept.
type Decision struct {
	What      Decided
	Resource  visage.ResourceID
	By        visage.Caller
	Ref       Ref        // the group or list; zero: the resource
	Item      string     // the person or persisted face; empty: all
	Retention *Retention // of RetentionSet; nil: it was taken back
}

// Decided says what was decided.
type Decided string

// What can be decided.
const (
	RetentionSet Decided = "retention"
	HoldPlaced   Decided = "hold"
	HoldReleased Decided = "release"
)

// nobody audits nothing.
type nobody struct{}

// Erased implements Auditor.
func (nobody) Erased(context.Context, Erasure) error { return nil }

// Decided implements Auditor.
func (nobody) Decided(context.Context, Decision) error { return nil }

// decided writes down what was decided.
func (s *Service) decided(ctx context.Context, res visage.Resource, d Decision) {
	d.Resource, d.By = res.ID, visage.CallerFrom(ctx)
	if err := s.audit.Decided(context.WithoutCancel(ctx), d); err != nil {
		s.log.ErrorContext(ctx, "decision not audited", "resource", res.ID.String(), "what", string(d.What), "err", err)
	}
}

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
