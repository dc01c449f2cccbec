package vision

import (
	"context"
	"image"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/photo"
	"github.com/visage-face/visage/vision/pack"
)

// fills is the least size of a face for the second look to count, as a fraction of the shorter side of the picture.
const fills = 1.0 / 3

// look returns the faces on the picture, each once, best first.
func (p *Pipeline) look(ctx context.Context, img *photo.RGB) ([]finding, error) {
	if p.pack.Manifest().Detector.Kind == pack.MTCNN {
		return p.lookAround(ctx, img)
	}
	return p.lookTwice(ctx, img)
}

// leastFace returns the shortest side of a box that counts as a face, in pixels.
func (p *Pipeline) leastFace(img *photo.RGB) float64 {
	least := smallest(img.W, img.H)
	if p.pack.Manifest().Detector.Kind == pack.MTCNN {
		least *= mismeasured
	}
	return least
}

// lookTwice runs the detector on the picture and, for faces that fill it, on the picture with a border. One suppression
// pass merges both. Where both find a face, the box of the first look is the better one.
func (p *Pipeline) lookTwice(ctx context.Context, img *photo.RGB) ([]finding, error) {
	about := p.pack.Manifest().Detector
	all, err := p.detector.find(ctx, img, look{side: about.Input.Width})
	if err != nil {
		return nil, err
	}
	byScore(all)
	if about.Border > 0 {
		more, err := p.detector.find(ctx, img, look{side: about.BorderSide, border: about.Border})
		if err != nil {
			return nil, err
		}
		least := fills * float64(min(img.W, img.H))
		for _, f := range byScore(more) {
			if max(f.box.width(), f.box.height()) >= least {
				all = append(all, f)
			}
		}
	}
	return suppress(all, about.MaxOverlap), nil
}

const (
	// sureScore is the score from which the picture counts as upright. Of upright portraits, 99.5 in 100 have such a
	// face; of faces on their side or upside down, which the detector sometimes finds too, 1 in 100, and settle turns
	// those.
	sureScore = 0.995
	// turnedScore is the least score of a face on a turned picture: otherwise three more looks would take three times
	// as many objects for faces. Nearly every face has this score in its right orientation.
	turnedScore = 0.98
)

// lookAround runs the detector on the picture, brightened if it is dark, and, unless it certainly shows an upright
// face, in the three other orientations.
func (p *Pipeline) lookAround(ctx context.Context, img *photo.RGB) ([]finding, error) {
	all, err := p.detector.find(ctx, img, look{})
	if err != nil {
		return nil, err
	}
	var shown aspect
	if best(all) < sureScore {
		shown = overview(img)
		if gain := shortfall(shown.img); gain > 1 {
			shown = shown.brightened(gain)
			more, err := p.lookAt(ctx, shown)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
		}
	}
	if best(all) < sureScore {
		for turn := 1; turn < 4; turn++ {
			found, err := p.lookAt(ctx, shown.turned(turn))
			if err != nil {
				return nil, err
			}
			for _, f := range found {
				if f.score >= turnedScore {
					f.turn = turn
					all = append(all, f)
				}
			}
		}
	}
	return suppress(byScore(all), p.pack.Manifest().Detector.MaxOverlap), nil
}

// best returns the highest score of the findings.
func best(all []finding) (score float64) {
	for _, f := range all {
		score = max(score, f.score)
	}
	return score
}

// aspect is a picture in the form that a detector sees, with all its pixels, and the map from there to the places of
// the photo.
type aspect struct {
	img       *photo.RGB
	toPicture geometry.Affine
}

// lookAt runs the detector on an aspect of the photo. The findings are in places of the photo.
func (p *Pipeline) lookAt(ctx context.Context, a aspect) ([]finding, error) {
	found, err := p.detector.find(ctx, a.img, look{})
	if err != nil {
		return nil, err
	}
	for i, f := range found {
		one := a.toPicture.Apply(geometry.Point{X: f.box.left, Y: f.box.top})
		other := a.toPicture.Apply(geometry.Point{X: f.box.right, Y: f.box.bottom})
		found[i].box = rect{min(one.X, other.X), min(one.Y, other.Y), max(one.X, other.X), max(one.Y, other.Y)}
		if f.five != nil {
			five := *f.five
			for k := range five {
				five[k] = a.toPicture.Apply(five[k])
			}
			found[i].five = &five
		}
	}
	return found, nil
}

// overviewSide is the least number of pixels of an overview's longer side, if the picture has as many. The smallest
// faces to find are then large enough for the detector. More pixels would cost memory and time.
const overviewSide = 1000

// overview returns the aspect of a picture whose pixels are the decoded ones or, of a very large picture, means of
// several.
func overview(img *photo.RGB) aspect {
	whole, scale := img.Reduced()
	times := max(whole.W, whole.H) / overviewSide
	if times < 2 {
		times = 1
	} else {
		whole = shrink(whole, image.Rect(0, 0, whole.W, whole.H), times)
	}
	k, middle := float64(times), float64(times-1)/2
	return aspect{whole, geometry.Affine{
		A: k / scale.By, C: (middle - scale.X) / scale.By,
		E: k / scale.By, F: (middle - scale.Y) / scale.By,
	}}
}

const (
	// dim is the brightness, of 255, below which all but the brightest fiftieth of a dark picture's pixels stay.
	dim = 110
	// bright is the brightness to which it is raised, by a factor of at most maxGain: darker pixels are noise.
	bright, maxGain = 220, 12
)

// shortfall returns the factor by which a picture should be brighter; 1: it is bright enough.
func shortfall(img *photo.RGB) float64 {
	var counts [256]int
	n := 0
	for i := 0; i+3 <= len(img.Pix); i += 3 * 7 { // every seventh pixel is enough
		counts[max(img.Pix[i], img.Pix[i+1], img.Pix[i+2])]++
		n++
	}
	for level, above := 255, 0; level > 0; level-- {
		if above += counts[level]; above*50 > n {
			if level >= dim {
				return 1
			}
			return min(bright/float64(level), maxGain)
		}
	}
	return 1 // black
}

// brightened returns the aspect with all values multiplied by a factor.
func (a aspect) brightened(gain float64) aspect {
	var table [256]byte
	for v := range table {
		table[v] = byte(min(float64(v)*gain+0.5, 255))
	}
	img := &photo.RGB{W: a.img.W, H: a.img.H, Pix: make([]byte, len(a.img.Pix))}
	for i, v := range a.img.Pix {
		img.Pix[i] = table[v]
	}
	return aspect{img, a.toPicture}
}

// turned returns the aspect turned clockwise by quarters, 1 to 3.
func (a aspect) turned(quarters int) aspect {
	w, h := a.img.W, a.img.H
	img := &photo.RGB{W: w, H: h, Pix: make([]byte, 3*w*h)}
	if quarters != 2 {
		img.W, img.H = h, w
	}
	// back maps the pixels of the turned picture to those of this one.
	back := [4]geometry.Affine{
		{}, {B: 1, D: -1, F: float64(h - 1)}, {A: -1, C: float64(w - 1), E: -1, F: float64(h - 1)},
		{B: -1, C: float64(w - 1), D: 1},
	}[quarters]
	at := 0
	for y := range img.H {
		from := back.Apply(geometry.Point{Y: float64(y)})
		i, step := 3*(int(from.Y)*w+int(from.X)), 3*(int(back.D)*w+int(back.A))
		for range img.W {
			copy(img.Pix[at:at+3], a.img.Pix[i:i+3])
			at, i = at+3, i+step
		}
	}
	return aspect{img, back.Then(a.toPicture)}
}
