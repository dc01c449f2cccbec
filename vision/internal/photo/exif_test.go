package photo_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/visage-face/visage/vision/internal/photo"
)

// spelt makes EXIF whose orientation has a type other than the standard's, behind other tags.
func spelt(order binary.AppendByteOrder, sort uint16, v uint32, before int) []byte {
	b := tiff(order, 0)[:8]
	b = order.AppendUint16(b, uint16(before+1))
	for i := range before {
		b = order.AppendUint16(order.AppendUint16(b, uint16(0x100+i)), 3)
		b = order.AppendUint32(order.AppendUint32(b, 1), 6)
	}
	b = order.AppendUint32(order.AppendUint16(order.AppendUint16(b, 0x112), sort), 1)
	switch sort {
	case 1:
		b = append(b, byte(v), 0, 0, 0)
	case 3:
		b = order.AppendUint16(order.AppendUint16(b, uint16(v)), 0)
	default:
		b = order.AppendUint32(b, v)
	}
	return order.AppendUint32(b, 0)
}

func app1(parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	return append(binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(len(body)+2)), body...)
}

// Every way in which a container can say an orientation is read.
func TestOrientationIsReadInEverySpelling(t *testing.T) {
	m := scene(24, 16)
	jpegFile, pngFile := encode(t, "jpeg", m), encode(t, "png", m)
	prefix, xmpPrefix := []byte("Exif\x00\x00"), []byte("http://ns.adobe.com/xap/1.0/\x00")
	attribute := []byte(
		`<x:xmpmeta><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></x:xmpmeta>`,
	)
	element := []byte(
		`<x:xmpmeta><rdf:Description><tiff:Orientation>6</tiff:Orientation></rdf:Description></x:xmpmeta>`,
	)
	jpegBehind := func(segments ...[]byte) []byte {
		return bytes.Join([][]byte{jpegFile[:2], bytes.Join(segments, nil), jpegFile[2:]}, nil)
	}
	raw := func(b []byte) []byte {
		text := fmt.Appendf(nil, "\nexif\n%8d\n", len(b))
		for digits := hex.EncodeToString(b); len(digits) > 0; digits = digits[min(72, len(digits)):] {
			text = append(append(text, digits[:min(72, len(digits))]...), '\n')
		}
		return text
	}
	text := func(key string, b []byte) []byte { return append(append([]byte(key), 0), b...) }
	packed := func(b []byte) []byte { return append([]byte{0}, deflated(t, b)...) }
	behind := func(file, c []byte) []byte { // before the last chunk
		return append(append(bytes.Clone(file[:len(file)-12]), c...), file[len(file)-12:]...)
	}
	little, big := tiff(binary.LittleEndian, 6), tiff(binary.BigEndian, 6)
	for name, file := range map[string][]byte{
		"JPEG, little":           jpegWith(jpegFile, little),
		"JPEG, big":              jpegWith(jpegFile, big),
		"JPEG, a byte":           jpegWith(jpegFile, spelt(binary.BigEndian, 1, 6, 0)),
		"JPEG, a long":           jpegWith(jpegFile, spelt(binary.LittleEndian, 4, 6, 3)),
		"JPEG, a long, big":      jpegWith(jpegFile, spelt(binary.BigEndian, 4, 6, 10)),
		"JPEG, many tags before": jpegWith(jpegFile, spelt(binary.LittleEndian, 3, 6, 200)),
		"JPEG, behind other segments": jpegBehind([]byte("\xff\xe0\x00\x04ab\xff\xe2\x00\x04cd\xff\xfe\x00\x06text"),
			app1(prefix, little)),
		"JPEG, behind filling":         jpegBehind([]byte("\xff\xff\xff"), app1(prefix, little)),
		"JPEG, behind garbage":         jpegBehind([]byte("garbage"), app1(prefix, little)),
		"JPEG, odd prefix":             jpegBehind(app1([]byte("Exif\x00\xff"), little)),
		"JPEG, prefix in capitals":     jpegBehind(app1([]byte("EXIF\x00\x00"), little)),
		"JPEG, second of two segments": jpegBehind(app1(prefix, tiff(binary.BigEndian, 0)), app1(prefix, little)),
		"JPEG, behind XMP":             jpegBehind(app1(xmpPrefix, []byte("<x/>")), app1(prefix, little)),
		"JPEG, EXIF before XMP": jpegBehind(
			app1(xmpPrefix, bytes.ReplaceAll(attribute, []byte(`"6"`), []byte(`"3"`))), app1(prefix, little),
		),
		"JPEG, XMP attribute":           jpegBehind(app1(xmpPrefix, attribute)),
		"JPEG, XMP element":             jpegBehind(app1(xmpPrefix, element)),
		"PNG, eXIf":                     pngWith(pngFile, "eXIf", little),
		"PNG, eXIf behind the pixels":   behind(pngFile, chunk("eXIf", big)),
		"PNG, eXIf with a prefix":       pngWith(pngFile, "eXIf", append(bytes.Clone(prefix), big...)),
		"PNG, eXIf with a bad checksum": behind(pngFile, spoiled(chunk("eXIf", big))),
		"PNG, raw profile": pngWith(pngFile, "tEXt",
			text("Raw profile type exif", raw(append(bytes.Clone(prefix), little...)))),
		"PNG, packed raw profile": pngWith(pngFile, "zTXt",
			text("Raw profile type exif", packed(raw(append(bytes.Clone(prefix), big...))))),
		"PNG, raw profile APP1": pngWith(pngFile, "zTXt",
			text("Raw profile type APP1", packed(raw(append(bytes.Clone(prefix), big...))))),
		"PNG, XMP": pngWith(pngFile, "iTXt",
			text("XML:com.adobe.xmp", append([]byte{0, 0, 0, 0}, attribute...))),
		"PNG, packed XMP": pngWith(pngFile, "iTXt",
			text("XML:com.adobe.xmp", append([]byte{1, 0, 0, 0}, deflated(t, element)...))),
		"WebP":               webpOf(m, 24, 16, little),
		"WebP with a prefix": webpOf(m, 24, 16, append(bytes.Clone(prefix), big...)),
	} {
		t.Run(name, func(t *testing.T) {
			if o := photo.Orientation(file); o != 6 {
				t.Errorf("orientation is %d, want 6", o)
			}
			if p, err := decode(long(file)); err != nil || p.W != 16 || p.H != 24 {
				t.Errorf("not turned: %v", err)
			}
		})
	}
	for name, file := range map[string][]byte{
		"a preview's":     jpegWith(jpegFile, append(tiff(binary.LittleEndian, 0)[:18], 0, 0, 26, 0, 0, 0)),
		"behind the scan": append(bytes.Clone(jpegFile), app1(prefix, little)...),
		"XMP out of range": jpegBehind(app1(xmpPrefix, []byte(`tiff:Orientation="9"`)),
			app1(xmpPrefix, []byte(`tiff:Orientation="66"`))),
	} {
		if o := photo.Orientation(file); o != 1 {
			t.Errorf("%s: orientation is %d, want 1", name, o)
		}
	}
}

// A PNG file of a few megabytes can hold gigabytes of packed text: no more than some of it is unpacked, and only what
// may say the orientation.
func TestPackedTextHasABound(t *testing.T) {
	packed := func(key string, text []byte) []byte {
		return append([]byte(key+"\x00\x00"), deflated(t, text)...)
	}
	profile := "\nexif\n      32\n" + hex.EncodeToString(tiff(binary.BigEndian, 6)) + "\n"
	turned := pngWith(encode(t, "png", scene(40, 20)), "zTXt", packed("Raw profile type exif", []byte(profile)))
	for key, want := range map[string]int{"Comment": 6, "Raw profile type exif": 1} {
		file := turned
		for range 5 { // each goes before the ones that are there
			file = pngWith(file, "zTXt", packed(key, bytes.Repeat([]byte{'\n'}, 1<<20)))
		}
		if got := photo.Orientation(file); got != want {
			t.Errorf("behind 5 MiB under the key %q: orientation %d, want %d", key, got, want)
		}
	}
}
