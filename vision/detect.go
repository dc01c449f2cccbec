package vision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/photo"
)

// Detect finds the faces on a photo (the bytes of a JPEG, PNG, GIF, BMP, WebP, HEIC or AVIF file) and what want asks
// for.
//
// A photo without faces gives an empty list and no error. Errors: *ImageError when the photo cannot be used,
// *UnsupportedError when want asks for what the pack cannot give, ctx's cause when ctx ends first; any other error is
// an internal failure.
func (p *Pipeline) Detect(ctx context.Context, photo []byte, want Want) (_ *Photo, err error) {
	defer func() {
		// A bug must neither end the program nor look like a photo without faces.
		if r := recover(); r != nil {
			err = fmt.Errorf("detect faces: panic: %v", r)
		}
	}()
	if missing := want.Attributes &^ p.Supports(); missing != 0 || want.Landmarks && p.landmarker == nil {
		return nil, &UnsupportedError{Asked: missing, Supported: p.Supports(),
			Landmarks: want.Landmarks && p.landmarker == nil}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	release, err := p.limit.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	done := p.stage(StageDecode)
	img, err := decode(ctx, p.photos, photo)
	done()
	if err != nil {
		return nil, err
	}
	if img.Note != "" {
		p.warn(img.Note)
	}
	return p.examine(ctx, img, want)
}

// decode returns the picture in the photo's bytes.
func decode(ctx context.Context, photos *photo.Decoder, file []byte) (*photo.RGB, error) {
	img, err := photos.Decode(ctx, file)
	if bad, ok := errors.AsType[*photo.Error](err); ok {
		return nil, &ImageError{Kind: ImageErrorKind(bad.Kind), Message: bad.Message, Cause: bad.Cause}
	}
	return img, err
}

// stage starts the clock of a stage; the returned function stops it.
func (p *Pipeline) stage(s Stage) func() {
	start := time.Now()
	return func() { p.trace(s, time.Since(start)) }
}

// examine does the part of Detect that follows decoding.
func (p *Pipeline) examine(ctx context.Context, img *photo.RGB, want Want) (*Photo, error) {
	done := p.stage(StageDetect)
	findings, err := p.look(ctx, img)
	if err != nil {
		return nil, fmt.Errorf("detect faces: %w", err)
	}
	faces, findings := arrange(findings, img.W, img.H, p.leastFace(img))
	done()
	subjects := make([]subject, len(findings))
	for i, f := range findings {
		subjects[i].finding = f
	}
	if faces, subjects, err = p.sift(ctx, img, faces, subjects); err != nil {
		return nil, err
	}
	found := &Photo{Width: img.W, Height: img.H, Faces: faces}
	chosen, err := choose(faces, want)
	if err != nil || len(chosen) == 0 {
		return found, err
	}
	some := make([]*subject, len(chosen))
	for i, c := range chosen {
		some[i] = &subjects[c]
	}
	marked := where(func(a Attribute) bool { return a.points || a.signs != nil })
	if want.Landmarks || want.Templates || want.Attributes&marked != 0 {
		if err := p.mark(ctx, img, some); err != nil {
			return nil, err
		}
	}
	graded := where(func(a Attribute) bool { return a.graded })
	if want.Templates || want.Attributes&graded != 0 && p.grading() != nil {
		if err := p.describe(ctx, img, some); err != nil {
			return nil, err
		}
	}
	for i, c := range chosen {
		if want.Landmarks {
			l := geometry.LandmarksOf(&some[i].settled.shape)
			faces[c].Landmarks = &l
		}
		if want.Templates && !p.below(some[i]) {
			faces[c].Template = some[i].described.template
		}
	}
	if want.Attributes != 0 {
		defer p.stage(StageAttributes)()
		if err := p.measure(ctx, img, faces, chosen, some, want.Attributes); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// choose returns the faces that want selects, in order and once each.
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
		return nil, fmt.Errorf("detect faces: Want.Select returned an index that is not one of %d faces", len(faces))
	}
	return chosen, nil
}
