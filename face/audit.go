package face

import (
	"context"

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
