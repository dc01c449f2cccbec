package face

import (
	"fmt"

	"github.com/visage-face/visage"
)

// Kind is one of the contract's four kinds of collection. Face lists hold faces; person groups hold persons, who hold
// faces. The numbers are stored.
type Kind int

// The kinds of collection.
const (
	FaceList Kind = iota + 1
	LargeFaceList
	PersonGroup
	LargePersonGroup
)

// String returns the contract's word, with which the codes of refusals begin.
func (k Kind) String() string {
	switch k {
	case FaceList:
		return "FaceList"
	case LargeFaceList:
		return "LargeFaceList"
	case PersonGroup:
		return "PersonGroup"
	case LargePersonGroup:
		return "LargePersonGroup"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

func (k Kind) isGroup() bool { return k == PersonGroup || k == LargePersonGroup }

func (k Kind) isLarge() bool { return k == LargeFaceList || k == LargePersonGroup }

// limits returns how many collections of the kind a resource may have, how many faces (of a list) or persons (of a
// group) each may hold, and how many persons all groups of the kind may hold together.
func (k Kind) limits(t visage.Tier) (collections, each, all int) {
	l := t.Limits()
	switch k {
	case FaceList:
		return l.FaceLists, l.FacesPerFaceList, 0
	case LargeFaceList:
		return l.LargeFaceLists, l.FacesPerLargeFaceList, 0
	case PersonGroup:
		return l.PersonGroups, l.PersonsPerPersonGroup, l.PersonsInPersonGroups
	case LargePersonGroup:
		return l.LargePersonGroups, l.PersonsPerLargeGroup, l.PersonsInLargeOnes
	}
	return 0, 0, 0
}

// Ref names a list or a group of a resource. The id comes from the caller and may have any form: methods refuse an id
// that is not allowed.
type Ref struct {
	Kind Kind
	ID   string
}

// want reports a mistake of this program: a method for lists that is called with a group, or the reverse.
func (ref Ref) want(group bool) error {
	if ref.Kind < FaceList || ref.Kind > LargePersonGroup || ref.Kind.isGroup() != group {
		return fmt.Errorf("this method is not for collections of kind %s", ref.Kind)
	}
	return nil
}

func (ref Ref) notFound() error {
	return visage.Refuse(visage.NotFound, ref.Kind.String()+"NotFound", "There is no %s %q.", ref.Kind,
		printable(ref.ID))
}

func (ref Ref) notFinished() error {
	return visage.Refuse(visage.Conflict, ref.Kind.String()+"TrainingNotFinished",
		"The %s %q is being trained. Wait until the training has ended.", ref.Kind, ref.ID)
}

func (ref Ref) notTrained(kind visage.Kind) error {
	return visage.Refuse(kind, ref.Kind.String()+"NotTrained", "The %s %q has not been trained.", ref.Kind, ref.ID)
}
