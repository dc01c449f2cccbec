package photo

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"
)

// formatNames are the formats as messages list them.
const formatNames = "JPEG, PNG, GIF, BMP, WebP, HEIC and AVIF"

// notAnImage returns the error for a file of none of the formats. It names the actual kind of file where it is
// recognised.
func notAnImage(file []byte) error {
	message := "the image format is not one of " + formatNames
	if cause := mistaken(file); cause != "" {
		message = cause
	}
	return &Error{Kind: NotAnImage, Message: message}
}

// others are formats that are not read, by the first bytes of their files. A question mark stands for any byte.
var others = []struct{ magic, name string }{
	{"II*\x00", "TIFF"}, {"MM\x00*", "TIFF"}, {"II+\x00", "TIFF"}, {"MM\x00+", "TIFF"},
	{"\xff\x0a", "JPEG XL"}, {"\x00\x00\x00\x0cJXL ", "JPEG XL"},
	{"\x00\x00\x00\x0cjP  ", "JPEG 2000"}, {"\xff\x4f\xff\x51", "JPEG 2000"}, {"II\xbc", "JPEG XR"},
	{"8BPS", "Photoshop"}, {"\x00\x00\x01\x00", "icon (ICO)"}, {"\x00\x00\x02\x00", "cursor (CUR)"}, {"%PDF", "PDF"},
	{"%!PS", "PostScript"}, {"qoif", "QOI"}, {"v/1\x01", "OpenEXR"}, {"#?RADIANCE", "Radiance"}, {"BPG\xfb", "BPG"},
	{"FUJIFILMCCD", "camera raw"}, {"IIRO", "camera raw"}, {"IIU\x00", "camera raw"}, {"DDS ", "DDS"},
	{"P1\n", "PNM"}, {"P2\n", "PNM"}, {"P3\n", "PNM"}, {"P4\n", "PNM"}, {"P5\n", "PNM"}, {"P6\n", "PNM"},
	{"P7\n", "PNM"},
	{"????ftypcrx ", "camera raw"}, {"????ftypqt  ", "QuickTime film"}, {"????ftyp", "MPEG-4 film"},
	{"\x1a\x45\xdf\xa3", "Matroska or WebM film"}, {"RIFF????AVI ", "AVI film"}, {"RIFF????WAVE", "sound"},
	{"ID3", "sound"},
	{"OggS", "Ogg"}, {"PK\x03\x04", "ZIP"}, {"\x1f\x8b", "gzip"}, {"Rar!", "RAR"}, {"7z\xbc\xaf", "7-Zip"},
	{"\x7fELF", "program"}, {"MZ", "program"}, {"AT&TFORM", "DjVu"}, {"\xd7\xcd\xc6\x9a", "Windows metafile"},
}

// mistaken returns the actual kind of a file of none of the formats; empty if it is not recognised.
func mistaken(file []byte) string {
	for _, o := range others {
		if starts(file, o.magic) {
			return fmt.Sprintf("the file is of the format %s, which is not one of %s", o.name, formatNames)
		}
	}
	if cause := altered(file); cause != "" {
		return cause
	}
	text := strings.TrimLeft(string(bytes.TrimPrefix(file[:min(len(file), 1024)], []byte("\xef\xbb\xbf"))), " \t\r\n")
	lower := strings.ToLower(text)
	has := func(prefixes ...string) bool {
		for _, p := range prefixes {
			if strings.HasPrefix(lower, p) {
				return true
			}
		}
		return false
	}
	const raw = "send the bytes of the image file themselves"
	switch {
	case has("data:"):
		return "the body is a data URI; decode it and " + raw
	case has("http://", "https://"):
		return `the body is the address of an image; send {"url": "..."} as application/json`
	case has("{", "["):
		return "the body is JSON, not the bytes of an image; send an address as application/json, or " + raw
	case has("--") && strings.Contains(lower, "content-disposition"):
		return "the body is a form (multipart/form-data); " + raw + ", without a form around them"
	case has("<svg") || has("<?xml", "<!--", "<!doctype svg") && strings.Contains(lower, "<svg"):
		return "the file is of the format SVG, which is not one of " + formatNames
	case has("<!doctype html", "<html", "<head", "<body", "<!--", "<script"):
		return "the body is an HTML page, not an image: the address or the server that it comes from may need a sign-in"
	case has("<?xml"):
		return "the body is an XML document, not an image"
	case has("ffd8ff", "89504e47", "0xffd8", "424d", "47494638", "52494646", "\\xff\\xd8", "\\x89png", `b'\xff\xd8`,
		`b"\xff\xd8`):
		return "the body is an image written as hexadecimal digits; " + raw
	case has("%ff%d8", "%89png"):
		return "the body is an image in URL encoding; " + raw
	case isBase64(text):
		return "the body is an image in Base64; decode it and " + raw
	}
	for _, f := range formats {
		if f.name == "BMP" { // two letters are anywhere
			continue
		}
		head := file[:min(len(file), 256)]
		if at := bytes.Index(head, []byte(strings.ReplaceAll(f.magic[:min(4, len(f.magic))], "?", ""))); at > 0 {
			if formatOf(file[at:]) != nil {
				return fmt.Sprintf("a %s file begins only after %d other bytes; send the file alone", f.name, at)
			}
		}
	}
	switch {
	case replaced(file), isText(file):
		return encoded
	case bytes.Count(file, []byte{0}) == len(file):
		return "the file is nothing but zeros"
	case utf8.Valid(file[:max(len(file)-utf8.UTFMax, 0)]) && !bytes.ContainsRune(file, 0):
		return "the body is text, not an image; its format is not one of " + formatNames
	}
	return ""
}

// altered returns how programs that took an image for text changed its first bytes.
func altered(file []byte) string {
	const (
		seven = "the image was reduced to seven bits a byte, which destroys it; transfer the file in binary mode"
	)
	for _, a := range []struct{ magic, cause string }{
		// what is not UTF-8 was replaced
		{"\xef\xbf\xbd", encoded},
		// it was taken for Latin-1
		{"\xc3\xbf\xc3\x98", encoded}, {"\xc2\x89PNG", encoded}, {"\xe2\x80\xb0PNG", encoded},
		{"\x00\x10JFIF\x00", encoded}, {"PNG\r\n\x1a\n", encoded}, {"????\x00", encoded}, // or left out, or made to "?"
		{"\xff\xfe\xff\x00\xd8\x00", encoded}, {"\xfe\xff\x00\xff\x00\xd8", encoded}, {"??PNG", encoded},
		{"\x89PNG\n\x1a\n", lines}, {"\x89PNG\r\r\n", lines}, {"\x89PNG\r\x1a\r", lines}, {"\x89PNG\n\n", lines},
		{"\x09PNG", seven}, {"\x7fX\x7f", seven},
	} {
		if strings.Contains(a.magic, "?") && bytes.HasPrefix(file, []byte(a.magic)) ||
			!strings.Contains(a.magic, "?") && starts(file, a.magic) {
			return a.cause
		}
	}
	return ""
}

// lines is the cause of files whose line feeds were taken for ends of lines.
const lines = "the line ends in the file were converted, which destroys it; transfer the file in binary mode"

// encoded is the cause of files that programs took for text.
const encoded = "the image went through a text encoding (UTF-8), which destroys it; read, keep and send the file as " +
	"bytes, " +
	"not as a string"

// replaced reports whether a text decoder put the replacement character in the place of each byte that is not text. By
// chance it would be there once in sixteen million bytes.
func replaced(file []byte) bool {
	return bytes.Count(file, []byte("\xef\xbf\xbd")) > some
}

// some is the number of occurrences that cannot be chance.
const some = 20

// isText reports whether bytes that should be an image are text in UTF-8, with zeros and characters beyond ASCII as no
// text has them: each byte became a character, or those that are none were left out.
func isText(file []byte) bool {
	if bytes.IndexByte(file, 0) < 0 || !utf8.Valid(file) {
		return false
	}
	return len(file)-utf8.RuneCount(file) > some
}

// isLined reports whether each of many line feeds stands behind a carriage return, which one in 256 does by chance.
func isLined(file []byte) bool {
	n := bytes.Count(file, []byte("\n"))
	return n > some && bytes.Count(file, []byte("\r\n")) == n
}

// spoilt returns how the bytes of a file were changed that begins correctly and cannot be decoded; empty if that is not
// recognised.
func spoilt(file []byte) string {
	if cause := altered(file); cause != "" {
		return cause
	}
	switch {
	case replaced(file), isText(file):
		return encoded
	case isLined(file):
		return lines
	}
	return ""
}

// isBase64 reports whether a text begins as an image in Base64, of either alphabet.
func isBase64(text string) bool {
	const enough = 24 // digits, of which a HEIC file has its brand in the last
	text = strings.NewReplacer("\r", "", "\n", "", "-", "+", "_", "/", `"`, "", "'", "").Replace(text)
	text = strings.TrimPrefix(text, "base64,")
	if len(text) < enough {
		return false
	}
	head, err := base64.StdEncoding.DecodeString(text[:enough])
	if err != nil {
		return false
	}
	if f := formatOf(head); f != nil && f.name != "BMP" {
		return true
	}
	// A BMP's two letters are anywhere: its reserved bytes are zero.
	return starts(head, "BM????\x00\x00\x00\x00")
}
