package api

import (
	"bytes"

	"github.com/visage-face/visage"
)

// The byte order marks of other encodings than UTF-8 (Unicode 15 §23.8), the longer first.
var byteOrderMarks = []struct {
	mark     []byte
	encoding string
}{
	{[]byte{0, 0, 0xfe, 0xff}, "UTF-32"}, {[]byte{0xff, 0xfe, 0, 0}, "UTF-32"},
	{[]byte{0xfe, 0xff}, "UTF-16"}, {[]byte{0xff, 0xfe}, "UTF-16"},
}

// text returns a JSON body without its byte order mark, which parsers may ignore (RFC 8259 §8.1). Text in another
// encoding is refused with kind Invalid and the name of the encoding.
func text(body []byte) ([]byte, error) {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	encoding := ""
	for _, m := range byteOrderMarks {
		if encoding == "" && bytes.HasPrefix(body, m.mark) {
			encoding = m.encoding
		}
	}
	// Without a mark: JSON begins with two characters of ASCII, and no byte of it is zero (RFC 4627 §3).
	if len(body) >= 4 && encoding == "" {
		switch zero := [4]bool{body[0] == 0, body[1] == 0, body[2] == 0, body[3] == 0}; zero {
		case [4]bool{true, false, true, false}, [4]bool{false, true, false, true}:
			encoding = "UTF-16"
		case [4]bool{true, true, true, false}, [4]bool{false, true, true, true}:
			encoding = "UTF-32"
		}
	}
	if encoding != "" {
		return nil, visage.Refuse(visage.Invalid, "", "The body is JSON in %s: send it in UTF-8.", encoding)
	}
	return body, nil
}
