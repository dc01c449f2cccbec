package gallery_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/visage-face/visage/gallery"
)

// TestBoundsHoldWhereTheyAreTightest searches for a probe and a code that a plane rules out although the code has the
// requested score: starting from random ones, it changes number by number whatever reduces the margin.
func TestBoundsHoldWhereTheyAreTightest(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	climbs := 600
	if testing.Short() {
		climbs = 60
	}
	least := [3]float64{1, 1, 1}
	for round := range climbs {
		dim := []int{1, 2, 3, 5, 8, 16, 17, 64}[rnd.IntN(8)]
		if round%30 == 0 {
			dim = []int{128, 512, 2048}[rnd.IntN(3)]
		}
		codes := [2]gallery.Code{make(gallery.Code, 2*dim), make(gallery.Code, 2*dim)}
		for i := range dim {
			setNumber(codes[0], i, anyNumber(rnd))
			setNumber(codes[1], i, anyNumber(rnd))
		}
		if rnd.IntN(2) == 0 {
			copy(codes[1], codes[0])
		}
		plane, nearest := rnd.IntN(3), 2.0
		for range 600 {
			c, i := codes[rnd.IntN(2)], rnd.IntN(dim)
			before := slices.Clone(c)
			if rnd.IntN(2) == 0 {
				setNumber(c, i, anyNumber(rnd))
			} else {
				setNumber(c, i, numbers(c)[i]+rnd.IntN(3)-1)
			}
			if codes[0].Check(dim) != nil || codes[1].Check(dim) != nil {
				copy(c, before)
				continue
			}
			margins, ok := gallery.Margins(codes[0], codes[1])
			if ok && slices.Min(margins[:]) < 0 {
				t.Fatalf("margins %v for probe %v and code %v", margins, numbers(codes[0]), numbers(codes[1]))
			}
			if !ok || margins[plane] > nearest {
				copy(c, before)
				continue
			}
			nearest = margins[plane]
			for j := range margins {
				least[j] = min(least[j], margins[j])
			}
		}
	}
	t.Logf("the least margins were %.2g", least)
}

// anyNumber returns a number of a code: a random one, or one at the edge of a cell.
func anyNumber(rnd *rand.Rand) int {
	switch rnd.IntN(6) {
	case 0:
		return rnd.IntN(2*gallery.CodeMost+1) - gallery.CodeMost
	case 1:
		return (rnd.IntN(5) - 2) * 128
	case 2:
		return (rnd.IntN(255)-127)*256 + rnd.IntN(3) - 1
	case 3:
		return rnd.IntN(3) - 1
	case 4:
		return gallery.CodeMost * (1 - 2*rnd.IntN(2))
	}
	return (rnd.IntN(3)-1)*16384 - rnd.IntN(2)
}

func setNumber(c gallery.Code, i, n int) {
	binary.LittleEndian.PutUint16(c[2*i:], uint16(int16(min(max(n, -gallery.CodeMost), gallery.CodeMost))))
}
