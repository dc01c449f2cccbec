package vision

import (
	"context"
	"fmt"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/measure"
	"github.com/visage-face/visage/vision/internal/photo"
	"github.com/visage-face/visage/vision/pack"
)

// subject is a face on its way through the pipeline.
type subject struct {
	finding finding
	// settled is nil until the face is marked, and stays nil when the pack has no landmarks.
	settled *settled
	// described is nil until the recogniser has described the face.
	described *described
}

// five returns the eyes, the nose and the corners of the mouth: of the settled shape, or else as the detector reported
// them.
func (s *subject) five() [5]geometry.Point {
	if s.settled != nil {
		return s.settled.shape.Five()
	}
	return *s.finding.five
}

// mark finds the points of subjects that have none yet, if the pack has a network for them.
func (p *Pipeline) mark(ctx context.Context, img *photo.RGB, subjects []*subject) error {
	var bare []*subject
	var findings []finding
	for _, s := range subjects {
		if s.settled == nil {
			bare, findings = append(bare, s), append(findings, s.finding)
		}
	}
	if p.landmarker == nil || len(bare) == 0 {
		return nil
	}
	defer p.stage(StageLandmarks)()
	all, err := p.settle(ctx, img, findings)
	for i := range all {
		bare[i].settled = &all[i]
	}
	return err
}

// describe runs the recogniser on the subjects that it has not described yet. They are marked, if the pack can mark
// them.
func (p *Pipeline) describe(ctx context.Context, img *photo.RGB, subjects []*subject) error {
	var unseen []*subject
	var fives [][5]geometry.Point
	for _, s := range subjects {
		if s.described != nil {
			continue
		}
		fives = append(fives, s.five())
		unseen = append(unseen, s)
	}
	if len(unseen) == 0 {
		return nil
	}
	defer p.stage(StageTemplate)()
	all, err := p.recogniser.describe(ctx, img, fives)
	if err != nil {
		return fmt.Errorf("make templates: %w", err)
	}
	for i := range all {
		unseen[i].described = &all[i]
	}
	return nil
}

// grading returns the rule of the pack for quality; nil if it has none.
func (p *Pipeline) grading() *pack.Quality { return p.pack.Manifest().Quality }

// rate returns the score of a subject that is marked and described, by the rule of the pack for quality.
func (p *Pipeline) rate(s *subject) float64 {
	return p.grading().Rate(func(m pack.Measure) float64 {
		switch m {
		case pack.Length:
			return s.described.length
		case pack.Misfit:
			return s.settled.misfit
		}
		return 0
	}, s.described.template)
}

// below reports whether the quality of a face is too low for a template.
func (p *Pipeline) below(s *subject) bool {
	q := p.grading()
	return q != nil && p.rate(s) < q.Floor
}

// grade returns the quality of a face. The rule of a pack says how well the face can be seen; for High it must also be
// as large and as frontal as the contract recommends for enrolment.
func (p *Pipeline) grade(s *subject, m measure.Subject) Grade {
	q := p.grading()
	if q == nil {
		return Grade(measure.QualityOf(m))
	}
	switch score := p.rate(s); {
	case score >= q.High && measure.LargeAndFrontal(m):
		return High
	case score >= q.Medium:
		return Medium
	}
	return Low
}

// sift drops findings that are certainly not faces: the detector is unsure, no orientation gives points like those of a
// face, and the recogniser does not see a face. It does so whatever is wanted, so that all answers about a photo have
// the same faces.
func (p *Pipeline) sift(
	ctx context.Context, img *photo.RGB, faces []Face, subjects []subject,
) ([]Face, []subject, error) {
	q := p.grading()
	if q == nil {
		return faces, subjects, nil
	}
	var doubtful []*subject
	for i := range subjects {
		if s := &subjects[i]; s.finding.score < q.NoFace.Score {
			doubtful = append(doubtful, s)
		}
	}
	if err := p.mark(ctx, img, doubtful); err != nil {
		return nil, nil, err
	}
	n := 0
	for _, s := range doubtful {
		if s.settled.misfit > q.NoFace.Misfit || s.settled.apart(&s.finding) > q.NoFace.Apart {
			doubtful[n] = s
			n++
		}
	}
	doubtful = doubtful[:n]
	if err := p.describe(ctx, img, doubtful); err != nil {
		return nil, nil, err
	}
	none := map[*subject]bool{}
	for _, s := range doubtful {
		if p.rate(s) < q.NoFace.Quality {
			none[s] = true
		}
	}
	if len(none) == 0 {
		return faces, subjects, nil
	}
	var keptFaces []Face
	var kept []subject
	for i := range subjects {
		if !none[&subjects[i]] {
			keptFaces, kept = append(keptFaces, faces[i]), append(kept, subjects[i])
		}
	}
	return keptFaces, kept, nil
}
