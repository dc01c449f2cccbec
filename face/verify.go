package face

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// VerifyQuery says what Verify compares (contract §5.1): FaceID1 with FaceID2, or FaceID with PersonID in one of the
// two groups or, without a group, in the person directory. Empty means not given.
type VerifyQuery struct {
	FaceID1, FaceID2   string
	FaceID, PersonID   string
	PersonGroupID      string
	LargePersonGroupID string
}

// Verdict is the answer of Verify.
type Verdict struct {
	Identical  bool    // Confidence is at least 0.5
	Confidence float64 // 0 to 1, five decimals
}

// Verify reports whether two faces show one person. Of a person with several faces, the nearest is compared. Groups
// need not be trained.
//
// Refusals: BadArgument; PersonGroupNotFound, LargePersonGroupNotFound and PersonNotFound of kind Invalid;
// FaceNotFound, PersistedFaceNotFound and, for the directory, PersonNotFound of kind NotFound.
func (s *Service) Verify(ctx context.Context, res visage.Resource, q VerifyQuery) (Verdict, error) {
	faces := q.FaceID1 != "" || q.FaceID2 != ""
	person := q.FaceID != "" || q.PersonID != "" || q.PersonGroupID != "" || q.LargePersonGroupID != ""
	var verdict Verdict
	var err error
	switch {
	case faces == person:
		return Verdict{}, badArgument("Give either faceId1 and faceId2, or faceId and personId with at most one group.")
	case faces:
		verdict, err = s.verifyFaces(ctx, res, q.FaceID1, q.FaceID2)
	default:
		verdict, err = s.verifyPerson(ctx, res, q)
	}
	if err != nil {
		return Verdict{}, fmt.Errorf("verify: %w", err)
	}
	return verdict, nil
}

func (s *Service) verifyFaces(ctx context.Context, res visage.Resource, id1, id2 string) (Verdict, error) {
	if err := checkIDs("face", id1, id2); err != nil {
		return Verdict{}, err
	}
	var probes []detectionRecord
	defer forget(&probes)
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		probes, err = s.probes(r, visage.NotFound, id1, id2)
		return err
	})
	if err != nil {
		return Verdict{}, err
	}
	if err := sameModel(probes[0].Model, probes[0].Networks, probes[1]); err != nil {
		return Verdict{}, err
	}
	return s.verdict(probes[0], probes[1].code())
}

func (s *Service) verifyPerson(ctx context.Context, res visage.Resource, q VerifyQuery) (Verdict, error) {
	if err := checkIDs("face", q.FaceID); err != nil {
		return Verdict{}, err
	}
	if err := checkIDs("person", q.PersonID); err != nil {
		return Verdict{}, err
	}
	group := Ref{Kind: PersonGroup, ID: q.PersonGroupID}
	if q.LargePersonGroupID != "" {
		group = Ref{Kind: LargePersonGroup, ID: q.LargePersonGroupID}
	}
	switch {
	case q.PersonGroupID != "" && q.LargePersonGroupID != "":
		return Verdict{}, badArgument("Give personGroupId or largePersonGroupId, not both.")
	case group.ID != "" && !validID(group.ID):
		return Verdict{}, badArgument("The group id %q is not valid: use 1 to 64 of the characters a-z, 0-9, - "+
			"and _.", printable(group.ID))
	}
	var c collectionRecord
	var person uuid
	var probes []detectionRecord
	var codes []gallery.Code
	defer func() {
		forget(&probes)
		wipe(codes)
	}()
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		if probes, err = s.probes(r, visage.NotFound, q.FaceID); err != nil {
			return err
		}
		if group.ID == "" {
			return noDirectory(q.PersonID)
		}
		if c, err = find(r, group); err != nil {
			return asInvalid(err)
		}
		p, err := findPerson(r, c, q.PersonID)
		if err != nil {
			return asInvalid(err)
		}
		side, _, err := s.comparable(c, probes...)
		if err != nil {
			return err
		}
		wipe(codes)
		person, codes = p.ID, nil
		for _, id := range p.Faces {
			f, err := side.faces().Get(r, id.String())
			if side.templates() != c.templates() && errors.Is(err, sealed.ErrNotFound) {
				continue // its photo has not been sent yet
			}
			if err != nil {
				return fmt.Errorf("read face of person: %w", noLonger(err))
			}
			codes = append(codes, f.Code)
		}
		return nil
	})
	if err != nil {
		return Verdict{}, err
	}
	if len(codes) == 0 {
		return Verdict{}, visage.Refuse(visage.NotFound, "PersistedFaceNotFound", "The person %s has no face "+
			"that was enrolled with this model.", q.PersonID)
	}
	v, err := s.verdict(probes[0], codes...)
	if v.Identical {
		s.matches.add(res.ID, group, c.Incarnation, person)
	}
	return v, err
}

// verdict compares a probe with the nearest of some codes of its model.
func (s *Service) verdict(probe detectionRecord, codes ...gallery.Code) (Verdict, error) {
	m := s.packs[probe.Networks]
	ranked, err := rank(probe.code(), codes, 1)
	if err != nil {
		return Verdict{}, err
	}
	c := confidence(m, ranked[0].distance)
	return Verdict{Identical: c >= samePerson, Confidence: c}, nil
}

// noLonger makes an internal error of the absence of a record that another record names, so that it is not answered as
// an unknown id.
func noLonger(err error) error {
	if errors.Is(err, sealed.ErrNotFound) {
		return errors.New("a record is missing that another names")
	}
	return err
}

// noDirectory is the refusal for persons of the person directory, which is always empty: the stable contract cannot add
// persons to it.
func noDirectory(id string) error {
	return visage.Refuse(visage.NotFound, "PersonNotFound", "There is no person %q in the person directory.",
		printable(id))
}
