package local

import "bytes"

// Degenerate returns why a key cannot be random, as the end of a sentence; empty when it can be. A random generator
// makes such keys less than once in 2^100.
func Degenerate(key []byte) string {
	if len(key) < 2 {
		return ""
	}
	for period := 1; period <= len(key)/2; period++ {
		if !bytes.Equal(key[period:], key[:len(key)-period]) {
			continue
		}
		switch {
		case period > 1:
			return "repeats itself"
		case key[0] == 0:
			return "is all zeros"
		default:
			return "is one repeated byte"
		}
	}
	step := key[1] - key[0]
	for i := 2; i < len(key); i++ {
		if key[i]-key[i-1] != step {
			step = 0
			break
		}
	}
	if step != 0 {
		return "counts up or down"
	}
	if Distinct(key) < len(key)/4 {
		return "has only a few different bytes"
	}
	return ""
}

// Distinct counts the different bytes of b.
func Distinct(b []byte) int {
	var seen [256]bool
	n := 0
	for _, x := range b {
		if !seen[x] {
			seen[x] = true
			n++
		}
	}
	return n
}
