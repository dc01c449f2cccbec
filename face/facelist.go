package face

import (
	"context"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// AddFace adds the one face on a photo to a face list and returns its persisted face id.
// Refusals: BadArgument, InvalidImage, InvalidImageSize, QuotaExceeded, FaceListNotFound and so on,
// LargeFaceListTrainingNotFinished.
func (s *Service) AddFace(ctx context.Context, res visage.Resource, list Ref, e Enrolment) (string, error) {
	if err := list.want(false); err != nil {
		return "", err
	}
	check := func(r sealed.Reader) (collectionRecord, stateRecord, error) {
		c, st, err := findIdle(r, list)
		if err != nil {
			return c, st, err
		}
		if _, most, _ := list.Kind.limits(res.Tier); st.Faces >= most {
			return c, st, quotaExceeded("A %s may have at most %d faces.", list.Kind, most)
		}
		return c, st, nil
	}
	var c collectionRecord
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		c, _, err = check(r) // before the photo is analysed, which takes long
		return err
	})
	if err != nil {
		return "", fmt.Errorf("add face to %s: %w", list.Kind, err)
	}
	f := faceRecord{ID: visage.NewUUID()}
	codes, _, err := s.enrolAll(ctx, c, e, 0)
	defer wipe(codes)
	if err != nil {
		return "", fmt.Errorf("add face to %s: %w", list.Kind, err)
	}
	var st stateRecord
	err = s.update(ctx, res, func(tx sealed.Tx) error {
		now, is, err := check(tx)
		if err != nil {
			return err
		}
		st = is
		if now.Incarnation != c.Incarnation {
			return list.notFound() // the code was made for an earlier list of this id
		}
		if err := now.sameSides(c); err != nil {
			return err
		}
		return putFace(tx, list.Kind, now, &st, &f, codes, e.UserData)
	})
	if err != nil {
		return "", fmt.Errorf("add face to %s: %w", list.Kind, err)
	}
	s.metrics.enrolled.Inc()
	s.changed(ctx, res, c, st)
	return f.ID.String(), nil
}

// Faces returns the faces of a list, sorted by id; the result is not nil.
func (s *Service) Faces(ctx context.Context, res visage.Resource, list Ref, p Page) ([]PersistedFace, error) {
	if err := list.want(false); err != nil {
		return nil, err
	}
	top, err := p.top()
	if err != nil {
		return nil, err
	}
	var c collectionRecord
	var st stateRecord
	err = s.view(ctx, res, func(r sealed.Reader) (err error) {
		c, st, err = findState(r, list)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list faces: %w", err)
	}
	page, err := readPage(ctx, s, res, s.contents(ctx, res, list, c, st), p.Start, top,
		func(r sealed.Reader, id string) (PersistedFace, error) {
			there, err := c.faces().Has(r, rawText(id))
			if err == nil && !there { // a migration may have ended since
				if c, err = find(r, list); err == nil {
					there, err = c.faces().Has(r, rawText(id))
				}
			}
			if err == nil && !there {
				err = sealed.ErrNotFound
			}
			if err != nil {
				return PersistedFace{}, err
			}
			return persisted(r, c, faceRecord{ID: uuid([]byte(id))})
		})
	if err != nil {
		return nil, fmt.Errorf("list faces: %w", err)
	}
	return page, nil
}

// GetFace returns one face of a list. Refusals: PersistedFaceNotFound, also for a face id that is not a UUID. This
// holds for all methods that name a face.
func (s *Service) GetFace(ctx context.Context, res visage.Resource, list Ref, faceID string) (PersistedFace, error) {
	if err := list.want(false); err != nil {
		return PersistedFace{}, err
	}
	var face PersistedFace
	err := s.view(ctx, res, func(r sealed.Reader) error {
		c, err := find(r, list)
		if err != nil {
			return err
		}
		f, err := findFace(r, c, uuid{}, faceID)
		if err != nil {
			return err
		}
		face, err = persisted(r, c, f)
		return err
	})
	if err != nil {
		return PersistedFace{}, fmt.Errorf("get face: %w", err)
	}
	return face, nil
}

// UpdateFace sets the userData of a face of a list; nil leaves it as it is.
func (s *Service) UpdateFace(ctx context.Context, res visage.Resource, list Ref, faceID string, data *string) error {
	if err := list.want(false); err != nil {
		return err
	}
	if err := checkUserData(data, mostFaceUserData); err != nil {
		return err
	}
	err := s.update(ctx, res, func(tx sealed.Tx) error {
		c, _, err := findIdle(tx, list)
		if err != nil {
			return err
		}
		f, err := findFace(tx, c, uuid{}, faceID)
		if err != nil || data == nil {
			return err
		}
		return userData.In(c.Incarnation.String()).Put(tx, f.ID.String(), userDataRecord{UserData: *data})
	})
	if err != nil {
		return fmt.Errorf("update face: %w", err)
	}
	return nil
}

// DeleteFace removes a face from a list. A search that begins afterwards does not find it.
func (s *Service) DeleteFace(ctx context.Context, res visage.Resource, list Ref, faceID string) error {
	_, err := s.EraseFace(ctx, res, list, faceID)
	return err
}

// EraseFace is DeleteFace, and says what was erased.
func (s *Service) EraseFace(ctx context.Context, res visage.Resource, list Ref, faceID string) (Erasure, error) {
	if err := list.want(false); err != nil {
		return Erasure{}, err
	}
	var c collectionRecord
	var st stateRecord
	var f faceRecord
	receipt, err := s.erase(ctx, res, func(tx sealed.Tx) (err error) {
		if c, st, err = findIdle(tx, list); err != nil {
			return err
		}
		if f, err = findFace(tx, c, uuid{}, faceID); err != nil {
			return err
		}
		if err := mayDelete(tx, c, faceID); err != nil {
			return err
		}
		if err := removeFace(tx, c, &st, f.ID); err != nil {
			return err
		}
		return putState(tx, list.Kind, c, &st)
	})
	if err != nil {
		return Erasure{}, fmt.Errorf("delete face: %w", err)
	}
	s.changed(ctx, res, c, st)
	done := s.erased(ctx, res, audit.FaceDelete, list, receipt,
		map[audit.Detail]string{audit.DetailFace: f.ID.String()})
	done.Faces = 1
	return done, nil
}
