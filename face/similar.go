package face

import (
	"context"
	"fmt"
	"slices"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// The modes of FindSimilar.
const (
	MatchPerson = "matchPerson" // only faces with a confidence of at least 0.5
	MatchFace   = "matchFace"   // the most similar faces, whatever their confidence
)

// SimilarQuery says which face to look for, and among which (contract §5.3). Exactly one of the three sources must be
// given.
type SimilarQuery struct {
	FaceID          string
	FaceIDs         []string // 1 to 1,000 detected faces; a list that is not nil counts as given
	FaceListID      string
	LargeFaceListID string
	MaxCandidates   *int   // 1 to 1,000; nil: 20
	Mode            string // MatchPerson or MatchFace; empty: MatchPerson
}

// Similar is a face that was found: either a detected face or one of a list. The other id is empty.
type Similar struct {
	FaceID          string
	PersistedFaceID string
	Confidence      float64 // 0 to 1, five decimals
}

const (
	mostSimilar    = 1_000
	defaultSimilar = 20
)

// check refuses values that are not allowed. It returns the list to search, zero for detected faces, and the largest
// number of results.
func (q SimilarQuery) check() (list Ref, most int, err error) {
	if err := checkIDs("face", q.FaceID); err != nil {
		return Ref{}, 0, err
	}
	return q.checkSearch()
}

// checkSearch is check without the query face.
func (q SimilarQuery) checkSearch() (list Ref, most int, err error) {
	sources := 0
	if q.FaceIDs != nil {
		sources++
	}
	if q.FaceListID != "" {
		sources++
		list = Ref{Kind: FaceList, ID: q.FaceListID}
	}
	if q.LargeFaceListID != "" {
		sources++
		list = Ref{Kind: LargeFaceList, ID: q.LargeFaceListID}
	}
	if sources != 1 {
		return Ref{}, 0, badArgument("Give exactly one of faceIds, faceListId and largeFaceListId.")
	}
	if q.FaceIDs != nil {
		if err := between("The number of faceIds", len(q.FaceIDs), 1, mostSimilar); err != nil {
			return Ref{}, 0, err
		}
		if err := checkIDs("face", q.FaceIDs...); err != nil {
			return Ref{}, 0, err
		}
	} else if !validID(list.ID) {
		return Ref{}, 0, badArgument("The list id %q is not valid: use 1 to 64 of the characters a-z, 0-9, - and "+
			"_.", printable(list.ID))
	}
	if q.Mode != "" && q.Mode != MatchPerson && q.Mode != MatchFace {
		return Ref{}, 0, badArgument("mode must be %s or %s, not %q.", MatchPerson, MatchFace, printable(q.Mode))
	}
	most = defaultSimilar
	if q.MaxCandidates != nil {
		most = *q.MaxCandidates
	}
	return list, most, between("maxNumOfCandidatesReturned", most, 1, mostSimilar)
}

// FindSimilar returns the faces most similar to a query face, best first; the result is not nil. Small face lists are
// searched as they are, large ones as they were at their last successful training, without what was deleted since.
//
// Refusals: BadArgument; FaceNotFound, FaceListNotFound, LargeFaceListNotFound, FaceListNotReady,
// LargeFaceListNotTrained, all of kind Invalid; LargeFaceListTrainingNotFinished.
func (s *Service) FindSimilar(ctx context.Context, res visage.Resource, q SimilarQuery) ([]Similar, error) {
	list, most, err := q.check()
	if err != nil {
		return nil, err
	}
	var found []Similar
	if q.FaceIDs != nil {
		found, err = s.similarDetected(ctx, res, q, most)
	} else {
		err = again(func() error {
			found, err = s.similarListed(ctx, res, list, q, most)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("find similar: %w", err)
	}
	return inMode(q.Mode, found), nil
}

// inMode returns the faces that a search in a mode finds.
func inMode(mode string, found []Similar) []Similar {
	if mode == MatchFace {
		return found
	}
	return slices.DeleteFunc(found, func(f Similar) bool { return f.Confidence < samePerson })
}

// similarDetected ranks detected faces. A face that is named twice is found once.
func (s *Service) similarDetected(
	ctx context.Context, res visage.Resource, q SimilarQuery, most int,
) ([]Similar, error) {
	ids := distinct(q.FaceIDs)
	var probes []detectionRecord
	defer forget(&probes)
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		probes, err = s.probes(r, visage.Invalid, append([]string{q.FaceID}, ids...)...)
		return err
	})
	if err != nil {
		return nil, err
	}
	probe, candidates := probes[0], probes[1:]
	if err := sameModel(probe.Model, probe.Networks, candidates...); err != nil {
		return nil, err
	}
	codes := make([]gallery.Code, len(candidates))
	for i, c := range candidates {
		codes[i] = c.code()
	}
	m := s.packs[probe.Networks]
	ranked, err := rank(probe.code(), codes, most)
	if err != nil {
		return nil, err
	}
	found := make([]Similar, len(ranked))
	for i, r := range ranked {
		found[i] = Similar{FaceID: ids[r.index], Confidence: confidence(m, r.distance)}
	}
	return found, nil
}

// similarListed searches a face list of either kind.
func (s *Service) similarListed(
	ctx context.Context, res visage.Resource, list Ref, q SimilarQuery, most int,
) ([]Similar, error) {
	var c collectionRecord
	var m Recogniser
	var probes []detectionRecord
	defer forget(&probes)
	var st stateRecord
	var version uint64
	err := s.view(ctx, res, func(r sealed.Reader) (err error) {
		if c, st, err = findState(r, list); err != nil {
			return asInvalid(err)
		}
		if probes, err = s.probes(r, visage.Invalid, q.FaceID); err != nil {
			return err
		}
		if c, m, err = s.comparable(c, probes...); err != nil {
			return err
		}
		version, err = st.searchedList(list)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.similarTo(ctx, res, list, c, m, st, version, probes[0].code(), q.Mode, most)
}

// searchedList returns the version of a face list to search, and refuses a list that cannot be searched now.
func (st stateRecord) searchedList(list Ref) (version uint64, err error) {
	if list.Kind == LargeFaceList {
		return st.Trained, st.searchable(list)
	}
	if st.Faces == 0 {
		return live, visage.Refuse(visage.Invalid, "FaceListNotReady", "The face list %q is empty.", list.ID)
	}
	return live, nil
}

// similarTo searches a version of a face list.
func (s *Service) similarTo(
	ctx context.Context, res visage.Resource, list Ref, c collectionRecord, m Recogniser, st stateRecord,
	version uint64, probe gallery.Code, mode string, most int,
) ([]Similar, error) {
	query := gallery.Query{Probes: []gallery.Code{probe}, K: most}
	var farthest float32 // any
	if mode != MatchFace {
		farthest = within(m, samePerson)
	}
	matches, _, err := s.search(ctx, res, list, c, st, version, query, func(int) float32 { return farthest })
	if err != nil {
		return nil, asInvalid(err) // the list may have been deleted since it was read
	}
	found := make([]Similar, len(matches[0]))
	for i, match := range matches[0] {
		if confidence(m, match.Distance) >= samePerson {
			s.matches.add(res.ID, list, c.Incarnation, uuid(match.ID))
		}
		found[i] = Similar{PersistedFaceID: uuid(match.ID).String(), Confidence: confidence(m, match.Distance)}
	}
	return found, nil
}
