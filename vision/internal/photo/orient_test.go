package photo_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"testing"
)

// stored returns the place in the stored picture of the upright picture's pixel (x, y), of w × h stored pixels. It is
// the table of the EXIF standard (CIPA DC-008, tag 274): which corner of what is seen the first row and column are.
func stored(orientation, x, y, w, h int) (int, int) {
	switch orientation {
	case 2: // first row at the top, first column at the right
		return w - 1 - x, y
	case 3: // bottom, right
		return w - 1 - x, h - 1 - y
	case 4: // bottom, left
		return x, h - 1 - y
	case 5: // left, top
		return y, x
	case 6: // right, top
		return y, h - 1 - x
	case 7: // right, bottom
		return w - 1 - y, h - 1 - x
	case 8: // left, bottom
		return w - 1 - y, x
	}
	return x, y
}

// seen is the upright view of a stored picture.
func seen(m *image.NRGBA, orientation int) *image.NRGBA {
	w, h := m.Rect.Dx(), m.Rect.Dy()
	size := m.Rect
	if orientation >= 5 && orientation <= 8 {
		size = image.Rect(0, 0, h, w)
	}
	up := image.NewNRGBA(size)
	for y := range size.Dy() {
		for x := range size.Dx() {
			sx, sy := stored(orientation, x, y, w, h)
			up.SetNRGBA(x, y, m.NRGBAAt(sx, sy))
		}
	}
	return up
}

// jpegWith puts an EXIF segment at a JPEG's start.
func jpegWith(file, exif []byte) []byte {
	segment := append([]byte("Exif\x00\x00"), exif...)
	head := binary.BigEndian.AppendUint16([]byte{0xff, 0xd8, 0xff, 0xe1}, uint16(len(segment)+2))
	return bytes.Join([][]byte{head, segment, file[2:]}, nil)
}

func TestDecodeTurnsPicturesUpright(t *testing.T) {
	m := scene(48, 40)
	// A JPEG is compared with its own decoding, turned: it is not the scene to the last bit.
	plain, err := decode(encode(t, "jpeg", m))
	if err != nil {
		t.Fatal(err)
	}
	lossy := image.NewNRGBA(m.Rect)
	for i := range 48 * 40 {
		copy(lossy.Pix[4*i:], []byte{plain.Pix[3*i], plain.Pix[3*i+1], plain.Pix[3*i+2], 255})
	}
	for orientation := range 11 { // 0, 9 and 10 mean nothing
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			exif := tiff(order, uint16(orientation))
			for _, c := range []struct {
				name string
				file []byte
				from *image.NRGBA
			}{
				{"jpeg", jpegWith(encode(t, "jpeg", m), exif), lossy},
				{"png", pngWith(encode(t, "png", m), "eXIf", exif), m},
				{"webp", webpOf(m, 48, 40, exif), m},
			} {
				t.Run(fmt.Sprintf("%s/%d/%v", c.name, orientation, order), func(t *testing.T) {
					got, err := decode(c.file)
					if err != nil {
						t.Fatal(err)
					}
					compare(t, got, seen(c.from, orientation), 0)
				})
			}
		}
	}
}

func TestBrokenOrientationIsIgnored(t *testing.T) {
	m := scene(48, 40)
	good := tiff(binary.LittleEndian, 6)
	endless := bytes.Clone(good)
	binary.LittleEndian.PutUint32(endless[4:], 0xffffff00)
	circle := bytes.Clone(good)
	binary.LittleEndian.PutUint32(circle[22:], 8)
	circle[10] = 0 // another tag, so that reading goes on
	many := bytes.Clone(good)
	binary.LittleEndian.PutUint16(many[8:], 0xffff)
	many[10] = 0
	for name, exif := range map[string][]byte{
		"empty": {}, "cut off": good[:13], "header only": good[:8], "nonsense": bytes.Repeat([]byte("x"), 300),
		"far away": endless, "in a circle": circle, "too many": many,
	} {
		for _, c := range []struct {
			format string
			file   []byte
			most   int
		}{
			{"jpeg", jpegWith(encode(t, "jpeg", m), exif), 24},
			{"png", pngWith(encode(t, "png", m), "eXIf", exif), 0},
			{"webp", webpOf(m, 48, 40, exif), 0},
		} {
			t.Run(name+"/"+c.format, func(t *testing.T) {
				got, err := decode(c.file)
				if err != nil {
					t.Fatal(err)
				}
				compare(t, got, m, c.most)
			})
		}
	}
}
