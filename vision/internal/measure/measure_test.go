package measure_test

import (
	"image"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/visage-face/visage/vision/internal/geometry"
	"github.com/visage-face/visage/vision/internal/measure"
	"github.com/visage-face/visage/vision/internal/photo"
)

// portrait draws something with the statistics of a face: shades of skin, two dark eyes with highlights, brows and a
// mouth with sharp edges. Luma is from about 25 to 230.
func portrait(side int) *photo.RGB {
	p := &photo.RGB{Pix: make([]byte, 3*side*side), W: side, H: side}
	disc := func(x, y, cx, cy, rx, ry float64) bool {
		return (x-cx)*(x-cx)/(rx*rx)+(y-cy)*(y-cy)/(ry*ry) < 1
	}
	for py := range side {
		for px := range side {
			x, y := float64(px)/float64(side), float64(py)/float64(side)
			l := 150 + 45*math.Cos(3*(x-0.4)) - 30*y
			for _, eye := range []float64{0.3, 0.7} {
				switch {
				case disc(x, y, eye+0.01, 0.4, 0.015, 0.015):
					l = 230
				case disc(x, y, eye, 0.41, 0.04, 0.04):
					l = 25
				case disc(x, y, eye, 0.41, 0.1, 0.05):
					l = 215
				case disc(x, y, eye, 0.3, 0.13, 0.03):
					l = 60 + 30*math.Sin(220*x)
				}
			}
			switch {
			case disc(x, y, 0.5, 0.62, 0.05, 0.03):
				l = 80
			case disc(x, y, 0.5, 0.76, 0.16, 0.04):
				l = 95 + 60*math.Abs(y-0.76)*25
			}
			for c := range 3 {
				p.Pix[3*(py*side+px)+c] = byte(l)
			}
		}
	}
	return p
}

// each returns the picture with every value changed by f.
func each(p *photo.RGB, f func(v float64) float64) *photo.RGB {
	q := &photo.RGB{Pix: make([]byte, len(p.Pix)), W: p.W, H: p.H}
	for i, v := range p.Pix {
		q.Pix[i] = byte(min(max(f(float64(v))+0.5, 0), 255))
	}
	return q
}

// smeared blurs with a Gaussian of sx and sy pixels.
func smeared(p *photo.RGB, sx, sy float64) *photo.RGB {
	pass := func(p *photo.RGB, s float64, dx, dy int) *photo.RGB {
		if s == 0 {
			return p
		}
		q := &photo.RGB{Pix: make([]byte, len(p.Pix)), W: p.W, H: p.H}
		reach := int(3*s) + 1
		weight := make([]float64, 2*reach+1)
		for k := range weight {
			weight[k] = math.Exp(-float64((k-reach)*(k-reach)) / (2 * s * s))
		}
		for i := range q.Pix {
			x, y, c := i/3%p.W, i/3/p.W, i%3
			var sum, weights float64
			for k := -reach; k <= reach; k++ {
				w := weight[k+reach]
				u, v := min(max(x+k*dx, 0), p.W-1), min(max(y+k*dy, 0), p.H-1)
				sum, weights = sum+w*float64(p.Pix[3*(v*p.W+u)+c]), weights+w
			}
			q.Pix[i] = byte(sum/weights + 0.5)
		}
		return q
	}
	return pass(pass(p, sx, 1, 0), sy, 0, 1)
}

func noised(p *photo.RGB, sigma float64) *photo.RGB {
	r := rand.New(rand.NewPCG(1, 2))
	q := &photo.RGB{Pix: make([]byte, len(p.Pix)), W: p.W, H: p.H}
	for i := 0; i < len(p.Pix); i += 3 {
		n := sigma * r.NormFloat64() // the same in all channels, so that it is the luma's
		for c := range 3 {
			q.Pix[i+c] = byte(min(max(float64(p.Pix[i+c])+n+0.5, 0), 255))
		}
	}
	return q
}

func all(p *photo.RGB) measure.Values { return measure.Face(p, image.Rect(0, 0, p.W, p.H)) }

// rises fails unless the values rise, each by a noticeable step unless at an end of the scale, from below low to at
// least high.
func rises(t *testing.T, what string, low, high float64, values ...float64) {
	t.Helper()
	t.Logf("%s: %.3f", what, values)
	if first, last := values[0], values[len(values)-1]; first >= low || last < high {
		t.Errorf("%s goes from %.3f to %.3f, want from below %v to %v and more", what, first, last, low, high)
	}
	for i := 1; i < len(values); i++ {
		if values[i] < values[i-1]+0.01 && values[i] > 0 && values[i-1] < 1 {
			t.Errorf("%s does not rise in step %d: %.3f", what, i, values)
		}
	}
}

func TestBlurRisesWithBlur(t *testing.T) {
	for _, side := range []int{80, 150, 250} {
		p := portrait(side)
		unit := max(float64(side)*0.8/112, 1) // as large as a pixel where blur is measured
		var both, along, across []float64
		for _, s := range []float64{0, 0.7, 1.2, 2, 3} {
			both = append(both, all(smeared(p, s*unit, s*unit)).Blur)
			along = append(along, all(smeared(p, s*unit, 0)).Blur)
			across = append(across, all(smeared(p, 0, s*unit)).Blur)
		}
		rises(t, "blur", 0.25, 0.75, both...)
		rises(t, "blur along rows", 0.25, 0.5, along...)
		rises(t, "blur along columns", 0.25, 0.5, across...)
	}
}

func TestBlurDoesNotDependOnSizeAndContrast(t *testing.T) {
	p := portrait(300)
	want := all(p).Blur
	if got := all(portrait(600)).Blur; math.Abs(got-want) > 0.05 {
		t.Errorf("blur of twice the size is %.3f, want about %.3f", got, want)
	}
	if got := all(each(p, func(v float64) float64 { return 60 + v/2 })).Blur; math.Abs(got-want) > 0.05 {
		t.Errorf("blur of half the contrast is %.3f, want about %.3f", got, want)
	}
}

func TestExposureRisesWithLight(t *testing.T) {
	p := portrait(150)
	var values []float64
	for _, gain := range []float64{0.1, 0.2, 0.4, 0.7, 1, 1.4, 2, 4} {
		values = append(values, all(each(p, func(v float64) float64 { return gain * v })).Exposure)
	}
	rises(t, "exposure", 0.25, 0.75, values...)
	if v := all(p).Exposure; v < 0.25 || v >= 0.75 {
		t.Errorf("exposure of a good photo is %.3f", v)
	}
}

// Dark skin in good light is not a dark photo: the whites of the eyes are white.
func TestExposureOfDarkSkin(t *testing.T) {
	p := each(portrait(150), func(v float64) float64 {
		if v > 100 && v < 200 {
			return v * 0.45
		}
		return v
	})
	if v := all(p).Exposure; v < 0.25 || v >= 0.75 {
		t.Errorf("exposure is %.3f", v)
	}
}

func TestNoiseRisesWithNoise(t *testing.T) {
	p := portrait(200)
	var values []float64
	for _, sigma := range []float64{0, 2, 5, 10, 15, 20} {
		v := all(noised(p, sigma)).Noise
		values = append(values, v)
		// Noise is the standard deviation in twentieths.
		if math.Abs(v-sigma/20) > 0.04+0.1*sigma/20 {
			t.Errorf("noise of deviation %v is %.3f, want about %.3f", sigma, v, sigma/20)
		}
	}
	rises(t, "noise", 0.3, 0.7, values...)
}

func TestValuesStayInRange(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	boxes := []image.Rectangle{{}, image.Rect(-50, -50, 500, 500), image.Rect(5, 5, 6, 6), image.Rect(10, 10, 12, 60),
		image.Rect(900, 0, 950, 50), image.Rect(0, 0, 150, 3)}
	for _, p := range []*photo.RGB{
		portrait(150), noised(portrait(150), 200), {}, {Pix: make([]byte, 3), W: 1, H: 1},
		each(portrait(60), func(float64) float64 { return 0 }),
		each(portrait(60), func(float64) float64 { return 255 }),
	} {
		for range 20 {
			boxes = append(boxes, image.Rect(r.IntN(200)-20, r.IntN(200)-20, r.IntN(200)-20, r.IntN(200)-20))
		}
		for _, b := range boxes {
			v := measure.Face(p, b)
			for _, x := range []float64{v.Blur, v.Exposure, v.Noise} {
				if !(x >= 0 && x <= 1) {
					t.Fatalf("%v of %d × %d: %+v", b, p.W, p.H, v)
				}
			}
		}
	}
}

func TestQuality(t *testing.T) {
	good := measure.Subject{Width: 220, Height: 240, Pupils: 95,
		Values: measure.Values{Blur: 0.1, Exposure: 0.5, Noise: 0.1}}
	for _, c := range []struct {
		name   string
		change func(s *measure.Subject)
		want   measure.Quality
	}{
		{"good", func(*measure.Subject) {}, measure.High},
		{"just large enough", func(s *measure.Subject) { s.Width, s.Height = 200, 200 }, measure.High},
		{"one pixel too small", func(s *measure.Subject) { s.Width = 199 }, measure.Medium},
		{"narrow, pupils wide apart", func(s *measure.Subject) { s.Width, s.Pupils = 180, 100 }, measure.High},
		{"pupils unknown", func(s *measure.Subject) { s.Pupils = 0 }, measure.High},
		{"small", func(s *measure.Subject) { s.Width, s.Height, s.Pupils = 80, 90, 36 }, measure.Medium},
		{"tiny", func(s *measure.Subject) { s.Width, s.Height, s.Pupils = 40, 50, 18 }, measure.Low},
		{"turned a little", func(s *measure.Subject) { s.Pose.Yaw = -24 }, measure.High},
		{"turned", func(s *measure.Subject) { s.Pose.Yaw = -40 }, measure.Medium},
		{"in profile", func(s *measure.Subject) { s.Pose.Yaw = 60 }, measure.Low},
		{"looking down", func(s *measure.Subject) { s.Pose.Pitch = -30 }, measure.Medium},
		{"looking up far", func(s *measure.Subject) { s.Pose.Pitch = 50 }, measure.Low},
		{"leaning", func(s *measure.Subject) { s.Pose.Roll = 60 }, measure.Medium},
		{"upside down", func(s *measure.Subject) { s.Pose.Roll = 180 }, measure.Low},
		{"blur at the bound", func(s *measure.Subject) { s.Blur = 0.25 }, measure.Medium},
		{"blurred", func(s *measure.Subject) { s.Blur = 0.75 }, measure.Low},
		{"noise at the bound", func(s *measure.Subject) { s.Noise = 0.3 }, measure.Medium},
		{"noisy", func(s *measure.Subject) { s.Noise = 0.7 }, measure.Low},
		{"under-exposed", func(s *measure.Subject) { s.Exposure = 0.2 }, measure.Medium},
		{"in the dark", func(s *measure.Subject) { s.Exposure = 0.05 }, measure.Low},
		{"over-exposed", func(s *measure.Subject) { s.Exposure = 0.75 }, measure.Medium},
		{"burnt out", func(s *measure.Subject) { s.Exposure = 0.95 }, measure.Low},
		{"pose not a number", func(s *measure.Subject) { s.Pose = geometry.Pose{Yaw: math.NaN()} }, measure.Low},
	} {
		s := good
		c.change(&s)
		if got := measure.QualityOf(s); got != c.want {
			t.Errorf("%s: quality is %d, want %d", c.name, got, c.want)
		}
	}
}
