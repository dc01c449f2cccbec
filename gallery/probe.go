package gallery

import (
	"math"

	"github.com/visage-face/visage/gallery/internal/kernel"
)

// probe is a vector that is searched for, in full and as codes.
type probe struct {
	vector []float32
	norm   float64
	codes  []int8  // -127 to 127
	sum    int     // of the codes
	length float64 // of the codes as a vector
	off    float64 // the angle between vector and codes
}

func newProbe(v []float32, square float64) probe {
	p := probe{vector: v, codes: make([]int8, len(v))}
	most := float32(0)
	for _, x := range v {
		most = max(most, x, -x)
	}
	var along float64
	long := 0
	for i, x := range v {
		code := int(math.Round(float64(x) * 127 / float64(most)))
		p.codes[i] = int8(code)
		p.sum += code
		along += float64(x) * float64(code)
		long += code * code
	}
	p.norm, p.length = math.Sqrt(square), math.Sqrt(float64(long))
	// The angle by its sine: near zero its cosine would lose half of the digits.
	p.off = math.Asin(math.Sqrt(max(1-along*along/(square*float64(long)), 0) + 1e-15))
	return p
}

// scoreSlack is more than the rounding of a score: half a unit in the last place of float32 near 1, and what the sum and
// the angles lose in float64.
const scoreSlack = 2e-7

// reach is what a row must have for its score to be at least a given one: an angle from the probe's codes that is at most
// wide, the sum of the angle that the score allows and the one between the probe and its codes.
type reach struct {
	all      bool // wide is no less than a right angle: every row may have the score
	cos, sin float64
}

// reach returns what a row must have for a score of least; longest is the length of the longest vector among the rows.
func (p *probe) reach(least float32, longest float64) reach {
	cos := (float64(least) - scoreSlack) / (p.norm * longest)
	wide := math.Acos(min(max(cos, -1), 1)) + p.off
	if wide >= math.Pi/2 {
		return reach{all: true}
	}
	sin, cos := math.Sincos(wide)
	return reach{cos: cos, sin: sin}
}

// limit says the same to a kernel, about a plane whose codes' vectors have numbers of up to most, and marks of that scale.
// With n the numbers that the plane holds, and 2n-most the code's vector, the sum that a row must reach is
// Σu(2n-most) = 2Σun - most·Σu.
func (p *probe) limit(r reach, most int, scale float64) kernel.Limit {
	if r.all {
		return kernel.Limit{Start: 1 << 29} // more than any sum takes from it: they stay below 15·127·dimMost
	}
	first, second := p.length*r.cos/(2*scale), p.length*r.sin/(2*scale)
	_, exp := math.Frexp(max(first, second))
	shift := min(14-exp, 31) // weights of 14 bits; dimMost keeps the shift from being negative
	first, second = math.Ldexp(first, shift), math.Ldexp(second, shift)
	const slack = 1e-9 // relative: more than what was lost so far
	return kernel.Limit{
		Weights: kernel.Weights(int(math.Floor(first*(1-slack))), -int(math.Ceil(second*(1+slack)))),
		Shift:   uint32(shift),
		Start:   -int32(math.Floor(float64(most*p.sum) / 2)),
	}
}

// passes says the same of a row whose sums over both planes are known. front is Σun, back the sum over the lower halves,
// 0 to 15: the codes are 16n+l-128, and their vector twice that and one.
func (p *probe) passes(r reach, c coding, front, back int32, mark uint32) bool {
	if r.all {
		return true
	}
	sum := 2*(16*int(front)+int(back)-128*p.sum) + p.sum
	need := p.length / c.backScale * (r.cos*float64(mark&0xffff) - r.sin*float64(mark>>16))
	return float64(sum) >= need-1e-6*math.Abs(need)
}
