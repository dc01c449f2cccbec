package photo_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"os"
	"path/filepath"
	"testing"

	"github.com/visage-face/visage/vision/internal/photo"
)

// tile is one coded picture, taken out of a file of testdata.
type tile struct{ kind, config, data []byte }

func tileOf(t testing.TB, name string) (file []byte, tl tile) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	cut := func(name string) []byte {
		at := bytes.Index(file, []byte(name))
		if at < 4 {
			t.Fatalf("%s: no box %s", name, name)
		}
		return file[at-4 : at-4+int(binary.BigEndian.Uint32(file[at-4:]))]
	}
	tl = tile{[]byte("av01"), nil, cut("mdat")[8:]}
	if filepath.Ext(name) == ".heic" {
		tl.kind, tl.config = []byte("hvc1"), cut("hvcC")
	} else {
		tl.config = cut("av1C")
	}
	return long(file), tl
}

func boxOf(name string, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	return append(append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+8)), name...), body...)
}

func be(size int, values ...int) (b []byte) {
	for _, v := range values {
		for i := size - 1; i >= 0; i-- {
			b = append(b, byte(v>>(8*i)))
		}
	}
	return b
}

// grid makes a HEIF file as phones do: tiles that make up one picture, which is turned and mirrored by properties.
type grid struct {
	tile          tile
	columns, rows int
	width, height int // of the whole; 0: all of the tiles
	turns         [][]byte
	exif          []byte
	brand         string
	depth         byte // bits a channel, if it is said
}

func (g grid) file() []byte {
	const side = 64
	n := g.columns * g.rows
	if g.width == 0 {
		g.width, g.height = side*g.columns, side*g.rows
	}
	size := func(w, h int) []byte { return boxOf("ispe", be(4, 0, w, h)) }
	properties := [][]byte{g.tile.config, size(side, side), size(g.width, g.height)}
	whole := []int{3}
	if g.depth > 0 {
		properties = append(properties, boxOf("pixi", be(4, 0), []byte{3, g.depth, g.depth, g.depth}))
		whole = append(whole, len(properties))
	}
	for _, turn := range g.turns {
		properties = append(properties, turn)
		whole = append(whole, len(properties))
	}
	items, sizes := [][]byte{}, []int{}
	entry := func(id int, kind string) []byte {
		return boxOf("infe", be(1, 2, 0, 0, 0), be(2, id, 0), []byte(kind), []byte{0})
	}
	refs, ipma := be(2, n+1, n), be(4, n+1)
	data := [][]byte{}
	for i := range n {
		items = append(items, entry(i+1, string(g.tile.kind)))
		data, sizes = append(data, g.tile.data), append(sizes, len(g.tile.data))
		refs = append(refs, be(2, i+1)...)
		ipma = append(ipma, append(be(2, i+1), 2, 0x81, 2)...)
	}
	layout := append([]byte{0, 0, byte(g.rows - 1), byte(g.columns - 1)}, be(2, g.width, g.height)...)
	items, data, sizes = append(items, entry(n+1, "grid")), append(data, layout), append(sizes, len(layout))
	ipma = append(append(ipma, be(2, n+1)...), byte(len(whole)))
	for _, p := range whole {
		ipma = append(ipma, byte(p))
	}
	iref := [][]byte{be(4, 0), boxOf("dimg", refs)}
	if g.exif != nil {
		items = append(items, entry(n+2, "Exif"))
		exif := append(be(4, 6), append([]byte("Exif\x00\x00"), g.exif...)...)
		data, sizes = append(data, exif), append(sizes, len(exif))
		iref = append(iref, boxOf("cdsc", be(2, n+2, 1, n+1)))
	}
	brand := g.brand
	if brand == "" {
		brand = map[string]string{"hvc1": "heic", "av01": "avif"}[string(g.tile.kind)]
	}
	start := boxOf("ftyp", []byte(brand), be(4, 0), []byte("mif1"),
		[]byte(map[string]string{"hvc1": "heic", "av01": "avif"}[string(g.tile.kind)]))
	meta := func(from int) []byte {
		iloc := append([]byte{0, 0, 0, 0, 0x44, 0}, be(2, len(sizes))...)
		for i, s := range sizes {
			iloc = append(append(iloc, be(2, i+1, 0, 1)...), be(4, from, s)...)
			from += s
		}
		return boxOf("meta", be(4, 0),
			boxOf("hdlr", be(4, 0, 0), []byte("pict"), be(4, 0, 0, 0), []byte{0}),
			boxOf("pitm", be(4, 0), be(2, n+1)), boxOf("iloc", iloc),
			boxOf("iinf", be(4, 0), be(2, len(items)), bytes.Join(items, nil)), boxOf("iref", iref...),
			boxOf("iprp", boxOf("ipco", properties...), boxOf("ipma", be(4, 0), ipma)))
	}
	from := len(start) + len(meta(0)) + 8
	return long(bytes.Join([][]byte{start, meta(from), boxOf("mdat", data...)}, nil))
}

// pixels is a decoded picture as an image.
func pixels(p *photo.RGB) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, p.W, p.H))
	for i := range p.W * p.H {
		copy(m.Pix[4*i:], []byte{p.Pix[3*i], p.Pix[3*i+1], p.Pix[3*i+2], 255})
	}
	return m
}

// The picture that the tiles were made of: gradients, a red corner and a green one.
func tileColour(x, y int) color.NRGBA {
	switch {
	case x < 20 && y < 12:
		return color.NRGBA{230, 20, 20, 255}
	case x >= 48 && y < 24:
		return color.NRGBA{20, 220, 40, 255}
	}
	return color.NRGBA{uint8(40 + x*3), uint8(30 + y*3), uint8(200 - x - y), 255}
}

func TestDecodeReadsHEICAndAVIF(t *testing.T) {
	for _, name := range []string{"tile.heic", "tile10.heic", "tile.avif", "tile10.avif"} {
		t.Run(name, func(t *testing.T) {
			file, _ := tileOf(t, name)
			got, err := decode(file)
			if err != nil {
				t.Fatal(err)
			}
			if got.W != 64 || got.H != 64 {
				t.Fatalf("picture is %d × %d", got.W, got.H)
			}
			for _, at := range []image.Point{{5, 5}, {58, 8}, {10, 50}, {50, 50}, {32, 32}} {
				want, i := tileColour(at.X, at.Y), 3*(at.Y*64+at.X)
				for c, v := range []byte{want.R, want.G, want.B} {
					if d := int(got.Pix[i+c]) - int(v); d > 12 || d < -12 {
						t.Errorf("colour at %v is %v, want %v", at, got.Pix[i:i+3], want)
						break
					}
				}
			}
		})
	}
}

// libheif takes a picture without colours for one with colours where only its H.265 data says that it has none.
func TestDecodeReadsGreyHEIC(t *testing.T) {
	file, tl := tileOf(t, "tilegrey.heic")
	want, err := decode(file)
	if err != nil {
		t.Fatal(err)
	}
	if want.Pix[0] != want.Pix[1] || want.Pix[1] != want.Pix[2] {
		t.Errorf("a grey picture has the colour %v", want.Pix[:3])
	}
	for name, g := range map[string]grid{
		"one tile": {tile: tl, columns: 1, rows: 1},
		"cut, turned": {tile: tl, columns: 1, rows: 1, width: 63, height: 61,
			turns: [][]byte{boxOf("irot", []byte{2})}},
	} {
		got, err := decode(g.file())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		at := 0 // of the first pixel, which a turn by half brings to the end
		if len(g.turns) > 0 {
			at = len(got.Pix) - 3
		}
		for c := range 3 {
			if d := int(got.Pix[at+c]) - int(want.Pix[c]); d < -3 || d > 3 {
				t.Errorf("%s: the first pixel is %v, want %v", name, got.Pix[at:at+3], want.Pix[:3])
				break
			}
		}
	}
}

// turns are the ways in which properties turn a picture, and the EXIF values of the same.
var turns = []struct {
	turns       [][]byte
	orientation int
}{
	{nil, 1},
	{[][]byte{boxOf("imir", []byte{1})}, 2},
	{[][]byte{boxOf("irot", []byte{2})}, 3},
	{[][]byte{boxOf("imir", []byte{0})}, 4},
	{[][]byte{boxOf("irot", []byte{1}), boxOf("imir", []byte{0})}, 5},
	{[][]byte{boxOf("irot", []byte{3})}, 6},
	{[][]byte{boxOf("irot", []byte{3}), boxOf("imir", []byte{0})}, 7},
	{[][]byte{boxOf("irot", []byte{1})}, 8},
}

// Pictures of tiles come out whole and upright; EXIF, which says the same once more, does not turn them twice.
func TestDecodeReadsGridsUpright(t *testing.T) {
	for _, name := range []string{"tile.heic", "tile10.heic", "tile.avif"} {
		_, tl := tileOf(t, name)
		one, err := decode(grid{tile: tl, columns: 1, rows: 1}.file())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range turns {
			t.Run(fmt.Sprintf("%s/%d", name, c.orientation), func(t *testing.T) {
				stored := image.NewNRGBA(image.Rect(0, 0, 180, 120)) // the last tiles are cut
				for y := range 120 {
					for x := range 180 {
						i := 3 * (y%64*64 + x%64)
						stored.SetNRGBA(x, y, color.NRGBA{one.Pix[i], one.Pix[i+1], one.Pix[i+2], 255})
					}
				}
				got, err := decode(grid{tile: tl, columns: 3, rows: 2, width: 180, height: 120, turns: c.turns,
					exif: tiff(binary.BigEndian, uint16(c.orientation))}.file())
				if err != nil {
					t.Fatal(err)
				}
				compare(t, got, seen(stored, c.orientation), 3) // colours are smoothed across tiles
			})
		}
	}
}

// Encoders copy EXIF and leave the pixels as they lie: where no property turns a picture, EXIF does; where one says
// that it is upright, EXIF does not.
func TestDecodeTurnsByEXIFWithoutProperties(t *testing.T) {
	for _, name := range []string{"tile.heic", "tile.avif"} {
		_, tl := tileOf(t, name)
		for o := 1; o <= 8; o++ {
			g := grid{tile: tl, columns: 2, rows: 1, exif: tiff(binary.LittleEndian, uint16(o))}
			if got := photo.Orientation(g.file()); got != o {
				t.Errorf("%s with EXIF %d alone: turned by %d", name, o, got)
			}
			if _, err := decode(g.file()); err != nil {
				t.Errorf("%s with EXIF %d: %v", name, o, err)
			}
			g.turns = [][]byte{boxOf("irot", []byte{0})}
			if got := photo.Orientation(g.file()); got != 1 {
				t.Errorf("%s with EXIF %d and a turn by nothing: turned by %d", name, o, got)
			}
		}
		whole := grid{tile: tl, columns: 2, rows: 1, exif: tiff(binary.BigEndian, 6)}.file()
		for cut := range whole { // whatever is missing, nothing is read behind the end
			photo.Orientation(whole[:cut])
		}
	}
}

// Some phones name a brand that says only that there is a picture.
func TestDecodeReadsGenericBrands(t *testing.T) {
	for _, name := range []string{"tile.heic", "tile.avif"} {
		_, tl := tileOf(t, name)
		for _, brand := range []string{"mif1", "msf1", "miaf"} {
			if _, err := decode(grid{tile: tl, columns: 1, rows: 1, brand: brand}.file()); err != nil {
				t.Errorf("%s of brand %s: %v", name, brand, err)
			}
		}
	}
}

func TestDecodeRefusesHEIF(t *testing.T) {
	_, heic := tileOf(t, "tile.heic")
	_, avif := tileOf(t, "tile.avif")
	for _, tl := range []tile{heic, avif} {
		g := grid{tile: tl, columns: 2, rows: 2}
		whole := g.file()
		for name, c := range map[string]struct {
			file []byte
			want photo.Kind
		}{
			"cut off":        {long(whole[:len(whole)-len(tl.data)*2]), photo.Broken},
			"no description": {long(whole[:40]), photo.Broken},
			"too wide": {grid{tile: tl, columns: 2, rows: 2, width: photo.MaxSide + 1, height: 10}.file(),
				photo.TooManyPixels},
			"too many":  {grid{tile: tl, columns: 2, rows: 2, width: 8000, height: 8000}.file(), photo.TooManyPixels},
			"few tiles": {grid{tile: tl, columns: 2, rows: 2, width: 4000, height: 4000}.file(), photo.Broken},
		} {
			p, err := decode(c.file)
			if err == nil {
				t.Errorf("%s, %s: decoded to %d × %d", tl.kind, name, p.W, p.H)
			} else if kind := kindOf(t, err); kind != c.want {
				t.Errorf("%s, %s: %v", tl.kind, name, err)
			}
		}
	}
	other := heic
	other.kind, other.config = []byte("avc1"), boxOf("avcC", be(4, 0))
	refused(t, grid{tile: other, columns: 1, rows: 1, brand: "avci"}.file(), "HEIF file with pictures of the sort")
	film := long(append(boxOf("ftyp", []byte("hevc"), be(4, 0), []byte("msf1")), boxOf("moov", be(4, 0))...))
	refused(t, film, "image sequence")
}
