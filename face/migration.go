package face

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// A collection moves from one model pack to another by a migration. A template of one pack cannot be made from one of
// another, and photos are not kept, so the customer sends the photo of every face again. Until all are there the
// templates of both packs lie side by side, in containers of their own, and each answers for the faces that were
// detected by it. Every step is one transaction: whatever stops the program, it is before the step or after it.

// Migration says how far the migration of a list or group to another recognition model is.
type Migration struct {
	From, To string    // recognition models; their names may be the same, their packs are not
	Faces    int       // in the list or group
	Sent     int       // of Faces, those that the new pack knows, too
	Started  time.Time // UTC
}

// Missing names faces whose photo has not been sent since the migration began.
type Missing struct {
	PersonID string   // empty in a list, where each face is a Missing of its own
	FaceIDs  []string // persisted face ids, at least one
}

// templates names the container of the collection's faces.
func (c collectionRecord) templates() uuid {
	if c.Templates == (uuid{}) {
		return c.Incarnation
	}
	return c.Templates
}

func (c collectionRecord) faces() sealed.Container[faceRecord] {
	return faces.In(c.templates().String())
}

// next returns the collection as the migration under way will leave it.
func (c collectionRecord) next() collectionRecord {
	m := c.Migration
	c.Model, c.Networks, c.Templates, c.Migration = m.Model, m.Networks, m.Templates, nil
	return c
}

// sides returns the collection by each pack that has templates of it: one, and during a migration the next as well.
func (c collectionRecord) sides() []collectionRecord {
	if c.Migration == nil {
		return []collectionRecord{c}
	}
	return []collectionRecord{c, c.next()}
}

// sameSides refuses to store templates that were made for a collection as it was before a migration of it began or
// ended.
func (c collectionRecord) sameSides(before collectionRecord) error {
	now, then := c.sides(), before.sides()
	same := len(now) == len(then)
	for i := 0; same && i < len(now); i++ {
		same = now[i].templates() == then[i].templates()
	}
	if !same {
		return visage.Refuse(visage.Conflict, "ConcurrentOperationConflict",
			"A migration of %q started or ended during the request. Send the photo again.", c.ID)
	}
	return nil
}

func (ref Ref) notMigrating() error {
	return visage.Refuse(visage.NotFound, ref.Kind.String()+"MigrationNotFound", "No migration of the %s %q is "+
		"in progress.",
		ref.Kind, ref.ID)
}

// findMigrating reads a collection of which a migration is under way.
func findMigrating(r sealed.Reader, ref Ref) (collectionRecord, stateRecord, error) {
	c, st, err := findIdle(r, ref)
	if err == nil && c.Migration == nil {
		err = ref.notMigrating()
	}
	return c, st, err
}

// StartMigration begins to move a list or group to the pack that serves a recognition model now. Until
// CompleteMigration it answers as before, and besides for faces that were detected with the new model, among those that
// MigrateFace was given. Faces that are added meanwhile get templates of both packs from their one photo. Starting
// again with the same model changes nothing. Refusals: BadArgument, also when that pack made the templates there are;
// FaceListNotFound and so on; FaceListMigrationExists and so on while one to another model is under way;
// LargeFaceListTrainingNotFinished and so on.
func (s *Service) StartMigration(ctx context.Context, res visage.Resource, ref Ref, model string) error {
	if model == "" {
		return badArgument("recognitionModel is required: give the model to migrate to.")
	}
	recogniser, model, err := s.model(model)
	if err != nil {
		return err
	}
	templates := visage.NewUUID()
	_, err = s.changeMigration(ctx, res, ref, func(tx sealed.Tx, c *collectionRecord, st *stateRecord) error {
		switch m := c.Migration; {
		case m != nil && m.Model == model && m.Networks == recogniser.Name():
			return nil
		case m != nil:
			return visage.Refuse(visage.Conflict, ref.Kind.String()+"MigrationExists",
				"A migration of the %s %q to another model is in progress. Complete or cancel it "+
					"first.", ref.Kind, ref.ID)
		case c.Networks == recogniser.Name():
			return badArgument("The faces of %q already have templates of the model pack that serves "+
				"%s.", ref.ID, model)
		}
		c.Migration = &migrationRecord{
			Model: model, Networks: recogniser.Name(), Templates: templates, Started: time.Now().Unix(),
		}
		st.Sent = 0
		return nil
	})
	if err != nil {
		return fmt.Errorf("start migration: %w", err)
	}
	return nil
}

// changeMigration changes a collection and its state in one transaction, and returns the collection as it was before.
func (s *Service) changeMigration(
	ctx context.Context, res visage.Resource, ref Ref,
	change func(tx sealed.Tx, c *collectionRecord, st *stateRecord) error,
) (before collectionRecord, err error) {
	release, err := s.locks.acquire(ctx, collectionsOrder(res, ref.Kind)+ref.ID)
	if err != nil {
		return before, err
	}
	defer release()
	err = s.update(sealed.FromReserve(ctx), res, func(tx sealed.Tx) error {
		c, st, err := findIdle(tx, ref)
		if err != nil {
			return err
		}
		before = c
		if err := change(tx, &c, &st); err != nil {
			return err
		}
		if err := collections.In(ref.Kind.String()).Put(tx, ref.ID, c); err != nil {
			return fmt.Errorf("write %s: %w", ref.Kind, err)
		}
		return putState(tx, ref.Kind, c, st)
	})
	return before, err
}

// Migration returns how far the migration of a list or group is. Refusals of kind NotFound: FaceListNotFound and so on;
// FaceListMigrationNotFound and so on when none is under way.
func (s *Service) Migration(ctx context.Context, res visage.Resource, ref Ref) (Migration, error) {
	var m Migration
	err := s.view(ctx, res, func(r sealed.Reader) error {
		c, st, err := findState(r, ref)
		switch {
		case err != nil:
			return err
		case c.Migration == nil:
			return ref.notMigrating()
		}
		m = Migration{
			From: c.Model, To: c.Migration.Model, Faces: st.Faces, Sent: st.Sent,
			Started: time.Unix(c.Migration.Started, 0).UTC(),
		}
		return nil
	})
	if err != nil {
		return Migration{}, fmt.Errorf("migration: %w", err)
	}
	return m, nil
}

// MissingFaces returns whose photos have not been sent since the migration of a list or group began; the result is not
// nil. Of a group they are sorted by person, and the page counts persons; of a list, by face.
func (s *Service) MissingFaces(ctx context.Context, res visage.Resource, ref Ref, page Page) ([]Missing, error) {
	top, err := page.top()
	if err != nil {
		return nil, err
	}
	var c collectionRecord
	var st stateRecord
	err = s.view(ctx, res, func(r sealed.Reader) (err error) {
		if c, st, err = findState(r, ref); err == nil && c.Migration == nil {
			err = ref.notMigrating()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list missing faces: %w", err)
	}
	if st.Sent == st.Faces {
		return []Missing{}, nil
	}
	missing, err := readPage(ctx, s, res, s.contents(ctx, res, ref, c), page.Start, top,
		func(r sealed.Reader, id string) (Missing, error) { return missingOf(r, ref, c, rawText(id)) })
	if err != nil {
		return nil, fmt.Errorf("list missing faces: %w", err)
	}
	return missing, nil
}

// contents lists the persons of a group or the faces of a list.
func (s *Service) contents(ctx context.Context, res visage.Resource, ref Ref, c collectionRecord) listing {
	return listing{
		lease: s.space(res).Lease(), name: contentsOrder(res, c), text: rawText,
		scan: func(add func(string)) error {
			return s.view(ctx, res, func(r sealed.Reader) error {
				now, err := find(r, ref) // a migration may have ended since, and what c names be half dropped
				if err != nil {
					return err
				}
				if now.Incarnation != c.Incarnation {
					return ref.notFound()
				}
				return eachItem(r, ref, now, add)
			})
		},
	}
}

// eachItem calls add with the raw ids of the persons of a group, or of the faces of a list.
func eachItem(r sealed.Reader, ref Ref, c collectionRecord, add func(string)) error {
	if ref.Kind.isGroup() {
		for p, err := range persons.In(c.Incarnation.String()).All(r) {
			if err != nil {
				return err
			}
			add(string(p.ID[:]))
		}
		return nil
	}
	for f, err := range c.faces().All(r) {
		clear(f.Code)
		if err != nil {
			return err
		}
		add(string(f.ID[:]))
	}
	return nil
}

// missingOf returns the missing faces of a person, or a missing face of a list; ErrNotFound when nothing is missing.
func missingOf(r sealed.Reader, ref Ref, c collectionRecord, id string) (Missing, error) {
	var m Missing
	ids := []string{id}
	if ref.Kind.isGroup() {
		p, err := persons.In(c.Incarnation.String()).Get(r, id)
		if err != nil {
			return m, err
		}
		m.PersonID, ids = id, p.person().FaceIDs
	} else if there, err := c.faces().Has(r, id); err != nil {
		return m, err
	} else if !there {
		return m, sealed.ErrNotFound
	}
	sent := c.next().faces()
	for _, id := range ids {
		there, err := sent.Has(r, id)
		if err != nil {
			return m, err
		}
		if !there {
			m.FaceIDs = append(m.FaceIDs, id)
		}
	}
	if len(m.FaceIDs) == 0 {
		return m, sealed.ErrNotFound
	}
	return m, nil
}

// MigrateFace takes the photo of a face of a list (personID is empty then) or of a person once more, and keeps the
// template that the new pack makes of it, in place of one that it made before. e.UserData is not used. When the old
// pack is open it looks at the photo as well: where it does not take the face for the person's, the photo is refused
// unless force is set, so that people are not mixed up. Refusals: those of AddFace and GetPersonFace;
// FaceListMigrationNotFound and so on.
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
	err := s.view(ctx, res, func(r sealed.Reader) (err error) { // before the photo is looked at, which costs much
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
	if f.Code, err = s.enrol(ctx, c.next(), e); err != nil {
		return fmt.Errorf("migrate face: %w", err)
	}
	next := scope(res, c.next())
	var searched, replaced, entered bool
	defer func() {
		if !entered { // or a gallery that is being loaded takes the code later
			clear(f.Code)
		}
	}()
	err = s.update(ctx, res, func(tx sealed.Tx) error {
		now, st, err := findMigrating(tx, ref)
		if err != nil {
			return err
		}
		if err := now.sameSides(c); err != nil {
			return err
		}
		is, err := findOf(tx, now, personID, faceID)
		if err != nil {
			return err
		}
		clear(is.Code)
		is.Code = f.Code
		f = is
		container := now.next().faces()
		if replaced, err = container.Has(tx, faceID); err != nil {
			return fmt.Errorf("read face: %w", err)
		}
		if err := container.Put(tx, faceID, f); err != nil {
			return fmt.Errorf("write face: %w", err)
		}
		if !replaced {
			st.Sent++
		}
		if err := putState(tx, ref.Kind, now, st); err != nil {
			return err
		}
		// Inside the transaction, so that a deletion of the face, which comes after it, finds the face in the gallery.
		if searched = ref.Kind == FaceList || f.Sequence <= st.Trained; searched && !replaced {
			entered = true
			s.galleries.Change(next, f.addTo)
		}
		return nil
	})
	switch {
	// It may have entered in an earlier run of the function, of which nothing is left.
	case entered && (err != nil || !searched), err == nil && searched && replaced:
		s.galleries.Drop(next, nil)
	case err == nil && searched:
		s.galleries.Change(next, func(g *gallery.Gallery) error {
			if g.Has(gallery.ID(f.ID)) || s.isGone(ctx, res, c.next(), faceID) {
				return nil
			}
			return gallery.ErrDropped // it was loaded from what was there before the transaction
		})
	}
	if err != nil {
		return fmt.Errorf("migrate face: %w", err)
	}
	return nil
}

// isGone says whether a face has surely been deleted.
func (s *Service) isGone(ctx context.Context, res visage.Resource, c collectionRecord, faceID string) bool {
	var there bool
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		there, err = c.faces().Has(r, faceID)
		return err
	})
	return err == nil && !there
}

// findOf reads a face of a list, or of a person.
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

// sameAs refuses a photo whose face is not that of whom a stored template is of.
func (s *Service) sameAs(ctx context.Context, c collectionRecord, stored faceRecord, e Enrolment) error {
	m, err := s.recogniserOf(c)
	if err != nil {
		return err
	}
	seen, err := s.enrol(ctx, c, e)
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

// CompleteMigration ends a migration: the new pack answers alone, and the templates of the old one are dropped. With
// dropMissing the faces that have not been sent are deleted first, as by DeleteFace; what stops it between leaves the
// migration under way without some of them.
// Refusals: FaceListMigrationNotFound and so on; FaceListMigrationNotFinished and so on while faces are missing;
// LegalHold when somebody is held of whom a face is missing; LargeFaceListTrainingNotFinished and so on.
func (s *Service) CompleteMigration(ctx context.Context, res visage.Resource, ref Ref, dropMissing bool) error {
	if dropMissing {
		if err := s.dropMissing(ctx, res, ref); err != nil {
			return fmt.Errorf("complete migration: %w", err)
		}
	}
	before, err := s.changeMigration(ctx, res, ref, func(tx sealed.Tx, c *collectionRecord, st *stateRecord) error {
		switch {
		case c.Migration == nil:
			return ref.notMigrating()
		case st.Sent < st.Faces:
			return visage.Refuse(visage.Conflict, ref.Kind.String()+"MigrationNotFinished",
				"Of the %d faces of %q, %d have not been migrated. Send their photos, or delete these faces with "+
					"dropMissing.",
				st.Faces, ref.ID, st.Faces-st.Sent)
		}
		if err := putTrash(tx, trashRecord{Of: c.templates(), Templates: true}); err != nil {
			return err
		}
		*c, st.Sent = c.next(), 0
		return nil
	})
	if err != nil {
		return fmt.Errorf("complete migration: %w", err)
	}
	s.galleries.Drop(scope(res, before), nil)
	s.sweeps.add(res.ID)
	return nil
}

// CancelMigration ends a migration as if it had not begun: the old pack answers alone, and the templates of the new one
// are dropped. Refusals: FaceListMigrationNotFound and so on; LargeFaceListTrainingNotFinished and so on.
func (s *Service) CancelMigration(ctx context.Context, res visage.Resource, ref Ref) error {
	before, err := s.changeMigration(ctx, res, ref, func(tx sealed.Tx, c *collectionRecord, st *stateRecord) error {
		if c.Migration == nil {
			return ref.notMigrating()
		}
		if err := putTrash(tx, trashRecord{Of: c.Migration.Templates, Templates: true}); err != nil {
			return err
		}
		c.Migration, st.Sent = nil, 0
		return nil
	})
	if err != nil {
		return fmt.Errorf("cancel migration: %w", err)
	}
	s.galleries.Drop(scope(res, before.next()), nil)
	s.sweeps.add(res.ID)
	return nil
}

// dropMissing deletes the faces that have not been sent, unless one of them is held.
func (s *Service) dropMissing(ctx context.Context, res visage.Resource, ref Ref) error {
	var items []string
	err := s.view(ctx, res, func(r sealed.Reader) error {
		items = nil
		c, _, err := findMigrating(r, ref)
		if err != nil {
			return err
		}
		var all []string
		if err := eachItem(r, ref, c, func(id string) { all = append(all, rawText(id)) }); err != nil {
			return err
		}
		for _, id := range all {
			if _, err := missingOf(r, ref, c, id); errors.Is(err, sealed.ErrNotFound) {
				continue
			} else if err != nil {
				return err
			}
			if err := mayDelete(r, c, id); err != nil {
				return err
			}
			items = append(items, id)
		}
		return nil
	})
	for len(items) > 0 && err == nil {
		part := items[:min(len(items), expireTogether)]
		items = items[len(part):]
		err = s.dropMissingOf(ctx, res, ref, part)
	}
	return err
}

// dropMissingOf deletes the missing faces of some persons, or some missing faces of a list, after another look at each.
func (s *Service) dropMissingOf(ctx context.Context, res visage.Resource, ref Ref, items []string) error {
	var c collectionRecord
	var gone []Missing
	receipt, err := s.erase(ctx, res, func(tx sealed.Tx) error {
		gone = nil
		var st stateRecord
		var err error
		if c, st, err = findMigrating(tx, ref); err != nil {
			return err
		}
		for _, id := range items {
			missing, err := missingOf(tx, ref, c, id)
			if errors.Is(err, sealed.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if err := mayDelete(tx, c, id); err != nil {
				return err
			}
			if err := removeMissing(tx, c, &st, missing); err != nil {
				return err
			}
			gone = append(gone, missing)
		}
		return putState(tx, ref.Kind, c, st)
	})
	if err != nil {
		return err
	}
	for _, missing := range gone {
		for _, text := range missing.FaceIDs {
			id, err := visage.ParseUUID(text)
			if err != nil {
				return err
			}
			s.changeGalleries(res, c, func(g *gallery.Gallery) error {
				g.Remove(gallery.ID(id))
				return nil
			})
			if missing.PersonID == "" {
				s.orders.change(contentsOrder(res, c), idChange{id: string(id[:])})
			}
			s.told(
				ctx, res, Erasure{What: ErasedFace, Ref: ref, Person: missing.PersonID, Face: text, Receipt: receipt},
			)
		}
	}
	return nil
}

// removeMissing removes the faces, and from their person.
func removeMissing(tx sealed.Tx, c collectionRecord, st *stateRecord, missing Missing) error {
	var dropped []uuid
	for _, text := range missing.FaceIDs {
		id, err := visage.ParseUUID(text)
		if err != nil {
			return err
		}
		if err := removeFace(tx, c, st, id); err != nil {
			return err
		}
		dropped = append(dropped, id)
	}
	if missing.PersonID == "" {
		return nil
	}
	p, err := findPerson(tx, c, missing.PersonID)
	if err != nil {
		return err
	}
	p.Faces = slices.DeleteFunc(slices.Clone(p.Faces), func(id uuid) bool { return slices.Contains(dropped, id) })
	return persons.In(c.Incarnation.String()).Put(tx, missing.PersonID, p)
}
