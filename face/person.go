package face

import (
	"context"

	"github.com/visage-face/visage"
)

// PersonRef names a person of a group. The ids are the caller's, of any shape: methods refuse what does not fit.
type PersonRef struct {
	Group Ref // of kind PersonGroup or LargePersonGroup
	ID    string
}

// Person is a person of a group.
type Person struct {
	ID       string // a UUID
	Name     string
	UserData *string  // nil: never set
	FaceIDs  []string // persisted faces in the order they were added, not nil
}

// CreatePerson adds a person without faces to a group and returns its id. name has 1 to 128 UTF-16 code units, userData at most 16,384.
// Refusals: BadArgument, QuotaExceeded, PersonGroupNotFound, PersonGroupTrainingNotFinished (and the same for large groups).
func (s *Service) CreatePerson(ctx context.Context, res visage.Resource, group Ref, name string, userData *string) (string, error) {
	return "", errNotWired
}

// GetPerson returns a person. Refusals: PersonNotFound, also for an id of the wrong shape; so it is in the methods below.
func (s *Service) GetPerson(ctx context.Context, res visage.Resource, p PersonRef) (Person, error) {
	return Person{}, errNotWired
}

// UpdatePerson changes the name or userData of a person.
func (s *Service) UpdatePerson(ctx context.Context, res visage.Resource, p PersonRef, c Change) error {
	return errNotWired
}

// DeletePerson removes a person with its faces. It is not found by any search that begins afterwards.
func (s *Service) DeletePerson(ctx context.Context, res visage.Resource, p PersonRef) error {
	return errNotWired
}

// Persons returns the persons of a group, sorted by id; the result is not nil.
func (s *Service) Persons(ctx context.Context, res visage.Resource, group Ref, page Page) ([]Person, error) {
	return nil, errNotWired
}

// AddPersonFace adds the one face on a photo to a person and returns its persisted face id. The refusals are those of AddFace and GetPerson.
func (s *Service) AddPersonFace(ctx context.Context, res visage.Resource, p PersonRef, e Enrolment) (string, error) {
	return "", errNotWired
}

// GetPersonFace returns one face of a person. Refusals: PersistedFaceNotFound, also for a face id of the wrong shape.
func (s *Service) GetPersonFace(ctx context.Context, res visage.Resource, p PersonRef, faceID string) (PersistedFace, error) {
	return PersistedFace{}, errNotWired
}

// UpdatePersonFace sets the userData of a face of a person; nil leaves it as it is.
func (s *Service) UpdatePersonFace(ctx context.Context, res visage.Resource, p PersonRef, faceID string, userData *string) error {
	return errNotWired
}

// DeletePersonFace removes a face of a person. It is not found by any search that begins afterwards.
func (s *Service) DeletePersonFace(ctx context.Context, res visage.Resource, p PersonRef, faceID string) error {
	return errNotWired
}
