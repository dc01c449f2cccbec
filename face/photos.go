package face

import (
	"context"
	"errors"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/vision"
)

// The methods of this file compare and search by photos in one call. They are for trying the service: neither the
// photos nor templates of them are stored, not even for a moment, so there are no ids of detected faces. In everything
// else they are Verify, Identify and FindSimilar: the same limits and thresholds, the same refusals while a resource is
// locked, and a person that is recognised counts as recognised for its retention.

// Shown is a photo of which one face is meant.
type Shown struct {
	Photo      []byte // the bytes of an image file; not kept
	TargetFace *Box   // the face that overlaps it most; nil: the largest
}

// Comparison is the answer of ComparePhotos.
type Comparison struct {
	Verdict
	First, Second Box // the faces that were compared
	// Calibration says what the confidence stands for; nil: the recogniser does not say.
	Calibration *Calibration
}

// ComparePhotos reports whether the faces on two photos show one person. model is a recognition model; empty: the
// default. Refusals: BadArgument, InvalidImage (also for a photo without a face, or with one of too low quality),
// InvalidImageSize.
func (s *Service) ComparePhotos(
	ctx context.Context, res visage.Resource, first, second Shown, model string,
) (Comparison, error) {
	m, _, err := s.model(model)
	if err != nil {
		return Comparison{}, err
	}
	if err := s.opened(ctx, res); err != nil {
		return Comparison{}, fmt.Errorf("compare photos: %w", err)
	}
	var codes []gallery.Code
	defer func() { wipe(codes) }()
	var boxes []Box
	for _, shown := range []Shown{first, second} {
		code, box, err := s.look(ctx, m, shown)
		if err != nil {
			return Comparison{}, fmt.Errorf("compare photos: %w", err)
		}
		codes, boxes = append(codes, code), append(boxes, box)
	}
	ranked, err := rank(codes[0], codes[1:], 1)
	if err != nil {
		return Comparison{}, fmt.Errorf("compare photos: %w", err)
	}
	c := confidence(m, ranked[0].distance)
	return Comparison{
		Verdict: Verdict{Identical: c >= samePerson, Confidence: c}, First: boxes[0], Second: boxes[1],
		Calibration: calibrationOf(m),
	}, nil
}

// Seen is a face on a photo with the persons of a group that it may show.
type Seen struct {
	Box        Box
	Candidates []Candidate // best first, possibly empty; nil: the face is of too low quality to recognise anybody by
}

// SeenFaces is the answer of IdentifyPhoto.
type SeenFaces struct {
	Faces       []Seen // largest first, at most 10, not nil
	Calibration *Calibration
}

// IdentifyPhoto finds, for each of the ten largest faces on a photo, the persons of a group that it may show. It
// ignores q.FaceIDs. The refusals are those of Identify and Detect.
func (s *Service) IdentifyPhoto(
	ctx context.Context, res visage.Resource, photo []byte, q IdentifyQuery,
) (SeenFaces, error) {
	group, err := q.checkSearch()
	if err != nil {
		return SeenFaces{}, err
	}
	var answer SeenFaces
	err = again(func() error {
		answer, err = s.identifyPhoto(ctx, res, group, photo, q)
		return err
	})
	if err != nil {
		return SeenFaces{}, fmt.Errorf("identify a photo: %w", err)
	}
	return answer, nil
}

func (s *Service) identifyPhoto(
	ctx context.Context, res visage.Resource, group Ref, photo []byte, q IdentifyQuery,
) (SeenFaces, error) {
	var c collectionRecord
	var st stateRecord
	err := s.view(ctx, res, func(r sealed.Reader) (err error) { // before the photo is analysed, which takes long
		if c, st, err = findState(r, group); err != nil {
			return asInvalid(err)
		}
		return st.searchable(group)
	})
	if err != nil {
		return SeenFaces{}, err
	}
	m, err := s.recogniserOf(c)
	if err != nil {
		return SeenFaces{}, err
	}
	found, err := m.Detect(ctx, photo, vision.Want{Templates: true, Select: func(found []vision.Face) []int {
		return largest(len(found), mostProbes)
	}})
	if err != nil {
		return SeenFaces{}, imageError(err)
	}
	s.metrics.detected.Add(float64(len(found.Faces)))
	answer := SeenFaces{Faces: []Seen{}, Calibration: calibrationOf(m)}
	var probes []detectionRecord
	var of []int // the index in answer.Faces of each probe
	defer forget(&probes)
	for i := range largest(len(found.Faces), mostProbes) {
		f := found.Faces[i]
		answer.Faces = append(answer.Faces, Seen{Box: f.Box})
		if f.Template == nil {
			continue
		}
		code, err := encode(m, f.Template)
		if err != nil {
			return SeenFaces{}, err
		}
		probes, of = append(probes, detectionRecord{Code: storedCode(code)}), append(of, i)
	}
	if len(probes) == 0 {
		return answer, nil
	}
	if st, err = s.since(ctx, res, group, c); err == nil {
		err = st.searchable(group)
	}
	if err != nil {
		return SeenFaces{}, err
	}
	candidates, err := s.candidates(ctx, res, group, c, m, st, probes, q)
	if err != nil {
		return SeenFaces{}, err
	}
	for i := range candidates {
		answer.Faces[of[i]].Candidates = candidates[i]
	}
	return answer, nil
}

// SimilarFaces is the answer of FindSimilarPhoto.
type SimilarFaces struct {
	Box         Box // of the face that was looked for
	Found       []Similar
	Calibration *Calibration
}

// FindSimilarPhoto returns the faces of a list that are most similar to a face on a photo, best first. q names the
// list; its FaceID is ignored, and its FaceIDs must be nil. The refusals are those of FindSimilar and ComparePhotos.
func (s *Service) FindSimilarPhoto(
	ctx context.Context, res visage.Resource, shown Shown, q SimilarQuery,
) (SimilarFaces, error) {
	list, most, err := q.checkSearch()
	switch {
	case err != nil:
		return SimilarFaces{}, err
	case q.FaceIDs != nil:
		return SimilarFaces{}, errors.New("find faces similar to a photo: detected faces are not searched")
	}
	var answer SimilarFaces
	err = again(func() error {
		answer, err = s.similarPhoto(ctx, res, list, shown, q.Mode, most)
		return err
	})
	if err != nil {
		return SimilarFaces{}, fmt.Errorf("find faces similar to a photo: %w", err)
	}
	return answer, nil
}

func (s *Service) similarPhoto(
	ctx context.Context, res visage.Resource, list Ref, shown Shown, mode string, most int,
) (SimilarFaces, error) {
	var c collectionRecord
	var st stateRecord
	var version uint64
	err := s.view(ctx, res, func(r sealed.Reader) (err error) { // before the photo is analysed, which takes long
		if c, st, err = findState(r, list); err != nil {
			return asInvalid(err)
		}
		version, err = st.searchedList(list)
		return err
	})
	if err != nil {
		return SimilarFaces{}, err
	}
	m, err := s.recogniserOf(c)
	if err != nil {
		return SimilarFaces{}, err
	}
	code, box, err := s.look(ctx, m, shown)
	if err != nil {
		return SimilarFaces{}, err
	}
	defer clear(code)
	if st, err = s.since(ctx, res, list, c); err == nil {
		version, err = st.searchedList(list)
	}
	if err != nil {
		return SimilarFaces{}, err
	}
	found, err := s.similarTo(ctx, res, list, c, m, st, version, code, mode, most)
	if err != nil {
		return SimilarFaces{}, err
	}
	return SimilarFaces{Box: box, Found: inMode(mode, found), Calibration: calibrationOf(m)}, nil
}

// since reads the state of a collection again after a photo was analysed: what was deleted in this time, perhaps by
// another process, must not be found. gallery.ErrDropped: a migration has ended, and the templates of c are no more.
func (s *Service) since(
	ctx context.Context, res visage.Resource, ref Ref, c collectionRecord,
) (st stateRecord, err error) {
	err = s.view(ctx, res, func(r sealed.Reader) (err error) {
		_, st, _, err = findLoaded(r, ref, c)
		return err
	})
	return st, asInvalid(err)
}

// look returns the code of the face that is meant, which the caller wipes, and its place.
func (s *Service) look(ctx context.Context, m Recogniser, shown Shown) (gallery.Code, Box, error) {
	if shown.TargetFace != nil {
		if err := checkTarget(*shown.TargetFace); err != nil {
			return nil, Box{}, err
		}
	}
	chosen := -1
	photo, err := m.Detect(ctx, shown.Photo, vision.Want{Templates: true, Select: func(found []vision.Face) []int {
		chosen = min(len(found), 1) - 1 // the largest is the first
		if shown.TargetFace != nil {
			chosen = choose(found, shown.TargetFace)
		}
		if chosen < 0 {
			return []int{}
		}
		return []int{chosen}
	}})
	if err != nil {
		return nil, Box{}, imageError(err)
	}
	s.metrics.detected.Add(float64(len(photo.Faces)))
	template, err := chosenTemplate(photo, chosen, shown.TargetFace)
	if err != nil {
		return nil, Box{}, err
	}
	code, err := encode(m, template)
	return code, photo.Faces[chosen].Box, err
}

// opened refuses to work for a resource whose space is locked.
func (s *Service) opened(ctx context.Context, res visage.Resource) error {
	return s.view(ctx, res, func(sealed.Reader) error { return nil })
}

// largest returns the indices of the first of n faces, which are the largest.
func largest(n, most int) []int {
	indices := make([]int, min(n, most))
	for i := range indices {
		indices[i] = i
	}
	return indices
}
