package gallery

import (
	"math"

	"github.com/visage-face/visage/gallery/internal/kernel"
)

// probe is a vector that is searched for: its code, and the upper eight bits of it, which are multiplied with the
// planes.
type probe struct {
	numbers []int16
	inverse float64 // one by the length of the code
	codes   []int8  // -127 to 127
	sum     int     // of the codes
	length  float64 // of the codes as a vector
	off     float64 // the angle between the two
}

func newProbe(c Code) probe {
	dim := len(c) / codeBytes
	p := probe{numbers: make([]int16, dim), inverse: c.inverse(), codes: make([]int8, dim)}
	var along, long int64
	for i := range dim {
		number := c.number(i)
		code := (number + 128) >> 8
		p.numbers[i], p.codes[i] = int16(number), int8(code)
		p.sum += code
		along += int64(number) * int64(code)
		long += int64(code) * int64(code)
	}
	p.length = math.Sqrt(float64(long))
	// The angle by its sine: near zero its cosine would lose half of the digits. Codes that are all zero, of numbers
	// that are all below 128, say nothing: a right angle, and every row passes.
	cos := 0.0
	if long > 0 {
		cos = float64(along) * p.inverse / p.length
	}
	p.off = math.Asin(math.Sqrt(min(max(1-cos*cos, 0)+1e-15, 1)))
	return p
}

// forget clears data that identifies the person as well as the face does.
func (p *probe) forget() {
	clear(p.numbers)
	clear(p.codes)
}

// scoreSlack exceeds the largest error of a score by its definition: the score is rounded to float32, and so is one of
// its factors.
const scoreSlack = 4e-7

// reach is the condition for a row to have at least a given score: an angle from the probe's codes that is at most
// wide, the sum of the angle that the score allows and the one between the probe and its codes.
type reach struct {
	all      bool // wide is no less than a right angle: every row may have the score
	cos, sin float64
}

// reach returns the condition for a score of least.
func (p *probe) reach(least float32) reach {
	wide := math.Acos(min(max(float64(least)-scoreSlack, -1), 1)) + p.off
	if wide >= math.Pi/2 {
		return reach{all: true}
	}
	sin, cos := math.Sincos(wide)
	return reach{cos: cos, sin: sin}
}

// limit is the condition as a kernel's Limit, for planes that stand for numbers of up to most, and marks of that scale.
// With n what the planes hold, and 2n-most what they stand for, the sum that a row must reach is Σu(2n-most) = 2Σun -
// most·Σu.
func (p *probe) limit(r reach, most int, scale float64) kernel.Limit {
	if r.all {
		return kernel.Limit{Start: 1 << 29} // more than any sum takes from it: they stay below 255·127·dimMost
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

// passes checks the same condition for a row whose sums are known: upper that over sketch and second plane, third that
// over the third.
func (p *probe) passes(r reach, c coding, upper, third int32, mark uint32) bool {
	if r.all {
		return true
	}
	sum := 2*(16*int(upper)+int(third)) - mostMost*p.sum
	need := p.length / c.scale * (r.cos*float64(mark&0xffff) - r.sin*float64(mark>>16))
	return float64(sum) >= need-1e-6*math.Abs(need)
}

// score is the score of a row's code; scale is the inverse of its length.
func (p *probe) score(k *kernel.Kernel, code []int16, scale float32) float32 {
	return score(k.Dot(p.numbers, code), p.inverse, scale)
}
