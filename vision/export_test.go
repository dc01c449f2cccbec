package vision

import (
	"context"
	"image"
	"math"
	"slices"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/photo"
	"github.com/visage-face/visage/vision/pack"
)

// ReferenceFace is a face as the reference's own pre-processing finds it.
type ReferenceFace struct {
	Left, Top, Right, Bottom float64
	Score                    float64
	Points                   [68]Point
	Descriptor               []float32
}

// Reference runs the pack's networks with the pre-processing of the package they come from: the picture is padded to a
// square at its end and looked at once; faces are cut upright and whole pixels wide.
func (p *Pipeline) Reference(ctx context.Context, img *photo.RGB) ([]ReferenceFace, error) {
	detector := p.detector.(*ssd)
	side := max(img.W, img.H)
	in := detector.about.Input
	t := newTensor(1, in.Width, in.Height)
	stretch(plane(t, 0, in), squared(img, image.Rect(0, 0, img.W, img.H), false), in.Width)
	out, err := detector.session.Run(ctx, t)
	if err != nil {
		return nil, err
	}
	found, err := detector.read(out, in.Width, in.Height)
	if err != nil {
		return nil, err
	}
	var faces []ReferenceFace
	var kept []finding
	for _, f := range byScore(found) {
		if slices.ContainsFunc(
			kept, func(k finding) bool { return overlap(k.box, f.box) > detector.about.MaxOverlap },
		) {
			continue
		}
		kept = append(kept, f)
		scaled := func(x float64) float64 { return min(max(x/float64(in.Width), 0), 1) * float64(side) }
		face := ReferenceFace{
			Left: scaled(f.box.left), Top: scaled(f.box.top), Right: scaled(f.box.right), Bottom: scaled(f.box.bottom),
			Score: f.score,
		}
		if err := p.ReferencePoints(ctx, img, &face); err != nil {
			return nil, err
		}
		if err := p.ReferenceDescriptor(ctx, img, &face); err != nil {
			return nil, err
		}
		faces = append(faces, face)
	}
	return faces, nil
}

// ReferencePoints finds the points of a face whose box is known.
func (p *Pipeline) ReferencePoints(ctx context.Context, img *photo.RGB, face *ReferenceFace) error {
	size := image.Pt(img.W, img.H)
	cut := cutOut(face.Left, face.Top, face.Right, face.Bottom, size)
	in := p.landmarker.about.Input
	t := newTensor(1, in.Width, in.Height)
	stretch(plane(t, 0, in), squared(img, cut, true), in.Width)
	out, err := p.landmarker.session.Run(ctx, t)
	if err != nil {
		return err
	}
	w, h := float64(cut.Dx()), float64(cut.Dy())
	side := max(w, h)
	for i := range face.Points {
		x, y := float64(out[0].Data[2*i])*side-(side-w)/2, float64(out[0].Data[2*i+1])*side-(side-h)/2
		face.Points[i] = Point{X: x + face.Left, Y: y + face.Top}
	}
	return nil
}

// ReferenceDescriptor makes the descriptor of a face whose box and points are known.
func (p *Pipeline) ReferenceDescriptor(ctx context.Context, img *photo.RGB, face *ReferenceFace) error {
	size := image.Pt(img.W, img.H)
	box := cutOut(face.Left, face.Top, face.Right, face.Bottom, size)
	w, h := float64(box.Dx()), float64(box.Dy())
	middle := func(points []Point) (m Point) {
		for _, p := range points {
			m.X, m.Y = m.X+p.X/float64(len(points)), m.Y+p.Y/float64(len(points))
		}
		return m
	}
	left, right, mouth := middle(face.Points[36:42]), middle(face.Points[42:48]), middle(face.Points[48:])
	away := (math.Hypot(mouth.X-left.X, mouth.Y-left.Y) + math.Hypot(mouth.X-right.X, mouth.Y-right.Y)) / 2
	chip := math.Floor(away / 0.45)
	centre := middle([]Point{left, right, mouth})
	x, y := math.Floor(max(0, centre.X-chip*0.5)), math.Floor(max(0, centre.Y-chip*0.43))
	cut := cutOut(x, y, x+min(chip, w+x), y+min(chip, h+y), size)
	in := p.recogniser.about.Input
	t := newTensor(1, in.Width, in.Height)
	stretch(plane(t, 0, in), squared(img, cut, true), in.Width)
	out, err := p.recogniser.session.Run(ctx, t)
	if err != nil {
		return err
	}
	face.Descriptor = out[0].Data
	return nil
}

// cutOut is the reference's rounding of a box to whole pixels within the picture.
func cutOut(left, top, right, bottom float64, size image.Point) image.Rectangle {
	x, y := max(left, 0), max(top, 0)
	w, h := min(right-x, float64(size.X)-x), min(bottom-y, float64(size.Y)-y)
	at := image.Pt(int(math.Floor(x)), int(math.Floor(y)))
	return image.Rectangle{at, at.Add(image.Pt(int(math.Floor(w)), int(math.Floor(h))))}
}

// squared copies a part of the picture into a black square, in its middle or at its start. One more row and column
// repeat the last, because the reference does not blend the edge of the square into anything.
func squared(img *photo.RGB, part image.Rectangle, centred bool) *photo.RGB {
	side := max(part.Dx(), part.Dy())
	var at image.Point
	if centred {
		at = image.Pt((side-part.Dx())/2, (side-part.Dy())/2)
	}
	square := &photo.RGB{W: side + 1, H: side + 1, Pix: make([]byte, 3*(side+1)*(side+1))}
	for y := range side + 1 {
		for x := range side + 1 {
			from := image.Pt(min(x, side-1), min(y, side-1)).Sub(at).Add(part.Min)
			if from.In(part) {
				copy(square.Pix[3*(y*square.W+x):], img.Pix[3*(from.Y*img.W+from.X):][:3])
			}
		}
	}
	return square
}

// stretch scales a square from squared to the input's size.
func stretch(p planes, square *photo.RGB, size int) {
	scale := float64(square.W-1) / float64(size)
	p.fill(square, image.Rect(0, 0, square.W, square.H), geometry.Affine{A: scale, E: scale})
}

// Decode is the pipeline's own decoding.
func Decode(file []byte) (*photo.RGB, error) {
	photos := photo.NewDecoder()
	defer photos.Close()
	return decode(context.Background(), photos, file)
}

// Once is how many faces one look finds, without a border around the picture.
func (p *Pipeline) Once(ctx context.Context, img *photo.RGB) (int, error) {
	found, err := p.detector.find(ctx, img, look{side: p.pack.Manifest().Detector.Input.Width})
	return len(found), err
}

// Examine is Detect on a decoded picture.
func (p *Pipeline) Examine(ctx context.Context, img *photo.RGB, want Want) (*Photo, error) {
	return p.examine(ctx, img, want)
}

// Find returns what the detector sees at the first look: boxes (left, top, right, bottom) and five points each.
func (p *Pipeline) Find(ctx context.Context, img *photo.RGB) (boxes [][4]float64, fives [][5][2]float64, err error) {
	found, err := p.look(ctx, img)
	for _, f := range found {
		boxes = append(boxes, [4]float64{f.box.left, f.box.top, f.box.right, f.box.bottom})
		var five [5][2]float64
		for k, at := range f.five {
			five[k] = [2]float64{at.X, at.Y}
		}
		fives = append(fives, five)
	}
	return boxes, fives, err
}

// Sample fills a picture of the given size through m, with the fast code for maps that do not turn or with the simple
// one.
func Sample(img *photo.RGB, width, height int, within image.Rectangle, m geometry.Affine, simple bool) []float32 {
	t := newTensor(1, width, height)
	p := plane(t, 0, pack.Input{Channels: "RGB", Mean: [3]float64{1, 2, 3}, Divisor: [3]float64{4, 5, 6}})
	if !simple {
		p.fill(img, within, m)
		return t.Data
	}
	within = within.Intersect(image.Rect(0, 0, img.W, img.H))
	for y := range height {
		for x := range width {
			p.put(y*width+x, sampleAt(img, within, m.Apply(geometry.Point{X: float64(x), Y: float64(y)})))
		}
	}
	return t.Data
}

// Shrink averages times × times pixels.
func Shrink(img *photo.RGB, part image.Rectangle, times int) *photo.RGB {
	return shrink(img, part, times)
}

// Arrange sorts, clips and limits boxes given as left, top, right and bottom.
func Arrange(boxes [][4]float64, width, height int) []Face {
	var all []finding
	for _, b := range boxes {
		all = append(all, finding{box: rect{b[0], b[1], b[2], b[3]}, score: 0.9})
	}
	faces, _ := arrange(all, width, height, smallest(width, height))
	return faces
}

// LevelOf names the range of a value.
func LevelOf(value, medium, high float64, words []string) Level {
	return levelOf(value, medium, high, words)
}
