package gallery_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/visage-face/visage/gallery"
)

func numbers(c gallery.Code) []int {
	n := make([]int, len(c)/2)
	for i := range n {
		n[i] = int(int16(binary.LittleEndian.Uint16(c[2*i:])))
	}
	return n
}

// TestEncodeVectors checks the codes of some vectors against those that another program computed by the definition of
// the stored format.
func TestEncodeVectors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		vector []float32
		want   string
	}{
		{"one number", []float32{-1}, "7f7f"},                // 32639
		{"axes", []float32{0, 1}, "81800000"},                // -32639
		{"three and four", []float32{0.6, -0.8}, "7f7f9f5f"}, // 24479.25
		{"halves", []float32{0.5, 0.5, -0.5, 0.5}, "81807f7f81808180"},
		{"no power of two", []float32{2. / 3, -2. / 3, 1. / 3}, "ababbab88180"},
		{"five", []float32{0.1, -0.7, 0.5, 0.1, 0.48989794}, "ab118180722290121e34"},
		{"tiny numbers", []float32{1, 1e-30, math.SmallestNonzeroFloat32, -1e-5}, "00007f7f00000000"},
	} {
		got, err := gallery.Encode(tt.vector)
		if err != nil || hex.EncodeToString(got) != tt.want {
			t.Errorf("%s: got %x (%v), %v; want %s", tt.name, got, numbers(got), err, tt.want)
		}
		if err := got.Check(len(tt.vector)); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestEncodeRefusesWhatIsNoUnitVector(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, v := range map[string][]float32{
		"none": nil, "zero": {0, 0}, "not a number": {nan, 1}, "infinite": {inf, 0}, "infinite below": {1, -inf},
		"too long": {3, 4}, "a little too long": {1.001, 0}, "too short": {0.5, 0.5}, "denormal": {1e-40, -1e-42},
		"overflowing": {math.MaxFloat32, math.MaxFloat32},
	} {
		if c, err := gallery.Encode(v); !errors.Is(err, gallery.ErrVector) || c != nil {
			t.Errorf("%s: got %x, %v; want ErrVector", name, c, err)
		}
	}
}

// turned is the turn of docs/formats/faces.md, computed with its matrices.
func turned(v []float32) []float64 {
	n := len(v)
	x := make([]float64, n)
	for i := range x {
		x[i] = float64(v[i])
	}
	m := 1
	for 2*m <= n {
		m *= 2
	}
	mix := func(x []float64) {
		y := make([]float64, m)
		for i := range y {
			for j := range x {
				y[i] += float64(1-2*(bits.OnesCount(uint(i&j))%2)) * x[j]
			}
		}
		for i := range x {
			x[i] = y[i] / math.Sqrt(float64(m))
		}
	}
	for round := range 2 {
		for i := range x {
			z := uint64(round*n+i+1) * 0x9e3779b97f4a7c15
			z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
			z = (z ^ z>>27) * 0x94d049bb133111eb
			x[i] *= float64(1 - 2*int((z^z>>31)&1))
		}
		mix(x[:m])
		if m < n {
			mix(x[n-m:])
		}
	}
	return x
}

func TestACodeIsItsVectorWithinHalfAStep(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for name, shape := range shapes {
		for range 50 {
			dim := 1 + rnd.IntN(300)
			v := shape(rnd, dim)()
			c := code(v...)
			if err := c.Check(dim); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			square, peak, turned := 0.0, 0.0, turned(v)
			for i, x := range v {
				square += float64(x) * float64(x)
				peak = max(peak, math.Abs(turned[i]))
			}
			for i, n := range numbers(c) {
				if exact := turned[i] / peak * gallery.CodeMost; math.Abs(float64(n)-exact) > 0.5000001 {
					t.Fatalf("%s: number %d is %d, want %g", name, i, n, exact)
				}
			}
			// Rounding moves the length as well, by less than the vector.
			step := peak / gallery.CodeMost
			for i, x := range c.Vector() {
				if want := float64(v[i]) / math.Sqrt(square); math.Abs(float64(x)-want) > step*
					(1+math.Sqrt(float64(dim)))+2e-7 {
					t.Fatalf("%s: number %d of %d is %g, want %g", name, i, dim, x, want)
				}
			}
			if again := code(c.Vector()...); !slices.Equal(again, c) {
				t.Fatalf("%s: %x becomes %x when it is encoded once more", name, c, again)
			}
		}
	}
}

// TestATurnSpreadsWhatIsInFewNumbers checks that a turn makes numbers about equally large, since the upper bits of such
// codes carry the most information.
func TestATurnSpreadsWhatIsInFewNumbers(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 8))
	for name, shape := range shapes {
		for _, dim := range []int{128, 192, 512} {
			next, peaks, rounds := shape(rnd, dim), 0.0, 100
			for range rounds {
				square := 0.0
				for _, n := range numbers(code(next()...)) {
					square += float64(n) * float64(n)
				}
				peaks += gallery.CodeMost / math.Sqrt(square/float64(dim))
			}
			if peak := peaks / float64(rounds); peak > 5 {
				t.Errorf("%s, %d numbers: the largest is %.2f times the root mean square", name, dim, peak)
			}
		}
	}
}

// TestDistanceFollowsItsDefinition compares distances with arithmetic of 200 bits, except for the two roundings of the
// definition.
func TestDistanceFollowsItsDefinition(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	number := func(x float64) *big.Float { return new(big.Float).SetPrec(200).SetFloat64(x) }
	dot := func(a, b []int) *big.Float {
		sum := new(big.Int)
		for i := range a {
			sum.Add(sum, big.NewInt(int64(a[i])*int64(b[i])))
		}
		return number(0).SetInt(sum)
	}
	for _, shape := range shapes {
		for range 200 {
			next := shape(rnd, 1+rnd.IntN(300))
			a, b := code(next()...), code(next()...)
			x, y := numbers(a), numbers(b)
			kept, _ := number(0).Quo(number(1), number(0).Sqrt(dot(y, y))).Float32()
			score := number(0).Quo(dot(x, y), number(0).Sqrt(dot(x, x)))
			exact, _ := score.Mul(score, number(float64(kept))).Float64()
			got, err := gallery.Distance(a, b)
			if err != nil {
				t.Fatal(err)
			}
			// One ulp of float32 for the score's last rounding, which the definition's own error in float64 may move by
			// one.
			if want := min(max(1-exact, 0), 2); math.Abs(float64(got)-want) > 1.2e-7 {
				t.Fatalf("%x and %x: got %g, want %g", a, b, got, want)
			}
			if self, err := gallery.Distance(a, a); err != nil || self > 1.2e-7 {
				t.Fatalf("%x from itself: %g, %v", a, self, err)
			}
		}
	}
}

// TestDistanceVectors checks the distances of some codes to the bit: they must be the same on every machine.
func TestDistanceVectors(t *testing.T) {
	for _, tt := range []struct {
		probe, stored gallery.Code
		want          uint32
	}{
		{code(1, 0), code(0, 1), math.Float32bits(1)},
		{code(1, 0), code(-1, 0), math.Float32bits(2)},
		{code(0.6, 0.8), code(0.8, 0.6), 0x3d23d9e0},
		{code(0.8, 0.6), code(0.6, 0.8), 0x3d23d9e0},
		{gallery.Code{1, 0, 2, 0, 3, 0}, gallery.Code{3, 0, 2, 0, 1, 0}, 0x3e924926},
		{gallery.Code{1, 0, 2, 0, 3, 0}, gallery.Code{2, 0, 4, 0, 6, 0}, 0},
	} {
		got, err := gallery.Distance(tt.probe, tt.stored)
		if err != nil || math.Float32bits(got) != tt.want {
			t.Errorf("%v and %v: got %#x (%g), %v; want %#x", tt.probe, tt.stored, math.Float32bits(got), got, err,
				tt.want)
		}
	}
}

func TestDistanceRefusesWhatAreNoTwoCodes(t *testing.T) {
	good := code(1, 0)
	for name, bad := range map[string]gallery.Code{
		"none": nil, "short": good[:2], "odd": good[:3], "long": code(1, 0, 0), "zero": make(gallery.Code, 4),
		"out of range": {0, 0x80, 0, 0},
	} {
		if _, err := gallery.Distance(good, bad); !errors.Is(err, gallery.ErrVector) {
			t.Errorf("%s: got %v, want ErrVector", name, err)
		}
		if _, err := gallery.Distance(bad, good); !errors.Is(err, gallery.ErrVector) {
			t.Errorf("%s first: got %v, want ErrVector", name, err)
		}
	}
	if _, err := gallery.Distance(nil, nil); !errors.Is(err, gallery.ErrVector) {
		t.Errorf("two empty codes: got %v, want ErrVector", err)
	}
}

// TestCheckKnowsEveryNumber checks every number in each of four places, beside the least and the greatest allowed
// number.
func TestCheckKnowsEveryNumber(t *testing.T) {
	for _, beside := range [][2]byte{{0x81, 0x80}, {0x7f, 0x7f}, {1, 0}} { // -32,639, 32,639 and 1
		for place := range 4 {
			c := make(gallery.Code, 8)
			for i := range c {
				c[i] = beside[i%2]
			}
			for n := -1 << 15; n < 1<<15; n++ {
				c[2*place], c[2*place+1] = byte(n), byte(n>>8)
				want := n >= -gallery.CodeMost && n <= gallery.CodeMost
				if err := c.Check(4); (err == nil) != want || err != nil && !errors.Is(err, gallery.ErrVector) {
					t.Fatalf("%d in place %d beside %v: %v", n, place, beside, err)
				}
			}
		}
	}
}

// FuzzCode checks that arbitrary bytes are either refused or a vector with a distance.
func FuzzCode(f *testing.F) {
	f.Add([]byte(code(0.6, 0.8)))
	f.Add([]byte{0, 0x80})
	f.Add([]byte{0})
	f.Add([]byte{})
	f.Add(make([]byte, 8))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := gallery.Code(b)
		d, err := gallery.Distance(c, c)
		if (c.Check(len(b)/2) == nil) != (err == nil) {
			t.Fatalf("%x: Check and Distance disagree: %v", b, err)
		}
		if err == nil && !(d >= 0 && d <= 1.2e-7) {
			t.Errorf("%x is %g from itself", b, d)
		}
		if err == nil && len(c.Vector()) != len(b)/2 {
			t.Errorf("%x has %d numbers", b, len(c.Vector()))
		}
	})
}
