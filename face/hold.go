package face

import (
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Held names the object of a legal hold: a whole resource (the zero Held), a group or list, or one person or persisted
// face.
type Held struct {
	Ref  Ref
	Item string // id of a person of the group, or of a persisted face of the list; empty: the whole group or list
}

// Hold is a legal hold. Until it is released, its object is not erased when its retention ends, and deletions by
// request are refused. Names and userData can still be changed.
type Hold struct {
	On     Held
	Reason string
	By     string // id or name of the principal that placed it
	Placed time.Time
}

var holds = sealed.NewTable[holdRecord]("face.hold", 1) // In(), by holdID

type holdRecord struct {
	Of     uuid   `cbor:"1,keyasint"` // incarnation; zero: the whole resource
	Kind   Kind   `cbor:"2,keyasint"`
	ID     string `cbor:"3,keyasint"`
	Item   string `cbor:"4,keyasint"`
	Reason string `cbor:"5,keyasint"`
	By     string `cbor:"6,keyasint"`
	Placed int64  `cbor:"7,keyasint"` // Unix seconds
}

func (h holdRecord) hold() Hold {
	return Hold{On: Held{Ref{h.Kind, h.ID}, h.Item}, Reason: h.Reason, By: h.By, Placed: time.Unix(h.Placed, 0).UTC()}
}

// holdID returns the id of the record of a hold.
func holdID(of uuid, item string) string {
	switch {
	case of == uuid{}:
		return wholeResource
	case item == "":
		return of.String()
	}
	return of.String() + "/" + item
}

// mostReason is the longest reason of a hold, in UTF-16 code units.
const mostReason = 1024

// findHeld returns the incarnation of the collection that a hold names. With item it also checks that the person or
// face exists.
func findHeld(r sealed.Reader, on Held, item bool) (of uuid, err error) {
	if on.Ref == (Ref{}) {
		if on.Item != "" {
			return of, badArgument("The group or list of the person or face is missing: name it.")
		}
		return of, nil
	}
	c, err := find(r, on.Ref)
	if err != nil || on.Item == "" || !item {
		return c.Incarnation, err
	}
	if on.Ref.Kind.isGroup() {
		_, err = findPerson(r, c, on.Item)
	} else {
		_, err = findFace(r, c, uuid{}, on.Item)
	}
	return c.Incarnation, err
}

// isHeld reports whether a person or face is held: by a hold on itself, its collection or its resource.
func isHeld(r sealed.Reader, of uuid, item string) (bool, error) {
	for _, id := range []string{holdID(uuid{}, ""), holdID(of, ""), holdID(of, item)} {
		switch _, err := holds.In().Get(r, id); {
		case err == nil:
			return true, nil
		case !errors.Is(err, sealed.ErrNotFound):
			return false, fmt.Errorf("read holds: %w", err)
		}
	}
	return false, nil
}

// mayDelete refuses to delete a person or face that is held.
func mayDelete(r sealed.Reader, c collectionRecord, item string) error {
	held, err := isHeld(r, c.Incarnation, item)
	if err == nil && held {
		err = errHeld()
	}
	return err
}

// mayDeleteAll refuses to delete a collection that is held, or that contains a person or face that is.
func mayDeleteAll(r sealed.Reader, c collectionRecord) error {
	for h, err := range holds.In().All(r) {
		switch {
		case err != nil:
			return fmt.Errorf("read holds: %w", err)
		case h.Of == uuid{} || h.Of == c.Incarnation:
			return errHeld()
		}
	}
	return nil
}

func errHeld() error {
	return visage.Refuse(visage.Conflict, "LegalHold",
		"A legal hold protects this object or a person in it. Release the hold before you delete the object.")
}
