package face

import (
	"cmp"
	"context"
	"strconv"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/vision"
)

// Enrolment is a photo, and which of its faces to add to a list or person (contract §7.1).
type Enrolment struct {
	Photo          []byte  // the bytes of an image file; not kept
	TargetFace     *Box    // selects a face of a photo with several; see ParseTargetFace
	DetectionModel string  // empty: DefaultDetectionModel
	UserData       *string // at most 1,024 UTF-16 code units; nil: none
}

// ParseTargetFace reads the contract's "left,top,width,height". The refusal is BadArgument.
func ParseTargetFace(s string) (Box, error) {
	var n [4]int
	fields := strings.Split(s, ",")
	if len(fields) != len(n) {
		return Box{}, badArgument("targetFace must be four integers: left,top,width,height.")
	}
	for i, f := range fields {
		v, err := strconv.ParseInt(strings.TrimSpace(f), 10, 32)
		if err != nil {
			return Box{}, badArgument("targetFace must be four integers: left,top,width,height.")
		}
		n[i] = int(v)
	}
	b := Box{Left: n[0], Top: n[1], Width: n[2], Height: n[3]}
	return b, checkTarget(b)
}

// checkTarget refuses a rectangle without an area or with a corner outside the picture. Its far edges are checked once
// the size of the picture is known.
func checkTarget(b Box) error {
	if b.Left < 0 || b.Top < 0 || b.Width < 1 || b.Height < 1 {
		return badArgument("targetFace must lie within the picture and have a width and a height.")
	}
	return nil
}

// enrol returns the code of the face that the enrolment selects. With vision.Quality in also, it returns the quality of
// the face, if the pack can measure it.
func (s *Service) enrol(
	ctx context.Context, c collectionRecord, e Enrolment, also vision.Attributes,
) (gallery.Code, Grade, error) {
	if err := checkUserData(e.UserData, mostFaceUserData); err != nil {
		return nil, vision.Ungraded, err
	}
	if _, err := detectionModel(e.DetectionModel); err != nil {
		return nil, vision.Ungraded, err
	}
	if e.TargetFace != nil {
		if err := checkTarget(*e.TargetFace); err != nil {
			return nil, vision.Ungraded, err
		}
	}
	recogniser, err := s.recogniserOf(c)
	if err != nil {
		return nil, vision.Ungraded, err
	}
	chosen := -1
	want := vision.Want{Templates: true, Attributes: also & recogniser.Supports()}
	want.Select = func(found []vision.Face) []int {
		if chosen = choose(found, e.TargetFace); chosen < 0 {
			return []int{}
		}
		return []int{chosen}
	}
	photo, err := recogniser.Detect(ctx, e.Photo, want)
	if err != nil {
		return nil, vision.Ungraded, imageError(err)
	}
	template, err := chosenTemplate(photo, chosen, e.TargetFace)
	if err != nil {
		return nil, vision.Ungraded, err
	}
	code, err := encode(recogniser, template)
	quality, _ := photo.Faces[chosen].Attributes[vision.Quality].(Grade)
	return code, quality, err
}

// chosenTemplate returns the template of the chosen face of a photo, or says why there is none: no face was chosen
// (-1), or its quality is too low.
func chosenTemplate(photo *vision.Photo, chosen int, target *Box) ([]float32, error) {
	if t := target; t != nil && (t.Left+t.Width > photo.Width || t.Top+t.Height > photo.Height) {
		return nil, badArgument("targetFace reaches beyond the picture, which is %d by %d pixels once upright.",
			photo.Width, photo.Height)
	}
	switch {
	case len(photo.Faces) == 0:
		return nil, &photoError{NoFace,
			visage.Refuse(visage.Invalid, "InvalidImage", "No face was detected in the image.")}
	case chosen < 0 && target != nil:
		return nil, &photoError{NoFace,
			visage.Refuse(visage.Invalid, "InvalidImage", "No face was detected at targetFace in the image.")}
	case chosen < 0:
		return nil, &photoError{SeveralFaces, visage.Refuse(visage.Invalid, "InvalidImage",
			"The image has %d faces: select one with targetFace.", len(photo.Faces))}
	}
	template := photo.Faces[chosen].Template
	if template == nil {
		return nil, &photoError{LowQuality, visage.Refuse(visage.Invalid, "InvalidImage",
			"The quality of the face is too low to recognise anybody by: "+
				"it is too blurred, dark, small or covered, or it is not a face. Use a sharp, well lit photo of the "+
				"whole face.")}
	}
	return template, nil
}

// enrolAll is enrol for each side of a collection: all codes, or none. The quality is of the last side that knows it.
func (s *Service) enrolAll(
	ctx context.Context, c collectionRecord, e Enrolment, also vision.Attributes,
) (codes []gallery.Code, quality Grade, err error) {
	for _, side := range c.sides() {
		code, grade, err := s.enrol(ctx, side, e, also)
		if err != nil {
			wipe(codes)
			return nil, vision.Ungraded, err
		}
		codes, quality = append(codes, code), cmp.Or(grade, quality)
	}
	return codes, quality, nil
}

// choose returns the index of the face to enrol: the only one, or the one that overlaps the target most; otherwise -1.
func choose(found []vision.Face, target *Box) int {
	if target == nil {
		if len(found) == 1 {
			return 0
		}
		return -1
	}
	best, chosen := 0.0, -1
	for i, f := range found {
		if o := overlap(f.Box, *target); o > best {
			best, chosen = o, i
		}
	}
	return chosen
}

// overlap returns the area of the intersection of two rectangles divided by that of their union.
func overlap(a, b Box) float64 {
	w := min(a.Left+a.Width, b.Left+b.Width) - max(a.Left, b.Left)
	h := min(a.Top+a.Height, b.Top+b.Height) - max(a.Top, b.Top)
	if w <= 0 || h <= 0 {
		return 0
	}
	both := float64(w) * float64(h)
	return both / (float64(a.Width)*float64(a.Height) + float64(b.Width)*float64(b.Height) - both)
}
