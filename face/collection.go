package face

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Kind says which of the contract's four collections is meant. Face lists hold faces; person groups hold persons who
// hold faces. The numbers are stored.
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

// limits returns how many collections of the kind a resource may have, and how many faces (of a list) or persons (of a
// group) each may hold, and all groups of the kind together.
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

// Ref names a list or a group of a resource. The id is the caller's, of any shape: methods refuse what does not fit.
type Ref struct {
	Kind Kind
	ID   string
}

// want reports a call that this program itself got wrong: a method for lists called with a group, or the reverse.
func (ref Ref) want(group bool) error {
	if ref.Kind < FaceList || ref.Kind > LargePersonGroup || ref.Kind.isGroup() != group {
		return fmt.Errorf("a %s where another kind of collection is needed", ref.Kind)
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

// Creation is what a list or group is made with.
type Creation struct {
	Name             string  // 1 to 128 UTF-16 code units
	UserData         *string // at most 16,384 UTF-16 code units; nil: none
	RecognitionModel string  // empty: DefaultRecognitionModel. It cannot change later
}

// Change is what an update changes; nil leaves a field as it is. The limits are those of Creation.
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
	Faces            []PersistedFace // of a small face list that Get read, sorted by id and not nil then; else nil
}

// PersistedFace is a face in a list, or of a person.
type PersistedFace struct {
	ID       string  // a UUID
	UserData *string // nil: never set
}

func (c collectionRecord) collection() Collection {
	return Collection{ID: c.ID, Name: c.Name, UserData: c.UserData, RecognitionModel: c.Model}
}

// Create makes an empty list or group. It never replaces one.
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
		if err := putState(tx, ref.Kind, record, stateRecord{}); err != nil {
			return err
		}
		return all.Put(tx, ref.ID, record)
	})
	if err != nil {
		return fmt.Errorf("create %s: %w", ref.Kind, err)
	}
	s.orders.change(order, idChange{id: ref.ID, added: true})
	return nil
}

// Get returns a list or group; a small face list with its faces.
// Refusals: FaceListNotFound and so on, also for an id of the wrong shape; so it is in all methods that name one.
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

// Update changes the name or userData of a list or group. Refusals: BadArgument, also for a large one when nothing is
// to be changed, and LargeFaceListTrainingNotFinished and so on.
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

// Delete removes a list or group with everything in it, at once for every reader. A later Create of the same id starts
// empty. What was in it is dropped from the store by Run. Refusals: LargeFaceListTrainingNotFinished and so on.
func (s *Service) Delete(ctx context.Context, res visage.Resource, ref Ref) error {
	order := collectionsOrder(res, ref.Kind)
	release, err := s.locks.acquire(ctx, order+ref.ID)
	if err != nil {
		return err
	}
	defer release()
	var record collectionRecord
	receipt, err := s.erase(ctx, res, func(tx sealed.Tx) error {
		var st stateRecord
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
				continue // they lie under the incarnation
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
		return remove(tx, collections.In(ref.Kind.String()), ref.ID)
	})
	if err != nil {
		return fmt.Errorf("delete %s: %w", ref.Kind, err)
	}
	for _, side := range record.sides() {
		s.galleries.Drop(scope(res, side), nil)
	}
	s.orders.change(order, idChange{id: ref.ID})
	s.orders.forget(contentsOrder(res, record))
	s.sweeps.add(res.ID)
	s.told(ctx, res, Erasure{What: ErasedGroup, Ref: ref, Receipt: receipt})
	return nil
}

// List returns the lists or groups of a kind, sorted by id, without their faces; the result is not nil.
func (s *Service) List(ctx context.Context, res visage.Resource, kind Kind, p Page) ([]Collection, error) {
	top, err := p.top()
	if err != nil {
		return nil, err
	}
	all := collections.In(kind.String())
	listed := listing{
		lease: s.space(res).Lease(), name: collectionsOrder(res, kind), text: func(id string) string { return id },
		scan: func(add func(string)) error {
			return s.view(ctx, res, func(r sealed.Reader) error {
				for c, err := range all.All(r) {
					if err != nil {
						return err
					}
					add(c.ID)
				}
				return nil
			})
		},
	}
	page, err := readPage(ctx, s, res, listed, p.Start, top, func(r sealed.Reader, id string) (Collection, error) {
		c, err := all.Get(r, id)
		return c.collection(), err
	})
	if err != nil {
		return nil, fmt.Errorf("list every %s: %w", kind, err)
	}
	return page, nil
}

// collectionsOrder names the order of the collections of a kind.
func collectionsOrder(res visage.Resource, kind Kind) string {
	return string(res.ID[:]) + kind.String() + "/"
}

// contentsOrder names the order of the persons of a group, or the faces of a list.
func contentsOrder(res visage.Resource, c collectionRecord) string {
	return string(res.ID[:]) + string(c.Incarnation[:])
}

// readPage returns what get makes of the first top ids after start. An id whose record has gone since is passed over.
func readPage[T any](
	ctx context.Context, s *Service, res visage.Resource, l listing, start string, top int,
	get func(r sealed.Reader, id string) (T, error),
) ([]T, error) {
	page := []T{}
	for len(page) < top {
		wanted := top - len(page)
		ids, err := s.orders.after(ctx, l, start, wanted)
		if err != nil {
			return nil, ended(l.lease, err)
		}
		err = s.view(ctx, res, func(r sealed.Reader) error {
			for _, id := range ids {
				item, err := get(r, id)
				if errors.Is(err, sealed.ErrNotFound) {
					continue
				}
				if err != nil {
					return err
				}
				page = append(page, item)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(ids) < wanted {
			break
		}
		start = l.text(ids[len(ids)-1])
	}
	return page, nil
}

// ended turns the error of work that the end of a space's lease cut short into what any request gets from then on.
func ended(lease context.Context, err error) error {
	cause := context.Cause(lease)
	if cause == nil || errors.Is(cause, sealed.ErrClosed) || errors.Is(cause, sealed.ErrNoSpace) {
		return outcome(err)
	}
	return outcome(fmt.Errorf("%w: %w", sealed.ErrLocked, cause))
}
