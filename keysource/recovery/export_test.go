package recovery

// Multiply and Invert are the field's.
func Multiply(a, b byte) byte { return multiply(a, b) }

// Invert returns an inverse in the field.
func Invert(a byte) byte { return invert(a) }

// Split splits a secret into n shares, of which k are needed.
func Split(secret []byte, n, k int) [][]byte { return split(secret, n, k) }

// Combine gives the secret of shares, by their numbers.
func Combine(shares map[byte][]byte) ([]byte, error) { return combine(shares) }
