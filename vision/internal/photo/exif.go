package photo

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"encoding/hex"
	"io"
	"regexp"
	"strings"
)

// metadata are the parts of a file that say how to turn it. EXIF comes first; XMP counts where EXIF says nothing.
type metadata struct{ exif, xmp [][]byte }

// orientation returns the first valid orientation; upright if there is none. A broken value or one out of range is no
// error: the picture is worth more than its metadata.
func (m metadata) orientation() orientation {
	for _, b := range m.exif {
		if o := exifOrientation(b); o != 0 {
			return o
		}
	}
	for _, b := range m.xmp {
		if found := xmpOrientation.FindSubmatch(b); found != nil {
			return orientation(found[1][0] - '0')
		}
	}
	return upright
}

// xmpOrientation finds the orientation in XMP, which may be an attribute or an element.
var xmpOrientation = regexp.MustCompile(`tiff:Orientation(?:\s*=\s*["']\s*|\s*>\s*)([1-8])\s*["'<]`)

// exifOrientation reads the orientation in a block of EXIF, with or without its prefix, which is a TIFF file; 0 if
// there is none. Only the first directory counts: the second is about the preview.
func exifOrientation(b []byte) orientation {
	const prefix, entry, tag = "Exif\x00", 12, 0x112
	if len(b) > 6 && strings.EqualFold(string(b[:5]), prefix) {
		b = b[6:]
	}
	var order binary.ByteOrder = binary.LittleEndian
	switch {
	case bytes.HasPrefix(b, []byte("II*\x00")):
	case bytes.HasPrefix(b, []byte("MM\x00*")):
		order = binary.BigEndian
	default:
		return 0
	}
	if len(b) < 8 {
		return 0
	}
	at := int64(order.Uint32(b[4:]))
	if at < 8 || at+2 > int64(len(b)) {
		return 0
	}
	n, b := int(order.Uint16(b[at:])), b[at+2:]
	for ; n > 0 && len(b) >= entry; n, b = n-1, b[entry:] {
		if order.Uint16(b) != tag {
			continue
		}
		var v uint32
		switch sort := order.Uint16(b[2:]); sort {
		case 1, 6, 7: // bytes
			v = uint32(b[8])
		case 3, 8: // the type in the standard
			v = uint32(order.Uint16(b[8:]))
		case 4, 9:
			v = order.Uint32(b[8:])
		}
		if v >= 1 && v <= 8 {
			return orientation(v)
		}
	}
	return 0
}

// metadataOfJPEG finds the segments up to the first scan.
func metadataOfJPEG(file []byte) (m metadata) {
	const xmp = "http://ns.adobe.com/xap/1.0/\x00"
	for at := 2; at+4 <= len(file); {
		marker, n := file[at+1], int(file[at+2])<<8+int(file[at+3])
		switch {
		case file[at] != 0xff || marker == 0 || marker == 0xff:
			at++
			continue
		case marker == 1 || marker >= 0xd0 && marker <= 0xd8:
			at += 2
			continue
		case marker == 0xda || marker == 0xd9:
			return m
		}
		body := file[min(at+4, len(file)):min(at+2+max(n, 2), len(file))]
		switch {
		case marker != 0xe1:
		case bytes.HasPrefix(body, []byte(xmp)):
			m.xmp = append(m.xmp, body)
		default:
			m.exif = append(m.exif, body)
		}
		at += 2 + max(n, 2)
	}
	return m
}

// metadataOfPNG finds EXIF in its own chunk and in the text chunks that ImageMagick writes, and XMP.
func metadataOfPNG(file []byte) (m metadata) {
	rest := file[min(len(pngSignature), len(file)):]
	text := int64(mostText)
	for {
		c, after, ok := nextPNGChunk(rest)
		if !ok {
			return m
		}
		rest = after
		if c.name == "eXIf" {
			m.exif = append(m.exif, c.data)
			continue
		}
		if c.name != "tEXt" && c.name != "zTXt" && c.name != "iTXt" {
			continue
		}
		key, words, ok := pngText(c, &text)
		switch {
		case !ok:
		case key == "XML:com.adobe.xmp":
			m.xmp = append(m.xmp, words)
		default:
			if raw := rawProfile(words); bytes.Contains(raw[:min(64, len(raw))], []byte("ns.adobe.com/xap")) {
				m.xmp = append(m.xmp, raw)
			} else {
				m.exif = append(m.exif, raw)
			}
		}
	}
}

// tellsOrientation reports whether the text under a key may hold EXIF or XMP.
func tellsOrientation(key string) bool {
	return strings.EqualFold(key, "Raw profile type exif") || strings.EqualFold(key, "Raw profile type APP1") ||
		key == "XML:com.adobe.xmp"
}

// mostText is the largest number of bytes of such texts that are unpacked from a PNG file: a few megabytes can hold
// thousands of chunks, each of which unpacks to a thousand times its size.
const mostText = 4 << 20

// pngText returns the key and the text of a text chunk. It unpacks at most left bytes, and subtracts them from left.
func pngText(c pngChunk, left *int64) (key string, text []byte, ok bool) {
	before, text, ok := bytes.Cut(c.data, []byte{0})
	if !ok || !tellsOrientation(string(before)) {
		return "", nil, false
	}
	packed := c.name == "zTXt"
	switch {
	case c.name == "zTXt" && len(text) > 0:
		text = text[1:]
	case c.name == "iTXt" && len(text) >= 2:
		packed = text[0] == 1
		_, text, _ = bytes.Cut(text[2:], []byte{0}) // the language,
		_, text, _ = bytes.Cut(text, []byte{0})     // and the key in it
	}
	if packed {
		z, err := zlib.NewReader(bytes.NewReader(text))
		if err != nil {
			return "", nil, false
		}
		text, _ = io.ReadAll(io.LimitReader(z, *left)) // what comes before an error counts
		*left -= int64(len(text))
	}
	return string(before), text, true
}

// rawProfile reads ImageMagick's form of a block: its name and length, and its bytes as hexadecimal digits.
func rawProfile(text []byte) []byte {
	lines := bytes.SplitN(bytes.TrimLeft(text, "\n"), []byte("\n"), 3)
	if len(lines) < 3 {
		return nil
	}
	digits := bytes.Join(bytes.Fields(lines[2]), nil)
	raw := make([]byte, len(digits)/2)
	n, _ := hex.Decode(raw, digits[:len(raw)*2]) // up to the first that is not a digit
	return raw[:n]
}

// metadataOfWebP finds the chunks, wherever they are.
func metadataOfWebP(file []byte) (m metadata) {
	for rest := file[min(12, len(file)):]; len(rest) >= 8; {
		n := int64(binary.LittleEndian.Uint32(rest[4:]))
		data := rest[8:min(8+n, int64(len(rest)))]
		switch string(rest[:4]) {
		case "EXIF":
			m.exif = append(m.exif, data)
		case "XMP ":
			m.xmp = append(m.xmp, data)
		}
		rest = rest[min(8+n+n%2, int64(len(rest))):]
	}
	return m
}
