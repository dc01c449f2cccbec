package format_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/visage-face/visage/sealed/internal/format"
)

// TestSaltsAndNoncesNeverMeet seals one record again and again, which is the worst there is: the same place, version,
// plaintext and key. The salt of each, which decides its key, and its nonce must be new. A plain run takes some;
// VISAGE_SEALS says how many.
//
// What no sampling shows, docs/cryptography.md counts: after 100 million seals under one secret, two share a salt with
// a chance of 2^-139, and only then could their nonces matter.
func TestSaltsAndNoncesNeverMeet(t *testing.T) {
	seals := 20_000
	if s := os.Getenv("VISAGE_SEALS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("VISAGE_SEALS=%q is not a number", s)
		}
		seals = n
	}
	const (
		saltAt  = 4 + 8 // docs/formats/values.md
		nonceAt = saltAt + 24
	)
	at, secret, hedge := place(1), format.Secret{Key: key(1), Version: 8}, key(2)
	// The first 8 bytes of a salt stand for it: 2^64 of them would be needed before two were likely to meet by chance
	// after 2^32 seals. Nonces have 12 bytes, and the same holds.
	salts, nonces := make(map[[8]byte]struct{}, seals), make(map[[8]byte]struct{}, seals)
	repeated := 0
	for n := range seals {
		value := format.SealRecord(at, 1, secret, format.Salt(hedge, at, secret, []byte("same")), []byte("same")).
			Bytes()
		salt, nonce := [8]byte(value[saltAt:]), [8]byte(value[nonceAt:])
		if _, met := salts[salt]; met {
			t.Errorf("seal %d has a salt that was there", n)
			repeated++
		}
		if _, met := nonces[nonce]; met {
			t.Errorf("seal %d has a nonce that was there", n)
			repeated++
		}
		salts[salt], nonces[nonce] = struct{}{}, struct{}{}
	}
	t.Attr("seals", fmt.Sprint(seals))
	t.Attr("repeated", fmt.Sprint(repeated))
}
