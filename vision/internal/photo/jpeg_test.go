package photo_test

import (
	"bytes"
	"fmt"
	"image"
	"strings"
	"testing"

	"github.com/visage-face/visage/vision/internal/photo"
)

func TestDecodeReadsEverySampling(t *testing.T) {
	ycc := func(s [3]byte) [3]int {
		y, cb, cr := float64(s[0]), float64(s[1])-128, float64(s[2])-128
		b := func(v float64) int { return int(min(max(v+0.5, 0), 255)) }
		return [3]int{b(y + 1.402*cr), b(y - 0.344136*cb - 0.714136*cr), b(y + 1.772*cb)}
	}
	rgb := func(s [3]byte) [3]int { return [3]int{int(s[0]), int(s[1]), int(s[2])} }
	grey := func(s [3]byte) [3]int { return [3]int{int(s[0]), int(s[0]), int(s[0])} }
	for _, c := range []struct {
		name string
		c    coded
		want func([3]byte) [3]int
	}{
		{"1x1", coded{factors: [][2]int{{1, 1}, {1, 1}, {1, 1}}, adobe: -1}, ycc},
		{"2x2", coded{factors: [][2]int{{2, 2}, {1, 1}, {1, 1}}, adobe: -1}, ycc},
		{"2x1 all", coded{factors: [][2]int{{2, 1}, {2, 1}, {2, 1}}, adobe: -1}, ycc},
		{"3x1", coded{factors: [][2]int{{3, 1}, {1, 1}, {1, 1}}, adobe: -1}, ycc},
		{"1x3", coded{factors: [][2]int{{1, 3}, {1, 1}, {1, 3}}, adobe: -1}, ycc},
		{"4x1", coded{factors: [][2]int{{4, 1}, {2, 1}, {1, 1}}, adobe: -1}, ycc},
		{"1x4", coded{factors: [][2]int{{1, 4}, {1, 1}, {1, 2}}, adobe: -1}, ycc},
		{"2x1 and 1x2", coded{factors: [][2]int{{2, 1}, {1, 2}, {1, 1}}, adobe: -1}, ycc},
		{"less luma than colour", coded{factors: [][2]int{{1, 1}, {2, 2}, {2, 2}}, adobe: -1}, ycc},
		{"2x2, 2x1, 1x1", coded{factors: [][2]int{{2, 2}, {2, 1}, {1, 1}}, adobe: -1}, ycc},
		{"scan by scan", coded{factors: [][2]int{{2, 1}, {1, 2}, {1, 1}}, adobe: -1, separate: true}, ycc},
		{"scan by scan with restarts",
			coded{factors: [][2]int{{2, 2}, {2, 1}, {1, 1}}, adobe: -1, separate: true, interval: 5}, ycc},
		{"restarts", coded{factors: [][2]int{{3, 1}, {1, 1}, {1, 1}}, adobe: -1, interval: 7}, ycc},
		{"grey of odd factors", coded{factors: [][2]int{{3, 2}}, adobe: -1}, grey},
		{"RGB by Adobe", coded{factors: [][2]int{{2, 1}, {1, 2}, {1, 1}}, adobe: 0}, rgb},
		{"RGB by names", coded{factors: [][2]int{{1, 1}, {1, 1}, {1, 1}}, ids: "RGB", adobe: -1}, rgb},
		{"RGB by names, sampled", coded{factors: [][2]int{{2, 1}, {1, 2}, {1, 1}}, ids: "RGB", adobe: -1}, rgb},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.c.width, c.c.height = 96*3-11, 96*2-21
			p, err := decode(c.c.file())
			if err != nil {
				t.Fatal(err)
			}
			if p.Note != "" {
				t.Errorf("note of a valid file is %q", p.Note)
			}
			for row := range 2 {
				for column := range 3 {
					var s [3]byte
					for i := range s {
						s[i] = area(column, row, i)
					}
					want, at := c.want(s), 3*((96*row+40)*p.W+96*column+40)
					for i, v := range want {
						if d := int(p.Pix[at+i]) - v; d > 2 || d < -2 {
							t.Fatalf("area %d, %d is %v, want %v", column, row, p.Pix[at:at+3], want)
						}
					}
				}
			}
		})
	}
}

// scanStart returns where the data of the first scan begins.
func scanStart(t testing.TB, file []byte) int {
	t.Helper()
	at := bytes.Index(file, []byte{0xff, 0xda})
	if at < 0 {
		t.Fatal("no scan")
	}
	return at + 2 + int(file[at+2])<<8 + int(file[at+3])
}

// inserted puts bytes into the data of a scan, behind a byte that is no part of a marker.
func inserted(t testing.TB, file []byte, share float64, b string) []byte {
	t.Helper()
	start := scanStart(t, file)
	at := start + int(share*float64(len(file)-start))
	for file[at-1] == 0xff || file[at] == 0xff {
		at++
	}
	return append(append(bytes.Clone(file[:at]), b...), file[at:]...)
}

// without takes all segments of a kind out.
func without(file []byte, marker byte) []byte {
	out := bytes.Clone(file[:2])
	for at := 2; ; {
		n := 2 + int(file[at+2])<<8 + int(file[at+3])
		if file[at+1] != marker {
			out = append(out, file[at:at+n]...)
		}
		if at += n; file[at-n+1] == 0xda {
			return append(out, file[at:]...)
		}
	}
}

// What browsers show of damaged JPEGs is read, to the last pixel where it is there.
func TestDecodeReadsJPEGsWithFaults(t *testing.T) {
	plain := encode(t, "jpeg", scene(160, 120))
	restarts := coded{width: 277, height: 171, factors: [][2]int{{2, 2}, {1, 1}, {1, 1}}, adobe: -1, interval: 4}.file()
	odd := coded{width: 277, height: 171, factors: [][2]int{{2, 1}, {1, 2}, {1, 1}}, adobe: -1, interval: 4}.file()
	renumbered := func(file []byte, number func(i int) byte) []byte {
		b := bytes.Clone(file)
		for i, n := scanStart(t, b), 0; i+1 < len(b); i++ {
			if b[i] == 0xff && b[i+1] >= 0xd0 && b[i+1] <= 0xd7 {
				b[i+1] = 0xd0 + number(n)
				n++
			}
		}
		return b
	}
	head := func(file []byte, b string) []byte { return append(append(bytes.Clone(file[:2]), b...), file[2:]...) }
	beforeScan := func(file []byte, b string) []byte {
		at := bytes.Index(file, []byte{0xff, 0xda})
		return append(append(bytes.Clone(file[:at]), b...), file[at:]...)
	}
	for _, c := range []struct {
		name       string
		file, like []byte
		note       string // part of it; "-": none
	}{
		{"no end", plain[:len(plain)-2], plain, "no end marker"},
		{"half an end", plain[:len(plain)-1], plain, "no end marker"},
		{"no end, odd sampling", odd[:len(odd)-2], odd, "no end marker"},
		{"bytes behind the end", append(bytes.Clone(plain), "\x00\x00trailing\xff\xd8\xff"...), plain, "-"},
		{"stray marker", inserted(t, plain, 0.3, "\xff\x3c"), plain, "a stray marker"},
		{"stray markers", inserted(t, inserted(t, plain, 0.7, "\xff\x02"), 0.2, "\xff\xbf"), plain, "a stray marker"},
		{"stray segment marker", inserted(t, plain, 0.5, "\xff\xe5"), plain, "a stray marker"},
		{"stray frame marker", inserted(t, plain, 0.5, "\xff\xc0"), plain, "a stray marker"},
		{"stray beginning", inserted(t, plain, 0.9, "\xff\xd8"), plain, "a stray marker"},
		{"restart where there are none", inserted(t, plain, 0.4, "\xff\xd3"), plain, "a stray marker"},
		{"stray marker, odd sampling", inserted(t, odd, 0.3, "\xff\x3c"), odd, "a stray marker"},
		{"one wrong restart", renumbered(restarts, func(i int) byte {
			if i == 5 {
				return 6
			}
			return byte(i % 8)
		}), restarts, "wrong number"},
		{"several wrong restarts", renumbered(restarts, func(i int) byte { return byte(i * i % 8) }), restarts,
			"wrong number"},
		{"restarts from 1", renumbered(restarts, func(i int) byte { return byte((i + 1) % 8) }), restarts,
			"wrong number"},
		{"all restarts 0", renumbered(odd, func(int) byte { return 0 }), odd, "wrong number"},
		{"bytes behind the beginning", head(plain, "\x00\x01\x02"), plain, "bytes between segments"},
		{"bytes before the scan", beforeScan(plain, "garbage"), plain, "bytes between segments"},
		{"filling before segments", beforeScan(head(plain, "\xff\xff\xff"), "\xff\xff"), plain, "-"},
		{"two beginnings", head(plain, "\xff\xd8"), plain, ""},
		{"standard tables left out", without(plain, 0xc4), plain, "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want, err := decode(c.like)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decode(c.file)
			if err != nil {
				t.Fatal(err)
			}
			most := 0
			if c.name == "standard tables left out" {
				most = 255 // another decoder spreads colours: compared by the mean below
			}
			compare(t, got, pixels(want), most)
			off := 0.0
			for i := range got.Pix {
				off += float64(max(got.Pix[i], want.Pix[i]) - min(got.Pix[i], want.Pix[i]))
			}
			if off/float64(len(got.Pix)) > 3 {
				t.Errorf("pixels are %.1f off", off/float64(len(got.Pix)))
			}
			if c.note == "-" && got.Note != "" || c.note != "-" && !strings.Contains(got.Note, c.note) {
				t.Errorf("note is %q, want one with %q", got.Note, c.note)
			}
		})
	}
}

// A file that lost its last bytes is read, grey where nothing is; a file that lost more is not.
func TestDecodeOfCutJPEGs(t *testing.T) {
	plain := encode(t, "jpeg", scene(320, 240))
	odd := coded{width: 600, height: 800, factors: [][2]int{{2, 1}, {1, 2}, {1, 1}}, adobe: -1}.file()
	start := scanStart(t, odd)
	for _, c := range []struct {
		name string
		file []byte
		fine bool
	}{
		{"95 of 100", plain[:len(plain)*95/100], true},
		{"95 of 100 with an end", append(bytes.Clone(plain[:len(plain)*95/100]), 0xff, 0xd9), true},
		{"80 of 100", plain[:len(plain)*80/100], false},
		{"half", plain[:len(plain)/2], false},
		{"half with an end", append(bytes.Clone(plain[:len(plain)/2]), 0xff, 0xd9), false},
		{"odd sampling, 95 of 100", odd[:start+(len(odd)-start)*95/100], true},
		{"odd sampling, half", odd[:start+(len(odd)-start)/2], false},
		{"only headers", odd[:start], false},
	} {
		p, err := decode(c.file)
		switch {
		case c.fine && (err != nil || p.Note == ""):
			t.Errorf("%s: %v", c.name, err)
		case !c.fine && (err == nil || !strings.Contains(err.Error(), "incomplete")):
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// A progressive file whose first scan is all there is has all its pixels, but not in full detail.
	progressive := blocks{columns: 40, rows: 30, samples: patch, components: 3, adobe: -1, progressive: true}.file()
	if _, err := decode(progressive); err != nil {
		t.Error(err)
	}
	refused(t, progressive[:len(progressive)-2], "incomplete")
	refused(t, progressive[:len(progressive)*2/3], "incomplete")
}

func TestDecodeNamesTheJPEGsThatAreNotRead(t *testing.T) {
	plain := encode(t, "jpeg", scene(64, 64))
	at := bytes.Index(plain, []byte{0xff, 0xc0})
	change := func(f func(b []byte)) []byte {
		b := bytes.Clone(plain)
		f(b[at:])
		return b
	}
	for marker, words := range map[byte]string{
		0xc9: "arithmetic coding", 0xca: "arithmetic coding", 0xcd: "arithmetic coding", 0xcf: "arithmetic coding",
		0xc3: "lossless JPEG", 0xc5: "hierarchical JPEG", 0xf7: "JPEG-LS",
	} {
		refused(t, change(func(b []byte) { b[1] = marker }), words)
	}
	refused(t, change(func(b []byte) { b[4] = 12 }), "12 bits a sample")
	refused(t, change(func(b []byte) { b[4] = 16 }), "16 bits a sample")
	refused(t, change(func(b []byte) { b[5], b[6] = 0, 0 }), "does not say its height")
	refused(t, blocks{columns: 2, rows: 2, samples: patch, components: 2, adobe: -1}.file(), "2 components")
	refused(t, without(plain, 0xdb), "damaged") // there are no standard tables of quantisation
}

// Four components that no Adobe segment explains are inks, inverted as Adobe stores them: browsers show them so.
func TestDecodeReadsUnexplainedInks(t *testing.T) {
	b := blocks{columns: 7, rows: 5, samples: patch, components: 4, adobe: -1}
	want := image.NewNRGBA(image.Rect(0, 0, 56, 40))
	for i := range 56 * 40 {
		x, y := i%56/8, i/56/8
		for c := range 3 {
			want.Pix[4*i+c] = byte(int(patch(x, y, c)) * int(patch(x, y, 3)) / 255)
		}
		want.Pix[4*i+3] = 255
	}
	for _, progressive := range []bool{false, true} {
		b.progressive = progressive
		got, err := decode(b.file())
		if err != nil {
			t.Fatal(err)
		}
		compare(t, got, want, 2)
	}
}

// The sandbox is not asked for what is good, and its limits hold for what is not.
func TestDecodeHoldsLimitsForEverySampling(t *testing.T) {
	for _, c := range []struct {
		w, h int
		want photo.Kind
	}{{20000, 100, photo.TooManyPixels}, {9000, 9000, photo.TooManyPixels}, {6000, 6000, photo.Broken}} {
		f := coded{width: 96, height: 96, factors: [][2]int{{2, 1}, {1, 2}, {1, 1}}, adobe: -1}.file()
		at := bytes.Index(f, []byte{0xff, 0xc0})
		copy(f[at+5:], []byte{byte(c.h >> 8), byte(c.h), byte(c.w >> 8), byte(c.w)})
		p, err := decode(f)
		if err == nil {
			t.Fatalf("%d × %d: decoded", p.W, p.H)
		}
		if kind := kindOf(t, err); kind != c.want {
			t.Error(fmt.Sprint(c.w, " × ", c.h, ": "), err)
		}
	}
}
