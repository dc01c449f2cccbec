package face

import (
	"context"

	"github.com/visage-face/visage"
)

// Kind says which of the contract's four collections is meant. Face lists hold faces; person groups hold persons who hold faces.
type Kind int

// The kinds of collection.
const (
	FaceList Kind = iota + 1
	LargeFaceList
	PersonGroup
	LargePersonGroup
)

// Ref names a list or a group of a resource. The id is the caller's, of any shape: methods refuse what does not fit.
type Ref struct {
	Kind Kind
	ID   string
}

// Creation is what a list or group is made with.
type Creation struct {
	Name             string  // 1 to 128 UTF-16 code units
	UserData         *string // at most 16,384 UTF-16 code units; nil: none
	RecognitionModel string  // empty: DefaultRecognitionModel. It cannot change later
}

// Change is what an update changes; nil leaves a field as it is.
type Change struct {
	Name     *string
	UserData *string
}

// Page says which part of an ordered list is wanted (contract §2.2).
type Page struct {
	Start string // the list begins after it; at most 64 UTF-16 code units
	Top   *int   // 1 to 1,000; nil: 1,000
}

// Collection is a list or a group.
type Collection struct {
	ID               string
	Name             string
	UserData         *string // nil: never set
	RecognitionModel string
	Faces            []PersistedFace // of a small face list that was read by Get, not nil then, in the order of ids; else nil
}

// PersistedFace is a face in a list, or of a person.
type PersistedFace struct {
	ID       string  // a UUID
	UserData *string // nil: never set
}

// Create makes an empty list or group. It never replaces one.
// Refusals: BadArgument; QuotaExceeded; FaceListExists, LargeFaceListExists, PersonGroupExists, LargePersonGroupExists.
func (s *Service) Create(ctx context.Context, res visage.Resource, ref Ref, c Creation) error {
	return errNotWired
}

// Get returns a list or group; a small face list with its faces.
// Refusals: FaceListNotFound and so on, also for an id of the wrong shape; so it is in all methods below.
func (s *Service) Get(ctx context.Context, res visage.Resource, ref Ref) (Collection, error) {
	return Collection{}, errNotWired
}

// Update changes the name or userData of a list or group.
func (s *Service) Update(ctx context.Context, res visage.Resource, ref Ref, c Change) error {
	return errNotWired
}

// Delete removes a list or group with everything in it, at once for every reader. A later Create of the same id starts empty.
func (s *Service) Delete(ctx context.Context, res visage.Resource, ref Ref) error {
	return errNotWired
}

// List returns the lists or groups of a kind, sorted by id, without their faces; the result is not nil.
func (s *Service) List(ctx context.Context, res visage.Resource, kind Kind, p Page) ([]Collection, error) {
	return nil, errNotWired
}
