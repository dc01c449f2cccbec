package face

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Keep says until when a person, or a face of a list, is kept.
type Keep struct {
	// LastMatch is the end of the day, UTC, on which the person or face was last recognised. It is recorded only for
	// retentions that count from SinceMatch; zero: not recorded.
	LastMatch time.Time
	// Ends is when the retention ends, after which the next hourly sweep erases the person or face; zero: never.
	Ends time.Time
	// Held reports a legal hold on the person or face, its group or list, or the resource: nothing is erased.
	Held bool
}

// PersonDetails is a person with what is recorded about it. No photos are kept.
type PersonDetails struct {
	Person
	Faces    []EnrolledFace // in the order of FaceIDs, not nil
	Enrolled time.Time      // when a face was added last or, without faces, the person was created; zero: not recorded
	Keep     Keep
}

// EnrolledFace is a face of a person with what is recorded about it. It keeps both through a migration, whose photo
// replaces the template.
type EnrolledFace struct {
	PersistedFace
	Added   time.Time // when it was added; zero: not recorded
	Quality Grade     // for recognition, on the photo it was enrolled with; Ungraded: not recorded, or not measured
}

// PersonDetails returns a person with its faces.
func (s *Service) PersonDetails(ctx context.Context, res visage.Resource, ref PersonRef) (PersonDetails, error) {
	if err := ref.Group.want(true); err != nil {
		return PersonDetails{}, err
	}
	var d PersonDetails
	err := s.view(ctx, res, func(r sealed.Reader) error {
		c, err := find(r, ref.Group)
		if err != nil {
			return err
		}
		p, err := findPerson(r, c, ref.ID)
		if err != nil {
			return err
		}
		d = PersonDetails{Person: p.person(), Enrolled: p.enrolledAt().UTC()}
		d.Faces = make([]EnrolledFace, len(p.Faces))
		for i, id := range p.Faces {
			f := &d.Faces[i]
			if f.PersistedFace, err = persisted(r, c, faceRecord{ID: id}); err != nil {
				return err
			}
			if len(p.Enrolments) > 0 && p.Enrolments[i].Added != 0 {
				f.Added, f.Quality = time.Unix(p.Enrolments[i].Added, 0).UTC(), p.Enrolments[i].Quality
			}
		}
		e, err := expiryOf(r, res, ref.Group, c)
		if err != nil {
			return err
		}
		d.Keep, err = e.keep(r, p.enrolledAt(), p.ID)
		return err
	})
	if err != nil {
		return PersonDetails{}, fmt.Errorf("read person: %w", err)
	}
	return d, nil
}

// ListedFace is a face of a list with what is recorded about it.
type ListedFace struct {
	PersistedFace
	Enrolled time.Time // the end of the day, UTC, on which it was added; zero: not recorded
	Keep     Keep
}

// ListedFaces is Faces with what is recorded about each.
func (s *Service) ListedFaces(ctx context.Context, res visage.Resource, list Ref, p Page) ([]ListedFace, error) {
	found, err := s.Faces(ctx, res, list, p)
	if err != nil {
		return nil, err
	}
	page := make([]ListedFace, 0, len(found))
	err = s.view(ctx, res, func(r sealed.Reader) error {
		page = page[:0]
		c, err := find(r, list)
		if err != nil {
			return err
		}
		e, err := expiryOf(r, res, list, c)
		if err != nil {
			return err
		}
		for _, is := range found {
			f, err := c.faces().Get(r, is.ID)
			if errors.Is(err, sealed.ErrNotFound) {
				continue // it was deleted since
			}
			if err != nil {
				return fmt.Errorf("read face: %w", err)
			}
			clear(f.Code)
			l := ListedFace{PersistedFace: is, Enrolled: e.faceEnrolledAt(f).UTC()}
			if l.Keep, err = e.keep(r, l.Enrolled, f.ID); err != nil {
				return err
			}
			page = append(page, l)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list faces: %w", err)
	}
	return page, nil
}

// expiryOf returns a collection with its retention, whose days are 0 when there is none.
func expiryOf(r sealed.Reader, res visage.Resource, ref Ref, c collectionRecord) (expiry, error) {
	e := expiry{res: res, ref: ref, of: c.Incarnation, faces: c.faces()}
	rule, err := rules(r)
	if err != nil {
		return e, err
	}
	e.retention = rule.of(c.Incarnation)
	if !ref.Kind.isGroup() {
		e.days, err = enrolmentDays(r, c.Incarnation)
	}
	return e, err
}

// keep returns until when a person or face is kept, given when it was enrolled.
func (e *expiry) keep(r sealed.Reader, when time.Time, id uuid) (k Keep, err error) {
	if k.Held, err = isHeld(r, e.of, id.String()); err != nil {
		return k, err
	}
	m, err := matched.In(e.of.String()).Get(r, id.String())
	switch {
	case err == nil:
		k.LastMatch = dayEnd(m.Day).UTC()
	case !errors.Is(err, sealed.ErrNotFound):
		return k, fmt.Errorf("read a match: %w", err)
	}
	if e.retention.Days == 0 {
		return k, nil
	}
	from, err := e.from(r, when, id)
	k.Ends = from.Add(time.Duration(e.retention.Days) * day).UTC()
	return k, err
}
