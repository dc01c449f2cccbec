package face

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// Missing names faces whose photo has not been sent since the migration began.
type Missing struct {
	PersonID string   // empty in a list, where each Missing has one face
	FaceIDs  []string // persisted face ids, at least one
}

func (ref Ref) notMigrating() error {
	return visage.Refuse(visage.NotFound, ref.Kind.String()+"MigrationNotFound", "No migration of the %s %q is "+
		"in progress.",
		ref.Kind, ref.ID)
}

// findMigrating reads a collection with a migration in progress, unless it is being trained.
func findMigrating(r sealed.Reader, ref Ref) (collectionRecord, stateRecord, error) {
	c, st, err := findIdle(r, ref)
	if err == nil && c.Migration == nil {
		err = ref.notMigrating()
	}
	return c, st, err
}

// MissingFaces returns the faces whose photos have not been sent since the migration of a list or group began; the
// result is not nil. In a group they are sorted by person, and the page counts persons; in a list, by face.
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
	missing, err := readPage(ctx, s, res, s.contents(ctx, res, ref, c, st), page.Start, top,
		func(r sealed.Reader, id string) (Missing, error) { return missingOf(r, ref, c, rawText(id)) })
	if err != nil {
		return nil, fmt.Errorf("list missing faces: %w", err)
	}
	return missing, nil
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

// dropMissing deletes the missing faces, unless one of them is held.
func (s *Service) dropMissing(ctx context.Context, res visage.Resource, ref Ref) error {
	var st stateRecord
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		_, st, err = findMigrating(r, ref)
		return err
	})
	if err != nil {
		return err
	}
	var items []string
	err = s.viewMany(ctx, res, max(st.Persons, st.Faces), func(r sealed.Reader) error {
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
		part := items[:min(len(items), erasedTogether)]
		items = items[len(part):]
		err = s.dropMissingOf(ctx, res, ref, part)
	}
	return err
}

// dropMissingOf deletes the missing faces of some persons, or some missing faces of a list. It checks each again.
func (s *Service) dropMissingOf(ctx context.Context, res visage.Resource, ref Ref, items []string) error {
	var c collectionRecord
	var st stateRecord
	var gone []Missing
	receipt, err := s.erase(ctx, res, func(tx sealed.Tx) (err error) {
		gone = nil
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
		return putState(tx, ref.Kind, c, &st)
	})
	if err != nil {
		return err
	}
	s.changed(ctx, res, c, st)
	for _, missing := range gone {
		for _, text := range missing.FaceIDs {
			s.erased(ctx, res, audit.FaceDelete, ref, receipt, map[audit.Detail]string{
				audit.DetailPerson: missing.PersonID, audit.DetailFace: text,
			})
		}
	}
	return nil
}

// removeMissing removes the faces, also from the record of their person.
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
	p.dropFaces(dropped...)
	return persons.In(c.Incarnation.String()).Put(tx, missing.PersonID, p)
}
