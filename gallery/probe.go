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

func newProbe(v []float32) probe {
	p := probe{vector: v, codes: make([]int8, len(v))}
	most, square := float32(0), squared(v)
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

// score returns how near two vectors are: their dot product, 1 same … -1 opposite. It is exact but for the last rounding,
// and the same on every machine: products of two float32 are exact in float64, and the order of the sum is fixed.
func score(a, b []float32) float32 {
	var s0, s1, s2, s3 float64
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += float64(a[i]) * float64(b[i])
		s1 += float64(a[i+1]) * float64(b[i+1])
		s2 += float64(a[i+2]) * float64(b[i+2])
		s3 += float64(a[i+3]) * float64(b[i+3])
	}
	for ; i < len(a); i++ {
		s0 += float64(a[i]) * float64(b[i])
	}
	return float32(s0 + s1 + (s2 + s3))
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

// limit says the same to a kernel. With n the numbers 0 to 15 that the front plane holds, and 2n-15 the code's vector, the
// sum that a row must reach is Σu(2n-15) = 2Σun - 15Σu.
func (p *probe) limit(r reach, c coding) kernel.Limit {
	if r.all {
		return kernel.Limit{Start: 1 << 29} // more than any sum: they are below 15·127·dim
	}
	first, second := p.length*r.cos/(2*c.frontScale), p.length*r.sin/(2*c.frontScale)
	_, exp := math.Frexp(max(first, second))
	shift := min(14-exp, 31) // weights of 14 bits; dimMost keeps the shift from being negative
	first, second = math.Ldexp(first, shift), math.Ldexp(second, shift)
	const slack = 1e-9 // relative: more than what was lost so far
	return kernel.Limit{
		Weights: kernel.Weights(int(math.Floor(first*(1-slack))), -int(math.Ceil(second*(1+slack)))),
		Shift:   uint32(shift),
		Start:   -int32(math.Floor(float64(15*p.sum) / 2)),
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

// squared returns the squared length of a vector.
func squared(v []float32) float64 {
	var s0, s1, s2, s3 float64
	i := 0
	for ; i+4 <= len(v); i += 4 {
		a, b, c, d := float64(v[i]), float64(v[i+1]), float64(v[i+2]), float64(v[i+3])
		s0, s1, s2, s3 = s0+a*a, s1+b*b, s2+c*c, s3+d*d
	}
	for ; i < len(v); i++ {
		s0 += float64(v[i]) * float64(v[i])
	}
	return s0 + s1 + (s2 + s3)
}
