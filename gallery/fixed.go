package gallery

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// Code is a vector of unit length in fixed point: for each number a signed integer of 16 bits, little endian, of at
// most CodeMost either way. Only their ratios count: the vector is the integers divided by the length they have
// together.
//
// The numbers are those of the vector after a rotation that is the same for all vectors of one length. It changes no
// angle, and spreads the few large numbers that networks often give over all numbers: so the upper bits of each carry
// information, and a search needs no more than these for most faces. docs/formats/faces.md describes it.
//
// A code of a face identifies a person as well as the face does: clear it after use.
type Code []byte

// CodeMost is the largest number of a code. It is 127·256+127, so that every number splits into two signed digits of 8
// bits whose upper one is -127 to 127.
const CodeMost = 32639

// codeBytes is the size of one number.
const codeBytes = 2

// Encode returns the code of a vector of unit length: its numbers, turned, times what makes the largest CodeMost,
// rounded to the nearest integer, halves away from zero. The error wraps ErrVector for a vector that is empty, not
// finite, or whose squared length is further from 1 than rounding in float32 takes it.
func Encode(v []float32) (Code, error) {
	square := 0.0
	for _, x := range v {
		square += float64(x) * float64(x) // exact, except for the sum
	}
	switch {
	case len(v) == 0:
		return nil, fmt.Errorf("%w: it has no numbers", ErrVector)
	case math.IsNaN(square) || math.IsInf(square, 0):
		return nil, fmt.Errorf("%w: it contains NaN or an infinity", ErrVector)
	case math.Abs(square-1) > unitTolerance:
		return nil, fmt.Errorf("%w: its length is %.4g, not 1", ErrVector, math.Sqrt(square))
	}
	turned, peak := make([]float64, len(v)), 0.0
	defer clear(turned)
	for i, x := range v {
		turned[i] = float64(x)
	}
	turn(turned)
	for _, x := range turned {
		peak = max(peak, math.Abs(x))
	}
	c, scale := make(Code, codeBytes*len(v)), CodeMost/peak
	for i, x := range turned {
		binary.LittleEndian.PutUint16(c[codeBytes*i:], uint16(int16(math.Round(x*scale))))
	}
	return c, nil
}

// number returns number i.
func (c Code) number(i int) int { return int(int16(binary.LittleEndian.Uint16(c[codeBytes*i:]))) }

// Check returns an error that wraps ErrVector unless c is the code of a vector of dim numbers.
func (c Code) Check(dim int) error {
	if len(c) != codeBytes*dim || dim == 0 {
		return fmt.Errorf("%w: a code of %d bytes for %d numbers", ErrVector, len(c), dim)
	}
	var bad, some uint64
	rest := c
	for ; len(rest) >= 8; rest = rest[8:] {
		four := binary.LittleEndian.Uint64(rest)
		bad |= beyond(four)
		some |= four
	}
	for ; len(rest) >= codeBytes; rest = rest[codeBytes:] {
		one := uint64(binary.LittleEndian.Uint16(rest))
		bad |= beyond(one)
		some |= one
	}
	switch {
	case bad != 0:
		return fmt.Errorf("%w: a number of its code is out of range", ErrVector)
	case some == 0:
		return fmt.Errorf("%w: its code is all zero", ErrVector)
	}
	return nil
}

// lanes is a one in each of four lanes of 16 bits.
const lanes = 0x0001_0001_0001_0001

// beyond is not zero when one of four numbers is beyond CodeMost either way. It is fast because a load checks every
// number.
func beyond(four uint64) uint64 {
	negative := four >> 15 & lanes
	size := (four^negative*0x7fff)&(0x7fff*lanes) + negative // of each number, whatever its sign
	return (size + (1<<15-1-CodeMost)*lanes) & (1 << 15 * lanes)
}

// Vector returns the vector of unit length that c stands for.
func (c Code) Vector() []float32 {
	turned, inverse := make([]float64, len(c)/codeBytes), c.inverse()
	defer clear(turned)
	for i := range turned {
		turned[i] = float64(c.number(i)) * inverse
	}
	turnBack(turned)
	v := make([]float32, len(turned))
	for i, x := range turned {
		v[i] = float32(x)
	}
	return v
}

// inverse returns 1 divided by the length of the numbers together. Their squares add up exactly: dimMost of them stay
// within 46 bits.
func (c Code) inverse() float64 {
	_, square, _ := products(c, c)
	return inverse(square)
}

func inverse(square int64) float64 { return 1 / math.Sqrt(float64(square)) }

// products returns the product of the numbers of two codes of one length, and of either with themselves.
func products(a, b Code) (both, one, other int64) {
	for len(a) >= codeBytes && len(b) >= codeBytes {
		x, y := int64(int16(binary.LittleEndian.Uint16(a))), int64(int16(binary.LittleEndian.Uint16(b)))
		both, one, other = both+x*y, one+x*x, other+y*y
		a, b = a[codeBytes:], b[codeBytes:]
	}
	return both, one, other
}

// Distance returns the cosine distance of a stored vector from a probe, 0 same … 2 opposite, equal to the last bit to
// that of a search: the products of the codes' numbers are added exactly and the sum is multiplied by 1 divided by
// either length, that of the probe in float64, that of the stored vector rounded to float32, in float64. The result,
// the score, is rounded to float32 and subtracted from 1. The error wraps ErrVector unless both are codes of one
// length.
func Distance(probe, stored Code) (float32, error) {
	if err := probe.Check(len(probe) / codeBytes); err != nil {
		return 0, err
	}
	if err := stored.Check(len(probe) / codeBytes); err != nil {
		return 0, err
	}
	both, one, other := products(probe, stored)
	return distance(score(both, inverse(one), float32(inverse(other)))), nil
}

// score returns the score of two codes from the product of their numbers and the inverse length of each; that of the
// stored one is rounded to float32.
func score(sum int64, probe float64, stored float32) float32 {
	return float32(float64(sum) * probe * float64(stored))
}

// distance converts a score, clamped where rounding takes it beyond ±1.
func distance(score float32) float32 { return min(max(1-score, 0), 2) }

// turnRounds is the number of rounds of a turn. Measured on templates of the pack mobileface, the largest number is 4.5
// times the root mean square before, 3.2 times after one round and 3.0 times after two, as for random directions.
const turnRounds = 2

// turn turns a vector. Each round changes the signs of some numbers and mixes the first of them, as many as make a
// power of two, and then the last as many.
func turn(v []float64) {
	most := powerOfTwo(len(v))
	for round := range turnRounds {
		flip(v, round)
		mix(v[:most])
		if most < len(v) {
			mix(v[len(v)-most:])
		}
	}
}

// turnBack undoes turn.
func turnBack(v []float64) {
	most := powerOfTwo(len(v))
	for round := turnRounds - 1; round >= 0; round-- {
		if most < len(v) {
			mix(v[len(v)-most:])
		}
		mix(v[:most])
		flip(v, round)
	}
}

// powerOfTwo returns the greatest power of two that is at most n; 0 for 0.
func powerOfTwo(n int) int {
	if n == 0 {
		return 0
	}
	return 1 << (bits.Len(uint(n)) - 1)
}

// flip changes the signs of a round: that of a number is the lowest bit of what SplitMix64 makes of its place, from 1
// on, counted over all rounds. It only has to be without a pattern that a vector could share.
func flip(v []float64, round int) {
	for i := range v {
		z := uint64(round*len(v)+i+1) * 0x9e3779b97f4a7c15
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		if (z^z>>31)&1 == 1 {
			v[i] = -v[i]
		}
	}
}

// mix multiplies a vector, of a power of two of numbers, with the Hadamard matrix of that order in the order of
// Sylvester, divided by what makes it orthogonal. It is its own inverse.
func mix(v []float64) {
	for half := 1; half < len(v); half *= 2 {
		for from := 0; from < len(v); from += 2 * half {
			low, high := v[from:from+half], v[from+half:from+2*half]
			for i, a := range low {
				low[i], high[i] = a+high[i], a-high[i]
			}
		}
	}
	scale := 1 / math.Sqrt(float64(len(v)))
	for i := range v {
		v[i] *= scale
	}
}
