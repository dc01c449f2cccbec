package gallery

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Code is a vector of unit length in fixed point: for each number a signed integer of 16 bits, little endian, of at most
// CodeMost either way. Only their ratios count: the vector is the integers divided by the length they have together.
//
// A code of a face is as good as the face: whoever is done with one clears it.
type Code []byte

// CodeMost is the largest number of a code. It is 127·256+127, so that every number splits into two signed digits of 8 bits
// whose upper one is -127 to 127.
const CodeMost = 32639

// codeBytes is what a number takes.
const codeBytes = 2

// Encode returns the code of a vector of unit length: its numbers times what makes the largest CodeMost, rounded to the
// nearest integer, halves away from zero. It is the same on every machine. The error wraps ErrVector for a vector that is
// empty, not finite, or whose squared length is further from 1 than rounding in float32 takes it.
func Encode(v []float32) (Code, error) {
	square, peak := 0.0, 0.0
	for _, x := range v {
		square += float64(x) * float64(x) // exact, but for the sum
		peak = max(peak, math.Abs(float64(x)))
	}
	switch {
	case len(v) == 0:
		return nil, fmt.Errorf("%w: it has no numbers", ErrVector)
	case math.IsNaN(square) || math.IsInf(square, 0):
		return nil, fmt.Errorf("%w: it holds what is not a number", ErrVector)
	case math.Abs(square-1) > unitTolerance:
		return nil, fmt.Errorf("%w: its length is %.4g, not 1", ErrVector, math.Sqrt(square))
	}
	c, scale := make(Code, codeBytes*len(v)), CodeMost/peak
	for i, x := range v {
		binary.LittleEndian.PutUint16(c[codeBytes*i:], uint16(int16(math.Round(float64(x)*scale))))
	}
	return c, nil
}

// number returns number i.
func (c Code) number(i int) int { return int(int16(binary.LittleEndian.Uint16(c[codeBytes*i:]))) }

// Check returns an error that wraps ErrVector unless c is the code of a vector of so many numbers.
func (c Code) Check(dim int) error {
	if len(c) != codeBytes*dim {
		return fmt.Errorf("%w: a code of %d bytes for %d numbers", ErrVector, len(c), dim)
	}
	any := 0
	for i := range dim {
		n := c.number(i)
		if n < -CodeMost || n > CodeMost {
			return fmt.Errorf("%w: number %d of its code is out of range", ErrVector, i)
		}
		any |= n
	}
	if any == 0 {
		return fmt.Errorf("%w: its code is all zero", ErrVector)
	}
	return nil
}

// Vector returns the vector of unit length, for those who compute with it.
func (c Code) Vector() []float32 {
	v := make([]float32, len(c)/codeBytes)
	c.decode(v)
	return v
}

// decode writes the vector of unit length to v.
func (c Code) decode(v []float32) {
	inverse := c.inverse()
	for i := range v {
		v[i] = float32(float64(c.number(i)) * inverse)
	}
}

// inverse returns 1 divided by the length of the numbers together. Their squares add up exactly: dimMost of them stay
// within 46 bits.
func (c Code) inverse() float64 {
	square := int64(0)
	for i := range len(c) / codeBytes {
		n := int64(c.number(i))
		square += n * n
	}
	return 1 / math.Sqrt(float64(square))
}

// Distance returns the cosine distance of a stored vector from a probe, 0 same … 2 opposite, to the bit as a search finds
// it: the products of the codes' numbers are added exactly and the sum is multiplied by 1 divided by either length, that of
// the probe in float64, that of the stored vector rounded to float32, in float64. What comes out, the score, is rounded to
// float32 and taken from 1. The error wraps ErrVector for what are no two codes of one length.
func Distance(probe, stored Code) (float32, error) {
	if err := probe.Check(len(probe) / codeBytes); err != nil {
		return 0, err
	}
	if err := stored.Check(len(probe) / codeBytes); err != nil {
		return 0, err
	}
	sum := int64(0)
	for i := range len(probe) / codeBytes {
		sum += int64(probe.number(i)) * int64(stored.number(i))
	}
	score := float32(float64(sum) * probe.inverse() * float64(float32(stored.inverse())))
	return min(max(1-score, 0), 2), nil
}
