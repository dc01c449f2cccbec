package face

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// Creation holds the properties of a new list or group.
type Creation struct {
	Name             string  // 1 to 128 UTF-16 code units
	UserData         *string // at most 16,384 UTF-16 code units; nil: none
	RecognitionModel string  // empty: DefaultRecognitionModel; it cannot be changed later
}

// Collection is a list or a group.
type Collection struct {
	ID               string
	Name             string
	UserData         *string // nil: never set
	RecognitionModel string
	Faces            []PersistedFace // of a small face list that Get returns, sorted by id and not nil; otherwise nil
}

func (c collectionRecord) collection() Collection {
	return Collection{ID: c.ID, Name: c.Name, UserData: c.UserData, RecognitionModel: c.Model}
}

// Create makes an empty list or group. It never replaces an existing one.
//
// Refusals: BadArgument, QuotaExceeded, and FaceListExists and so on, by kind.
func (s *Service) Create(ctx context.Context, res visage.Resource, ref Ref, c Creation) error {
	if !validID(ref.ID) {
		return badArgument("The id must have 1 to 64 of the characters a-z, 0-9, - and _.")
	}
	if err := (Change{Name: &c.Name, UserData: c.UserData}).check(); err != nil {
		return err
	}
	recogniser, model, err := s.model(c.RecognitionModel)
	if err != nil {
		return err
	}
	record := collectionRecord{
		ID: ref.ID, Incarnation: visage.NewUUID(), Name: c.Name, UserData: c.UserData, Model: model,
		Networks: recogniser.Name(),
	}
	order := collectionsOrder(res, ref.Kind)
	release, err := s.locks.acquire(ctx, order+ref.ID)
	if err != nil {
		return err
	}
	defer release()
	var listed stored
	err = s.update(ctx, res, func(tx sealed.Tx) error {
		all := collections.In(ref.Kind.String())
		if _, err := all.Get(tx, ref.ID); err == nil {
			return visage.Refuse(visage.Conflict, ref.Kind.String()+"Exists", "The %s %q exists already.", ref.Kind,
				ref.ID)
		} else if !errors.Is(err, sealed.ErrNotFound) {
			return fmt.Errorf("read %s: %w", ref.Kind, err)
		}
		t, err := getTotals(tx)
		if err != nil {
			return err
		}
		if most, _, _ := ref.Kind.limits(res.Tier); t.Collections[ref.Kind] >= most {
			return quotaExceeded("This resource may have at most %d of %s.", most, ref.Kind)
		}
		t.Collections[ref.Kind]++
		if err := totals.In().Put(tx, totalsID, t); err != nil {
			return fmt.Errorf("write totals: %w", err)
		}
		if err := putState(tx, ref.Kind, record, &stateRecord{}); err != nil {
			return err
		}
		if listed, err = noteItem(tx, ref, itemAdded); err != nil {
			return err
		}
		return all.Put(tx, ref.ID, record)
	})
	if err != nil {
		return fmt.Errorf("create %s: %w", ref.Kind, err)
	}
	s.orders.change(order, listed)
	return nil
}

// Get returns a list or group; a small face list with its faces.
//
// Refusals: FaceListNotFound and so on, also for an id that is not allowed. This holds for all methods that name a list
// or group.
func (s *Service) Get(ctx context.Context, res visage.Resource, ref Ref) (Collection, error) {
	var c collectionRecord
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		c, err = find(r, ref)
		return err
	})
	if err != nil {
		return Collection{}, fmt.Errorf("get %s: %w", ref.Kind, err)
	}
	collection := c.collection()
	if ref.Kind == FaceList {
		if collection.Faces, err = s.Faces(ctx, res, ref, Page{}); err != nil {
			return Collection{}, err
		}
	}
	return collection, nil
}

// Update changes the name or userData of a list or group. Refusals: BadArgument, also for an empty change of a large
// list or group, and LargeFaceListTrainingNotFinished and so on.
func (s *Service) Update(ctx context.Context, res visage.Resource, ref Ref, c Change) error {
	if err := c.check(); err != nil {
		return err
	}
	if ref.Kind.isLarge() && c.Name == nil && c.UserData == nil {
		return badArgument("The request changes nothing: give name, userData or both.")
	}
	release, err := s.locks.acquire(ctx, collectionsOrder(res, ref.Kind)+ref.ID)
	if err != nil {
		return err
	}
	defer release()
	err = s.update(ctx, res, func(tx sealed.Tx) error {
		record, _, err := findIdle(tx, ref)
		if err != nil {
			return err
		}
		c.apply(&record.Name, &record.UserData)
		return collections.In(ref.Kind.String()).Put(tx, ref.ID, record)
	})
	if err != nil {
		return fmt.Errorf("update %s: %w", ref.Kind, err)
	}
	return nil
}

// Delete removes a list or group with all its contents, at once for every reader. A later Create of the same id starts
// empty. Run drops the contents from the store. Refusals: LargeFaceListTrainingNotFinished and so on.
func (s *Service) Delete(ctx context.Context, res visage.Resource, ref Ref) error {
	_, err := s.Erase(ctx, res, ref)
	return err
}

// Erase is Delete, and says what was erased. The records that it names are those of the list or group itself; those of
// its contents are in an entry of their own, a moment later.
func (s *Service) Erase(ctx context.Context, res visage.Resource, ref Ref) (Erasure, error) {
	order := collectionsOrder(res, ref.Kind)
	release, err := s.locks.acquire(ctx, order+ref.ID)
	if err != nil {
		return Erasure{}, err
	}
	defer release()
	var record collectionRecord
	var st stateRecord
	var listed stored
	receipt, err := s.erase(ctx, res, func(tx sealed.Tx) error {
		var err error
		if record, st, err = findIdle(tx, ref); err != nil {
			return err
		}
		if err := mayDeleteAll(tx, record); err != nil {
			return err
		}
		t, err := getTotals(tx)
		if err != nil {
			return err
		}
		t.Collections[ref.Kind]--
		t.Persons[ref.Kind] -= st.Persons
		if err := totals.In().Put(tx, totalsID, t); err != nil {
			return fmt.Errorf("write totals: %w", err)
		}
		incarnation := record.Incarnation.String()
		if err := putTrash(tx, trashRecord{Of: record.Incarnation}); err != nil {
			return err
		}
		for _, side := range record.sides() {
			if side.Templates == (uuid{}) {
				continue // its templates are in the container of the incarnation
			}
			if err := putTrash(tx, trashRecord{Of: side.Templates, Templates: true}); err != nil {
				return err
			}
		}
		if err := remove(tx, states.In(ref.Kind.String()), incarnation); err != nil {
			return err
		}
		if err := remove(tx, retentions.In(), incarnation); err != nil {
			return err
		}
		if listed, err = noteItem(tx, ref, itemGone); err != nil {
			return err
		}
		return remove(tx, collections.In(ref.Kind.String()), ref.ID)
	})
	if err != nil {
		return Erasure{}, fmt.Errorf("delete %s: %w", ref.Kind, err)
	}
	for _, side := range record.sides() {
		s.galleries.Drop(scope(res, side))
	}
	s.orders.change(order, listed)
	s.orders.forget(contentsOrder(res, record))
	s.names.forget(contentsOrder(res, record))
	s.sweeps.add(res.ID)
	done := s.erased(ctx, res, audit.GroupDelete, ref, receipt, nil)
	done.Persons, done.Faces = st.Persons, st.Faces
	return done, nil
}

// List returns the lists or groups of a kind, sorted by id, without their faces; the result is not nil.
func (s *Service) List(ctx context.Context, res visage.Resource, kind Kind, p Page) ([]Collection, error) {
	page, err := listCollections(ctx, s, res, kind, p, func(_ sealed.Reader, c collectionRecord) (Collection, error) {
		return c.collection(), nil
	})
	if err != nil {
		return nil, fmt.Errorf("list every %s: %w", kind, err)
	}
	return page, nil
}

// listCollections returns the results of describe for a page of the lists or groups of a kind.
func listCollections[T any](
	ctx context.Context, s *Service, res visage.Resource, kind Kind, p Page,
	describe func(sealed.Reader, collectionRecord) (T, error),
) ([]T, error) {
	top, err := p.top()
	if err != nil {
		return nil, err
	}
	all := collections.In(kind.String())
	listed := listing{
		lease: s.space(res).Lease(), name: collectionsOrder(res, kind), text: func(id string) string { return id },
		scan: func(add func(string)) (at uint64, err error) {
			err = s.view(ctx, res, func(r sealed.Reader) error {
				head, err := itemChanges(r, kind)
				if err != nil {
					return err
				}
				at = head.last()
				for c, err := range all.All(r) {
					if err != nil {
						return err
					}
					add(c.ID)
				}
				return nil
			})
			return at, err
		},
		since: func(uint64) (list []change, reaches bool, err error) { return nil, false, nil },
	}
	err = s.view(ctx, res, func(r sealed.Reader) error {
		head, err := itemChanges(r, kind)
		listed.at = head.last()
		return err
	})
	if err != nil {
		return nil, err
	}
	return readPage(ctx, s, res, listed, p.Start, top, func(r sealed.Reader, id string) (T, error) {
		c, err := all.Get(r, id)
		if err != nil {
			var none T
			return none, err
		}
		return describe(r, c)
	})
}

// itemChanges reads how many changes of the lists or groups of a kind there were.
func itemChanges(r sealed.Reader, kind Kind) (changesRecord, error) {
	head, err := changes.In(kind.String()).Get(r, headID)
	if err != nil && !errors.Is(err, sealed.ErrNotFound) {
		return head, fmt.Errorf("read changes: %w", err)
	}
	return head, nil
}

// noteItem counts that a list or group was added or removed. Clients choose the ids of these, which may say something
// about people, so the log does not keep them: after a deletion nothing may be left of them. Other processes read the
// list anew.
func noteItem(tx sealed.Tx, ref Ref, what changeKind) (stored, error) {
	head, err := itemChanges(tx, ref.Kind)
	if err != nil {
		return stored{}, err
	}
	done := stored{after: head.last(), list: []change{{what, ref.ID}}}
	if err := changes.In(ref.Kind.String()).Put(tx, headID, changesRecord{Before: done.last()}); err != nil {
		return stored{}, fmt.Errorf("write changes: %w", err)
	}
	return done, nil
}
