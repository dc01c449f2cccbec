package face

import (
	"context"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/vision"
)

// PersonRef names a person of a group. The ids come from the caller and may have any form: methods refuse ids that are
// not allowed.
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

func (p personRecord) person() Person {
	ids := make([]string, len(p.Faces))
	for i, f := range p.Faces {
		ids[i] = f.String()
	}
	return Person{ID: p.ID.String(), Name: p.Name, UserData: p.UserData, FaceIDs: ids}
}

// CreatePerson adds a person without faces to a group and returns its id. name has 1 to 128 UTF-16 code units, userData
// at most 16,384; nil: none.
//
// Refusals: BadArgument, QuotaExceeded, PersonGroupNotFound and so on, PersonGroupTrainingNotFinished and so on.
func (s *Service) CreatePerson(
	ctx context.Context, res visage.Resource, group Ref, name string, userData *string,
) (string, error) {
	if err := group.want(true); err != nil {
		return "", err
	}
	if err := (Change{Name: &name, UserData: userData}).check(); err != nil {
		return "", err
	}
	p := personRecord{ID: visage.NewUUID(), Name: name, UserData: userData, Enrolled: time.Now().Unix()}
	var c collectionRecord
	var st stateRecord
	err := s.update(ctx, res, func(tx sealed.Tx) (err error) {
		if c, st, err = addPerson(tx, res, group, p); err != nil {
			return err
		}
		return putState(tx, group.Kind, c, &st)
	})
	if err != nil {
		return "", fmt.Errorf("create person: %w", err)
	}
	s.changed(ctx, res, c, st, p)
	return p.ID.String(), nil
}

// addPerson stores a new person, and adds them to the totals and to the state, which the caller writes.
func addPerson(
	tx sealed.Tx, res visage.Resource, group Ref, p personRecord,
) (c collectionRecord, st stateRecord, err error) {
	if c, st, err = findIdle(tx, group); err != nil {
		return c, st, err
	}
	t, err := getTotals(tx)
	if err != nil {
		return c, st, err
	}
	_, each, all := group.Kind.limits(res.Tier)
	if st.Persons >= each {
		return c, st, quotaExceeded("A %s may have at most %d persons.", group.Kind, each)
	}
	if t.Persons[group.Kind] >= all {
		return c, st, quotaExceeded("All of %s together may have at most %d persons in this resource.", group.Kind, all)
	}
	st.Persons++
	st.note(personAdded, p.ID)
	t.Persons[group.Kind]++
	if err := totals.In().Put(tx, totalsID, t); err != nil {
		return c, st, fmt.Errorf("write totals: %w", err)
	}
	if err := persons.In(c.Incarnation.String()).Add(tx, p.ID.String(), p); err != nil {
		return c, st, fmt.Errorf("write person: %w", err)
	}
	return c, st, nil
}

// EnrolPerson adds a person with the one face on a photo to a group, or nobody, and returns the person's id. The
// refusals are those of CreatePerson and AddPersonFace.
func (s *Service) EnrolPerson(
	ctx context.Context, res visage.Resource, group Ref, name string, e Enrolment,
) (string, error) {
	if err := group.want(true); err != nil {
		return "", err
	}
	if err := checkName(name); err != nil {
		return "", err
	}
	var before collectionRecord
	err := s.view(ctx, res, func(r sealed.Reader) (err error) { // before the photo is analysed, which takes long
		before, _, err = findIdle(r, group)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("enrol person: %w", err)
	}
	codes, quality, err := s.enrolAll(ctx, before, e, vision.Quality)
	defer wipe(codes)
	if err != nil {
		return "", fmt.Errorf("enrol person: %w", err)
	}
	p := personRecord{ID: visage.NewUUID(), Name: name}
	p.addFace(visage.NewUUID(), quality)
	var c collectionRecord
	var st stateRecord
	err = s.update(ctx, res, func(tx sealed.Tx) (err error) {
		if c, st, err = addPerson(tx, res, group, p); err != nil {
			return err
		}
		if c.Incarnation != before.Incarnation {
			return group.notFound() // the codes were made for an earlier group of this id
		}
		if err := c.sameSides(before); err != nil {
			return err
		}
		f := faceRecord{ID: p.Faces[0], Person: p.ID}
		return putFace(tx, group.Kind, c, &st, &f, codes, e.UserData)
	})
	if err != nil {
		return "", fmt.Errorf("enrol person: %w", err)
	}
	s.changed(ctx, res, c, st, p)
	s.metrics.enrolled.Inc()
	return p.ID.String(), nil
}

// GetPerson returns a person. Refusals: PersonNotFound, also for an id that is not a UUID. This holds for all methods
// that name a person.
func (s *Service) GetPerson(ctx context.Context, res visage.Resource, ref PersonRef) (Person, error) {
	if err := ref.Group.want(true); err != nil {
		return Person{}, err
	}
	var p personRecord
	err := s.view(ctx, res, func(r sealed.Reader) error {
		c, err := find(r, ref.Group)
		if err != nil {
			return err
		}
		p, err = findPerson(r, c, ref.ID)
		return err
	})
	if err != nil {
		return Person{}, fmt.Errorf("get person: %w", err)
	}
	return p.person(), nil
}

// Persons returns the persons of a group, sorted by id; the result is not nil.
func (s *Service) Persons(ctx context.Context, res visage.Resource, group Ref, page Page) ([]Person, error) {
	if err := group.want(true); err != nil {
		return nil, err
	}
	top, err := page.top()
	if err != nil {
		return nil, err
	}
	var c collectionRecord
	var st stateRecord
	err = s.view(ctx, res, func(r sealed.Reader) (err error) {
		c, st, err = findState(r, group)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list persons: %w", err)
	}
	of := persons.In(c.Incarnation.String())
	found, err := readPage(ctx, s, res, s.contents(ctx, res, group, c, st), page.Start, top,
		func(r sealed.Reader, id string) (Person, error) {
			p, err := of.Get(r, rawText(id))
			return p.person(), err
		})
	if err != nil {
		return nil, fmt.Errorf("list persons: %w", err)
	}
	return found, nil
}

// personLock names the lock for changes of a person.
func personLock(res visage.Resource, ref PersonRef) string {
	return string(res.ID[:]) + ref.Group.Kind.String() + "/" + ref.Group.ID + "/" + ref.ID
}

// changePerson runs changes of a person one after another. change may run twice; it reports whether to write the
// person.
func (s *Service) changePerson(
	ctx context.Context, res visage.Resource, ref PersonRef,
	change func(tx sealed.Tx, c collectionRecord, st *stateRecord, p *personRecord) (write bool, err error),
) error {
	return s.withPerson(ctx, res, ref, func(fn func(sealed.Tx) error) error { return s.update(ctx, res, fn) }, change)
}

// erasePerson is changePerson for deletions.
func (s *Service) erasePerson(
	ctx context.Context, res visage.Resource, ref PersonRef,
	change func(tx sealed.Tx, c collectionRecord, st *stateRecord, p *personRecord) (write bool, err error),
) (receipt sealed.Receipt, err error) {
	err = s.withPerson(ctx, res, ref, func(fn func(sealed.Tx) error) (err error) {
		receipt, err = s.erase(ctx, res, fn)
		return err
	}, change)
	return receipt, err
}

func (s *Service) withPerson(
	ctx context.Context, res visage.Resource, ref PersonRef, commit func(func(sealed.Tx) error) error,
	change func(tx sealed.Tx, c collectionRecord, st *stateRecord, p *personRecord) (write bool, err error),
) error {
	if err := ref.Group.want(true); err != nil {
		return err
	}
	release, err := s.locks.acquire(ctx, personLock(res, ref))
	if err != nil {
		return err
	}
	defer release()
	var c collectionRecord
	var p personRecord
	var st stateRecord
	err = commit(func(tx sealed.Tx) error {
		if c, st, err = findIdle(tx, ref.Group); err != nil {
			return err
		}
		if p, err = findPerson(tx, c, ref.ID); err != nil {
			return err
		}
		write, err := change(tx, c, &st, &p)
		if err != nil || !write {
			return err
		}
		return persons.In(c.Incarnation.String()).Put(tx, ref.ID, p)
	})
	if err == nil {
		s.changed(ctx, res, c, st, p)
	}
	return err
}

// UpdatePerson changes the name or userData of a person.
func (s *Service) UpdatePerson(ctx context.Context, res visage.Resource, ref PersonRef, change Change) error {
	if err := change.check(); err != nil {
		return err
	}
	err := s.changePerson(ctx, res, ref,
		func(tx sealed.Tx, c collectionRecord, st *stateRecord, p *personRecord) (bool, error) {
			before := p.Name
			if change.apply(&p.Name, &p.UserData); p.Name == before {
				return true, nil
			}
			st.note(personRenamed, p.ID)
			return true, putState(tx, ref.Group.Kind, c, st)
		})
	if err != nil {
		return fmt.Errorf("update person: %w", err)
	}
	return nil
}

// DeletePerson removes a person with its faces. A search that begins afterwards does not find it.
func (s *Service) DeletePerson(ctx context.Context, res visage.Resource, ref PersonRef) error {
	_, err := s.ErasePerson(ctx, res, ref)
	return err
}

// ErasePerson is DeletePerson, and says what was erased.
func (s *Service) ErasePerson(ctx context.Context, res visage.Resource, ref PersonRef) (Erasure, error) {
	var gone uuid
	var faces int
	receipt, err := s.erasePerson(ctx, res, ref,
		func(tx sealed.Tx, c collectionRecord, st *stateRecord, p *personRecord) (bool, error) {
			gone, faces = p.ID, len(p.Faces)
			if err := mayDelete(tx, c, ref.ID); err != nil {
				return false, err
			}
			if err := removePerson(tx, ref.Group.Kind, c, st, *p); err != nil {
				return false, err
			}
			return false, putState(tx, ref.Group.Kind, c, st)
		})
	if err != nil {
		return Erasure{}, fmt.Errorf("delete person: %w", err)
	}
	done := s.erased(ctx, res, audit.PersonDelete, ref.Group, receipt,
		map[audit.Detail]string{audit.DetailPerson: gone.String()})
	done.Persons, done.Faces = 1, faces
	return done, nil
}

// removePerson removes a person with its faces, and subtracts them from the totals and from the state, which the caller
// writes.
func removePerson(tx sealed.Tx, kind Kind, c collectionRecord, st *stateRecord, p personRecord) error {
	st.note(personGone, p.ID)
	for _, f := range p.Faces {
		if err := removeFaceRecords(tx, c, st, f); err != nil {
			return err
		}
	}
	t, err := getTotals(tx)
	if err != nil {
		return err
	}
	t.Persons[kind]--
	if err := totals.In().Put(tx, totalsID, t); err != nil {
		return fmt.Errorf("write totals: %w", err)
	}
	st.Persons--
	of := c.Incarnation.String()
	if err := remove(tx, matched.In(of), p.ID.String()); err != nil {
		return err
	}
	return remove(tx, persons.In(of), p.ID.String())
}

// AddPersonFace adds the one face on a photo to a person and returns its persisted face id. The refusals are those of
// AddFace and GetPerson.
func (s *Service) AddPersonFace(ctx context.Context, res visage.Resource, ref PersonRef, e Enrolment) (string, error) {
	if err := ref.Group.want(true); err != nil {
		return "", err
	}
	most := res.Tier.Limits().FacesPerPerson
	room := func(p personRecord) error {
		if len(p.Faces) >= most {
			return quotaExceeded("A person may have at most %d faces.", most)
		}
		return nil
	}
	var before collectionRecord
	err := s.view(ctx, res, func(r sealed.Reader) (err error) { // before the photo is analysed, which takes long
		if before, _, err = findIdle(r, ref.Group); err != nil {
			return err
		}
		p, err := findPerson(r, before, ref.ID)
		if err != nil {
			return err
		}
		return room(p)
	})
	if err != nil {
		return "", fmt.Errorf("add face to person: %w", err)
	}
	f := faceRecord{ID: visage.NewUUID()}
	codes, quality, err := s.enrolAll(ctx, before, e, vision.Quality)
	defer wipe(codes)
	if err != nil {
		return "", fmt.Errorf("add face to person: %w", err)
	}
	err = s.changePerson(ctx, res, ref,
		func(tx sealed.Tx, c collectionRecord, st *stateRecord, p *personRecord) (bool, error) {
			// Person ids are random, so this is the person that was found above, in the same incarnation of the group.
			if err := room(*p); err != nil {
				return false, err
			}
			if err := c.sameSides(before); err != nil {
				return false, err
			}
			f.Person = p.ID
			p.addFace(f.ID, quality)
			return true, putFace(tx, ref.Group.Kind, c, st, &f, codes, e.UserData)
		})
	if err != nil {
		return "", fmt.Errorf("add face to person: %w", err)
	}
	s.metrics.enrolled.Inc()
	return f.ID.String(), nil
}

// GetPersonFace returns one face of a person. Refusals: PersistedFaceNotFound, also for a face id that is not a UUID.
func (s *Service) GetPersonFace(
	ctx context.Context, res visage.Resource, ref PersonRef, faceID string,
) (PersistedFace, error) {
	if err := ref.Group.want(true); err != nil {
		return PersistedFace{}, err
	}
	var face PersistedFace
	err := s.view(ctx, res, func(r sealed.Reader) error {
		c, err := find(r, ref.Group)
		if err != nil {
			return err
		}
		p, err := findPerson(r, c, ref.ID)
		if err != nil {
			return err
		}
		f, err := findFace(r, c, p.ID, faceID)
		if err != nil {
			return err
		}
		face, err = persisted(r, c, f)
		return err
	})
	if err != nil {
		return PersistedFace{}, fmt.Errorf("get face of person: %w", err)
	}
	return face, nil
}

// UpdatePersonFace sets the userData of a face of a person; nil leaves it as it is.
func (s *Service) UpdatePersonFace(
	ctx context.Context, res visage.Resource, ref PersonRef, faceID string, data *string,
) error {
	if err := checkUserData(data, mostFaceUserData); err != nil {
		return err
	}
	err := s.changePerson(ctx, res, ref,
		func(tx sealed.Tx, c collectionRecord, _ *stateRecord, p *personRecord) (bool, error) {
			f, err := findFace(tx, c, p.ID, faceID)
			if err != nil || data == nil {
				return false, err
			}
			return false, userData.In(c.Incarnation.String()).Put(tx, f.ID.String(), userDataRecord{UserData: *data})
		})
	if err != nil {
		return fmt.Errorf("update face of person: %w", err)
	}
	return nil
}

// DeletePersonFace removes a face of a person. A search that begins afterwards does not find it.
func (s *Service) DeletePersonFace(ctx context.Context, res visage.Resource, ref PersonRef, faceID string) error {
	_, err := s.ErasePersonFace(ctx, res, ref, faceID)
	return err
}

// ErasePersonFace is DeletePersonFace, and says what was erased.
func (s *Service) ErasePersonFace(
	ctx context.Context, res visage.Resource, ref PersonRef, faceID string,
) (Erasure, error) {
	var gone uuid
	receipt, err := s.erasePerson(ctx, res, ref,
		func(tx sealed.Tx, c collectionRecord, st *stateRecord, p *personRecord) (bool, error) {
			f, err := findFace(tx, c, p.ID, faceID)
			if err != nil {
				return false, err
			}
			if err := mayDelete(tx, c, ref.ID); err != nil {
				return false, err
			}
			gone = f.ID
			p.dropFaces(f.ID)
			if err := removeFace(tx, c, st, f.ID); err != nil {
				return false, err
			}
			return true, putState(tx, ref.Group.Kind, c, st)
		})
	if err != nil {
		return Erasure{}, fmt.Errorf("delete face of person: %w", err)
	}
	done := s.erased(ctx, res, audit.FaceDelete, ref.Group, receipt,
		map[audit.Detail]string{audit.DetailPerson: ref.ID, audit.DetailFace: gone.String()})
	done.Faces = 1
	return done, nil
}
