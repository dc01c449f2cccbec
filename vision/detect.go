package vision

import (
	"context"
	"fmt"
	"image"
	"slices"
	"time"
)

// Detect finds the faces on a photo (the bytes of a JPEG, PNG, GIF, BMP or WebP file) and what want asks for.
//
// A photo without faces is an empty list and no error. Errors: *ImageError when the photo cannot be used,
// *UnsupportedError when want asks for what the pack cannot give, ctx's cause when ctx ends first; anything else is a
// failure of ours.
func (p *Pipeline) Detect(ctx context.Context, photo []byte, want Want) (*Photo, error) {
	if missing := want.Attributes &^ p.Supports(); missing != 0 {
		return nil, &UnsupportedError{Asked: missing, Supported: p.Supports()}
	}
	select {
	case p.turns <- struct{}{}:
		defer func() { <-p.turns }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	start := time.Now()
	img, err := decode(photo)
	if err != nil {
		return nil, err
	}
	p.trace(StageDecode, time.Since(start))
	return p.examine(ctx, img, want)
}

// examine does all of Detect that comes after decoding.
func (p *Pipeline) examine(ctx context.Context, img *image.NRGBA, want Want) (*Photo, error) {
	size := img.Rect.Size()
	start := time.Now()
	findings, err := p.look(ctx, img)
	if err != nil {
		return nil, fmt.Errorf("detect faces: %w", err)
	}
	faces, findings := arrange(findings, size.X, size.Y)
	p.trace(StageDetect, time.Since(start))

	photo := &Photo{Width: size.X, Height: size.Y, Faces: faces}
	chosen, err := choose(faces, want)
	if err != nil || len(chosen) == 0 || !(want.Landmarks || want.Templates || want.Attributes != 0) {
		return photo, err
	}

	start = time.Now()
	boxes := make([]rect, len(chosen))
	for i, c := range chosen {
		boxes[i] = findings[c].box
	}
	shapes, err := p.marker.find(ctx, img, boxes)
	if err != nil {
		return nil, fmt.Errorf("find landmarks: %w", err)
	}
	p.trace(StageLandmarks, time.Since(start))

	if want.Templates {
		start = time.Now()
		views := make([]affine, len(chosen))
		for i := range chosen {
			views[i] = p.recogniser.align(shapes[i].fivePoints())
		}
		templates, err := p.recogniser.describe(ctx, img, views)
		if err != nil {
			return nil, fmt.Errorf("make templates: %w", err)
		}
		for i, c := range chosen {
			faces[c].Template = templates[i]
		}
		p.trace(StageTemplate, time.Since(start))
	}
	return photo, nil
}

// fills is how large a face must be for the second look to count, in parts of the picture's shorter side.
const fills = 1.0 / 3

// look runs the detector on the picture and, for the faces that fill it, on the picture with a border; one suppression
// pass merges both. Where both see a face, the first look's box is the better one.
func (p *Pipeline) look(ctx context.Context, img *image.NRGBA) ([]finding, error) {
	about := p.detector.about
	all, err := p.detector.find(ctx, img, about.Input.Width, 0)
	if err != nil {
		return nil, err
	}
	byScore(all)
	if about.Border > 0 {
		size := img.Rect.Size()
		more, err := p.detector.find(ctx, img, about.BorderSide, about.Border*float64(size.X))
		if err != nil {
			return nil, err
		}
		least := fills * float64(min(size.X, size.Y))
		for _, f := range byScore(more) {
			if max(f.box.width(), f.box.height()) >= least {
				all = append(all, f)
			}
		}
	}
	return suppress(all, about.MaxOverlap), nil
}

// choose returns the faces that want is for, in order and once each.
func choose(faces []Face, want Want) ([]int, error) {
	if want.Select == nil {
		all := make([]int, len(faces))
		for i := range all {
			all[i] = i
		}
		return all, nil
	}
	chosen := want.Select(slices.Clone(faces))
	slices.Sort(chosen)
	chosen = slices.Compact(chosen)
	if n := len(chosen); n > 0 && (chosen[0] < 0 || chosen[n-1] >= len(faces)) {
		return nil, fmt.Errorf("detect faces: Want.Select chose a face that is not there, of %d", len(faces))
	}
	return chosen, nil
}
