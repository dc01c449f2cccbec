package face

import (
	"context"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// IdentifyQuery says which faces to look for, and where (contract §5.2). Exactly one of the four scopes must be given;
// empty or nil means not given.
type IdentifyQuery struct {
	FaceIDs              []string // 1 to 10
	PersonGroupID        string
	LargePersonGroupID   string
	DynamicPersonGroupID string
	PersonIDs            []string // 1 to 30 persons of the directory, or {"*"}; a list that is not nil counts as given
	MaxCandidates        int      // for each face, 1 to 100; the default differs by API version, so the caller sets it
	Threshold            *float64 // the least confidence of a candidate, 0 to 1; nil: the model's default
}

// Identified holds the persons that a query face may show.
type Identified struct {
	FaceID     string
	Candidates []Candidate // best first, not nil, possibly empty
}

// Candidate is a person that was found, with the confidence of the nearest of its faces.
type Candidate struct {
	PersonID   string
	Confidence float64 // 0 to 1, five decimals
}

const (
	mostProbes     = 10
	mostCandidates = 100
	mostPersonIDs  = 30
)

// scope returns the group to search.
func (q IdentifyQuery) scope() (Ref, error) {
	groups, directory := 0, 0
	for _, id := range []string{q.PersonGroupID, q.LargePersonGroupID} {
		if id != "" {
			groups++
		}
	}
	if q.DynamicPersonGroupID != "" {
		directory++
	}
	if q.PersonIDs != nil {
		directory++
	}
	ref := Ref{Kind: PersonGroup, ID: q.PersonGroupID}
	if q.LargePersonGroupID != "" {
		ref = Ref{Kind: LargePersonGroup, ID: q.LargePersonGroupID}
	}
	switch {
	case groups+directory == 1 && groups == 1:
		if !validID(ref.ID) {
			return ref, badArgument("The group id %q is not valid: use 1 to 64 of the characters a-z, 0-9, - and "+
				"_.", printable(ref.ID))
		}
		return ref, nil
	case groups == 2 && directory == 0:
		return ref, visage.Refuse(visage.Invalid, "PersonGroupIdAndLargePersonGroupIdBothNotNull",
			"Give personGroupId or largePersonGroupId, not both.")
	case groups == 0 && directory == 0:
		return ref, visage.Refuse(visage.Invalid, "PersonGroupIdAndLargePersonGroupIdBothNull",
			"Give a personGroupId or a largePersonGroupId.")
	case groups+directory > 1:
		return ref, visage.Refuse(visage.Invalid, "IncompatibleIdentificationScopeParametersCombination",
			"Give exactly one of personGroupId, largePersonGroupId, dynamicPersonGroupId and personIds.")
	}
	return ref, q.checkDirectory()
}

// checkDirectory refuses a search in the person directory, which is always empty.
func (q IdentifyQuery) checkDirectory() error {
	if id := q.DynamicPersonGroupID; id != "" {
		if !validID(id) {
			return badArgument("The group id %q is not valid: use 1 to 64 of the characters a-z, 0-9, - and "+
				"_.", printable(id))
		}
		return visage.Refuse(visage.Invalid, "DynamicPersonGroupNotFound", "There is no dynamic person group %q.", id)
	}
	if len(q.PersonIDs) == 0 {
		return visage.Refuse(visage.Invalid, "MissingIdentificationScopeParameters", "personIds is empty.")
	}
	if err := between("The number of personIds", len(q.PersonIDs), 1, mostPersonIDs); err != nil {
		return err
	}
	if len(q.PersonIDs) > 1 || q.PersonIDs[0] != "*" {
		if err := checkIDs("person", q.PersonIDs...); err != nil {
			return err
		}
	}
	return noDirectory(q.PersonIDs[0])
}

// check refuses values that are not allowed and returns the group to search.
func (q IdentifyQuery) check() (Ref, error) {
	if err := between("The number of faceIds", len(q.FaceIDs), 1, mostProbes); err != nil {
		return Ref{}, err
	}
	if err := checkIDs("face", q.FaceIDs...); err != nil {
		return Ref{}, err
	}
	return q.checkSearch()
}

// checkSearch is check without the faces.
func (q IdentifyQuery) checkSearch() (Ref, error) {
	if err := between("maxNumOfCandidatesReturned", q.MaxCandidates, 1, mostCandidates); err != nil {
		return Ref{}, err
	}
	if t := q.Threshold; t != nil && !(*t >= 0 && *t <= 1) {
		return Ref{}, badArgument("confidenceThreshold must be 0 to 1, not %g.", *t)
	}
	return q.scope()
}

// Identify finds, for each query face in the order of the request, the persons of a group that it may show. The group
// is searched as it was at its last successful training, without what was deleted since.
//
// Refusals: BadArgument; FaceNotFound, PersonGroupNotFound and so on, PersonGroupNotTrained and so on, all of kind
// Invalid; PersonGroupTrainingNotFinished and so on; the codes of contract §5.2 for a wrong combination of scopes.
func (s *Service) Identify(ctx context.Context, res visage.Resource, q IdentifyQuery) ([]Identified, error) {
	group, err := q.check()
	if err != nil {
		return nil, err
	}
	var answer []Identified
	err = again(func() error {
		answer, err = s.identify(ctx, res, group, q)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("identify: %w", err)
	}
	return answer, nil
}

func (s *Service) identify(
	ctx context.Context, res visage.Resource, group Ref, q IdentifyQuery,
) ([]Identified, error) {
	var c collectionRecord
	var m Recogniser
	var st stateRecord
	var probes []detectionRecord
	defer forget(&probes)
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		if c, st, err = findState(r, group); err != nil {
			return asInvalid(err)
		}
		if probes, err = s.probes(r, visage.Invalid, q.FaceIDs...); err != nil {
			return err
		}
		if c, m, err = s.comparable(c, probes...); err != nil {
			return err
		}
		return st.searchable(group)
	})
	if err != nil {
		return nil, err
	}
	found, err := s.candidates(ctx, res, group, c, m, st, probes, q)
	if err != nil {
		return nil, err
	}
	answer := make([]Identified, len(found))
	for i := range found {
		answer[i] = Identified{FaceID: q.FaceIDs[i], Candidates: found[i]}
	}
	return answer, nil
}

// candidates searches a trained group and returns the candidates for each probe, not nil.
func (s *Service) candidates(
	ctx context.Context, res visage.Resource, group Ref, c collectionRecord, m Recogniser, st stateRecord,
	probes []detectionRecord, q IdentifyQuery,
) ([][]Candidate, error) {
	query := gallery.Query{K: q.MaxCandidates, ByOwner: true}
	for _, p := range probes {
		query.Probes = append(query.Probes, p.code())
	}
	// The more faces are searched, the likelier is one that resembles a stranger.
	threshold := func(faces int) float64 {
		if q.Threshold != nil {
			return *q.Threshold
		}
		return m.Threshold(faces)
	}
	found, faces, err := s.search(ctx, res, group, c, st, st.Trained, query, func(faces int) float32 {
		return within(m, threshold(faces))
	})
	if err != nil {
		return nil, asInvalid(err) // the group may have been deleted since it was read
	}
	least := threshold(faces)
	answer := make([][]Candidate, len(found))
	for i, matches := range found {
		answer[i] = []Candidate{}
		for k, match := range matches {
			if k == 0 && confidence(m, match.Distance) >= samePerson {
				s.matches.add(res.ID, group, c.Incarnation, uuid(match.Owner))
			}
			if score := confidence(m, match.Distance); score >= least {
				answer[i] = append(answer[i], Candidate{uuid(match.Owner).String(), score})
			}
		}
	}
	return answer, nil
}
