package face

import (
	"context"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// MigrateFace takes the photo of a face of a list (personID is then empty) or of a person again, and keeps the template
// that the new pack makes of it, in place of an earlier one of that pack. It ignores e.UserData. If the old pack is
// open, it analyses the photo too: unless force is set, a photo that does not show the same person is refused, so that
// people are not mixed up. Refusals: those of AddFace and GetPersonFace; FaceListMigrationNotFound and so on.
func (s *Service) MigrateFace(
	ctx context.Context, res visage.Resource, ref Ref, personID, faceID string, e Enrolment, force bool,
) error {
	if err := ref.want(personID != ""); err != nil {
		return err
	}
	e.UserData = nil
	var c collectionRecord
	var old, f faceRecord
	defer func() { clear(old.Code) }()
	err := s.view(ctx, res, func(r sealed.Reader) (err error) { // before the photo is analysed, which takes long
		if c, _, err = findMigrating(r, ref); err != nil {
			return err
		}
		old, err = findOf(r, c, personID, faceID)
		return err
	})
	if err != nil {
		return fmt.Errorf("migrate face: %w", err)
	}
	if !force && s.packs[c.Networks] != nil {
		if err := s.sameAs(ctx, c, old, e); err != nil {
			return fmt.Errorf("migrate face: %w", err)
		}
	}
	if f.Code, _, err = s.enrol(ctx, c.next(), e, 0); err != nil {
		return fmt.Errorf("migrate face: %w", err)
	}
	defer clear(f.Code)
	var st stateRecord
	err = s.update(ctx, res, func(tx sealed.Tx) error {
		now, is, err := findMigrating(tx, ref)
		if err != nil {
			return err
		}
		if err := now.sameSides(c); err != nil {
			return err
		}
		stored, err := findOf(tx, now, personID, faceID)
		if err != nil {
			return err
		}
		clear(stored.Code)
		stored.Code = f.Code
		f, st = stored, is
		container := now.next().faces()
		replaced, err := container.Has(tx, faceID)
		if err != nil {
			return fmt.Errorf("read face: %w", err)
		}
		if err := container.Put(tx, faceID, f); err != nil {
			return fmt.Errorf("write face: %w", err)
		}
		if replaced {
			st.note(faceReplaced, f.ID)
		} else {
			st.Sent++
			st.note(faceSent, f.ID)
		}
		return putState(tx, ref.Kind, now, &st)
	})
	if err != nil {
		return fmt.Errorf("migrate face: %w", err)
	}
	s.changed(ctx, res, c, st)
	return nil
}

// findOf reads a face of a list (personID is then empty) or of a person.
func findOf(r sealed.Reader, c collectionRecord, personID, faceID string) (faceRecord, error) {
	if personID == "" {
		return findFace(r, c, uuid{}, faceID)
	}
	p, err := findPerson(r, c, personID)
	if err != nil {
		return faceRecord{}, err
	}
	return findFace(r, c, p.ID, faceID)
}

// sameAs refuses a photo whose face does not match a stored template.
func (s *Service) sameAs(ctx context.Context, c collectionRecord, stored faceRecord, e Enrolment) error {
	m, err := s.recogniserOf(c)
	if err != nil {
		return err
	}
	seen, _, err := s.enrol(ctx, c, e, 0)
	if err != nil {
		return err
	}
	defer clear(seen)
	ranked, err := rank(seen, []gallery.Code{stored.Code}, 1)
	if err != nil {
		return err
	}
	if likeness := confidence(m, ranked[0].distance); likeness < samePerson {
		return badArgument(
			"The face on the photo is not like the face %s that it is sent for: the confidence is %.2f. "+
				"Send the photo of the same person, or with force=true if you are sure that it is.", stored.ID,
			likeness)
	}
	return nil
}
