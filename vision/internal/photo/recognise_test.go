package photo_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"unicode/utf8"
)

// latin1 is what a program makes of bytes that takes each for a character.
func latin1(b []byte) (out []byte) {
	for _, c := range b {
		out = utf8.AppendRune(out, rune(c))
	}
	return out
}

// The message names what was sent in place of an image, and what was done to one.
func TestDecodeNamesTheCause(t *testing.T) {
	m := scene(64, 64)
	jpegFile, pngFile, gifFile, bmpFile := encode(t, "jpeg", m), encode(t, "png", m), encode(t, "gif", m),
		encode(t, "bmp", m)
	webpFile := webpOf(m, 64, 64, nil)
	heicFile, _ := tileOf(t, "tile.heic")
	large := encode(t, "jpeg", scene(640, 480))
	film := bytes.Clone(webpFile)
	film[20] |= 2
	encoded := func(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b)) }
	lines := func(b []byte) []byte {
		var out []byte
		for s := encoded(b); len(s) > 0; s = s[min(76, len(s)):] {
			out = append(append(out, s[:min(76, len(s))]...), "\r\n"...)
		}
		return out
	}
	seven := bytes.Clone(pngFile)
	for i := range seven {
		seven[i] &= 0x7f
	}
	for name, c := range map[string]struct {
		file  []byte
		words string
	}{
		"nothing":                   {nil, "body is empty"},
		"animated WebP":             {film, "animated WebP"},
		"JPEG in Base64":            {encoded(jpegFile), "Base64"},
		"PNG in Base64":             {encoded(pngFile), "Base64"},
		"GIF in Base64":             {encoded(gifFile), "Base64"},
		"BMP in Base64":             {encoded(bmpFile), "Base64"},
		"WebP in Base64":            {encoded(webpFile), "Base64"},
		"JPEG in Base64, in lines":  {lines(jpegFile), "Base64"},
		"JPEG in Base64, quoted":    {append(append([]byte{'"'}, encoded(jpegFile)...), '"'), "Base64"},
		"JPEG in URL-safe Base64":   {[]byte(base64.URLEncoding.EncodeToString(jpegFile)), "Base64"},
		"data URI":                  {append([]byte("data:image/jpeg;base64,"), encoded(jpegFile)...), "data URI"},
		"short data URI":            {[]byte("data:image/gif;base64,R0lGODlhAQABAAAAACw="), "data URI"},
		"JPEG in hexadecimal":       {[]byte(hex.EncodeToString(jpegFile)), "hexadecimal"},
		"bytes as Python shows":     {[]byte(`b'\xff\xd8\xff\xe0` + strings.Repeat(`\x00`, 400)), "hexadecimal"},
		"JPEG, not UTF-8 replaced":  {bytes.ToValidUTF8(jpegFile, []byte("\uFFFD")), "text encoding"},
		"JPEG, each replaced":       {eachReplaced(jpegFile), "text encoding"},
		"PNG, not UTF-8 replaced":   {[]byte(strings.ToValidUTF8(string(pngFile), "\uFFFD")), "text encoding"},
		"GIF, not UTF-8 replaced":   {eachReplaced(gifFile), "text encoding"},
		"WebP, not UTF-8 replaced":  {eachReplaced(webpFile), "text encoding"},
		"JPEG, taken for Latin-1":   {latin1(jpegFile), "text encoding"},
		"PNG, taken for Latin-1":    {latin1(pngFile), "text encoding"},
		"HEIC in Base64":            {encoded(heicFile), "Base64"},
		"JPEG, not UTF-8 left out":  {bytes.ToValidUTF8(jpegFile, nil), "text encoding"},
		"PNG, not UTF-8 left out":   {bytes.ToValidUTF8(pngFile, nil), "text encoding"},
		"JPEG, each made to a mark": {questioned(jpegFile), "text encoding"},
		"WebP, taken for Latin-1":   {latin1(webpFile), "text encoding"},
		"HEIC, taken for Latin-1":   {latin1(heicFile), "text encoding"},
		"JPEG, LF made CR LF":       {bytes.ReplaceAll(large, []byte("\n"), []byte("\r\n")), "line ends"},
		"PNG, CR LF made LF":        {bytes.ReplaceAll(pngFile, []byte("\r\n"), []byte("\n")), "line ends"},
		"PNG, LF made CR LF":        {bytes.ReplaceAll(pngFile, []byte("\n"), []byte("\r\n")), "line ends"},
		"PNG of seven bits":         {seven, "seven bits"},
		"JSON":                      {append([]byte(`{"data":"`), append(encoded(jpegFile), `"}`...)...), "JSON"},
		"short JSON":                {[]byte(`{"url":"https://example.org/a.jpg"}`), "JSON"},
		"an array of numbers":       {[]byte("[" + strings.Repeat("255,216,", 300) + "0]"), "JSON"},
		"an address":                {[]byte("https://example.org/a.jpg"), "address of an image"},
		"a form": {
			append([]byte("--x\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\n"), jpegFile...),
			"multipart/form-data",
		},
		"HTML":             {long([]byte("<!DOCTYPE html><html><body>Sign in</body></html>")), "HTML page"},
		"HTML with a mark": {long([]byte("\xef\xbb\xbf\n <html>")), "HTML page"},
		"SVG": {[]byte("<svg xmlns='http://www.w3.org/2000/svg'>" + strings.Repeat(" ", 1024)),
			"SVG"},
		"SVG as XML":             {[]byte("<?xml version='1.0'?>\n<svg/>" + strings.Repeat(" ", 1024)), "SVG"},
		"PDF":                    {long([]byte("%PDF-1.7\n")), "PDF"},
		"TIFF":                   {long([]byte("II*\x00\x08")), "TIFF"},
		"TIFF, big":              {long([]byte("MM\x00*\x00")), "TIFF"},
		"JPEG XL":                {long([]byte("\xff\x0a\x01")), "JPEG XL"},
		"JPEG XL in a container": {long([]byte("\x00\x00\x00\x0cJXL \r\n\x87\n")), "JPEG XL"},
		"JPEG 2000":              {long([]byte("\x00\x00\x00\x0cjP  \r\n\x87\n")), "JPEG 2000"},
		"Photoshop":              {long([]byte("8BPS\x00\x01")), "Photoshop"},
		"icon":                   {long([]byte("\x00\x00\x01\x00\x01\x00")), "icon"},
		"film":                   {long([]byte("\x00\x00\x00\x18ftypisom")), "film"},
		"ZIP":                    {long([]byte("PK\x03\x04")), "ZIP"},
		"gzip":                   {long([]byte("\x1f\x8b\x08")), "gzip"},
		"JPEG behind a header": {append([]byte("X-Header: 1\r\n\r\n"), jpegFile...),
			"JPEG file begins only after 15 other bytes"},
		"PNG behind a mark of text": {append([]byte("\xef\xbb\xbf"), pngFile...),
			"PNG file begins only after 3 other bytes"},
		"zeros": {make([]byte, 2000), "nothing but zeros"},
		"text":  {[]byte(strings.Repeat("Lorem ipsum. ", 100)), "text"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, c.file, c.words)
		})
	}
}

// A file of a format that is read is not taken for another because it is short.
func TestDecodeOfShortFiles(t *testing.T) {
	for _, name := range []string{"tile.avif", "tilegrey.heic"} {
		file, _ := tileOf(t, name)
		_, err := decode(file[:400])
		if err == nil || !strings.HasSuffix(err.Error(), "the image has 400 bytes, the least allowed is 1024") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// questioned puts a question mark in the place of each byte that is not ASCII.
func questioned(b []byte) []byte {
	return bytes.ReplaceAll(eachReplaced(b), []byte("\uFFFD"), []byte("?"))
}

// eachReplaced puts the replacement character in the place of each byte that is not ASCII.
func eachReplaced(b []byte) (out []byte) {
	for _, c := range b {
		if c < utf8.RuneSelf {
			out = append(out, c)
		} else {
			out = append(out, "\uFFFD"...)
		}
	}
	return out
}
