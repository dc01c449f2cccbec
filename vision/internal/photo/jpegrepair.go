package photo

import (
	"bytes"
	"slices"
	"strings"
)

const (
	noEnd           = "no end marker" // the note of a file that lacks its last marker
	betweenSegments = "bytes between segments"
)

// filling reports whether bytes are nothing but 0xff, which may stand before every marker.
func filling(b []byte) bool { return bytes.Count(b, []byte{0xff}) == len(b) }

// headerNote names the faults that the decoder of the standard library tolerates silently.
func headerNote(file []byte) string {
	for at := 2; at+4 <= len(file); {
		from := at
		for at+4 <= len(file) && (file[at] != 0xff || file[at+1] == 0 || file[at+1] == 0xff) {
			at++
		}
		if !filling(file[from:at]) {
			return said([]string{betweenSegments})
		}
		switch marker := file[at+1]; {
		case marker == 0xda || marker == 0xd9:
			return ""
		case marker == 1 || marker >= 0xd0 && marker <= 0xd8:
			at += 2
		default:
			at += 2 + max(int(file[at+2])<<8+int(file[at+3]), 2)
		}
	}
	return ""
}

// repair is a JPEG file that is written again, segment by segment, without what does not belong there.
type repair struct {
	in       []byte
	at       int
	out      bytes.Buffer
	frame    jpegFrame
	factors  [][3]byte // each component's name and sampling factors
	interval int       // units between two restart markers; 0: there are none
	notes    []string
}

// repairJPEG takes out of a JPEG file what libjpeg and browsers step over, or do not miss: bytes between segments,
// markers within the data of a scan that mean nothing there, filling, wrong numbers of restart markers where all of
// them are there, and a missing end. The notes say what it was.
func repairJPEG(file []byte) (repaired []byte, notes []string) {
	r := &repair{in: file, at: 2}
	r.out.WriteString("\xff\xd8")
	for r.segment() {
	}
	r.out.WriteString("\xff\xd9")
	return r.out.Bytes(), r.notes
}

func (r *repair) note(text string) {
	if !slices.Contains(r.notes, text) {
		r.notes = append(r.notes, text)
	}
}

// segment copies one segment, and the data behind a scan's header; it returns false at the end.
func (r *repair) segment() bool {
	from := r.at
	for r.at+1 < len(r.in) && (r.in[r.at] != 0xff || r.in[r.at+1] == 0 || r.in[r.at+1] == 0xff) {
		r.at++
	}
	if !filling(r.in[from:min(r.at, len(r.in))]) {
		r.note(betweenSegments)
	}
	if r.at+4 > len(r.in) {
		r.end()
		return false
	}
	marker := r.in[r.at+1]
	switch {
	case marker == 0xd9:
		return false
	case marker == 1 || marker >= 0xd0 && marker <= 0xd8:
		r.note("a marker between segments")
		r.at += 2
		return true
	}
	n := int(r.in[r.at+2])<<8 + int(r.in[r.at+3])
	end := r.at + 2 + n
	if n < 2 || end > len(r.in) {
		r.out.Write(r.in[r.at:]) // libjpeg will say what it is
		r.at = len(r.in)
		return false
	}
	body := r.in[r.at+4 : end]
	switch {
	case marker == 0xdd && len(body) >= 2:
		r.interval = int(body[0])<<8 + int(body[1])
	case marker >= 0xc0 && marker <= 0xc2:
		if f, err := readFrame(marker, body); err == nil {
			r.frame, r.factors = f, nil
			for c := range f.components {
				r.factors = append(r.factors, [3]byte{body[6+3*c], body[6+3*c+1] >> 4, body[6+3*c+1] & 15})
			}
		}
	}
	r.out.Write(r.in[r.at:end])
	r.at = end
	if marker == 0xda {
		return r.scan(body)
	}
	return true
}

func (r *repair) end() {
	if tail := r.in[min(r.at, len(r.in)):]; !bytes.HasPrefix(tail, []byte("\xff\xd9")) {
		r.note(noEnd)
	}
}

// scan copies the data of a scan; it returns false at the end of the file.
func (r *repair) scan(header []byte) bool {
	var restarts []int // where the numbers are in the output
	defer func() { r.number(restarts, header) }()
	for {
		next := bytes.IndexByte(r.in[r.at:], 0xff)
		if next < 0 || r.at+next+1 >= len(r.in) {
			r.out.Write(bytes.TrimSuffix(r.in[r.at:], []byte{0xff}))
			r.at = len(r.in)
			r.note(noEnd)
			return false
		}
		r.out.Write(r.in[r.at : r.at+next])
		r.at += next
		switch marker := r.in[r.at+1]; {
		case marker == 0:
			r.out.WriteString("\xff\x00")
			r.at += 2
		case marker == 0xff: // filling
			r.at++
		case marker >= 0xd0 && marker <= 0xd7 && r.interval > 0:
			r.out.Write([]byte{0xff, marker})
			restarts = append(restarts, r.out.Len()-1)
			r.at += 2
		case marker == 0xd9:
			return false
		case r.segmentAt(r.at):
			return true
		default:
			r.note("a stray marker")
			r.at += 2
		}
	}
}

// segmentAt reports whether a marker within the data of a scan begins a segment that may end the scan.
func (r *repair) segmentAt(at int) bool {
	if at+4 > len(r.in) {
		return false
	}
	marker, n := r.in[at+1], int(r.in[at+2])<<8+int(r.in[at+3])
	end := at + 2 + n
	switch {
	case n < 2 || end+1 >= len(r.in):
		return false
	case marker == 0xda:
		return n >= 8 && n == 6+2*int(r.in[at+4])
	case marker == 0xc4 || marker >= 0xdb && marker <= 0xdd || marker >= 0xe0 && marker <= 0xef || marker == 0xfe:
		return r.in[end] == 0xff && r.in[end+1] >= 0xc0
	}
	return false
}

// number puts the numbers of a scan's restart markers in order, if as many are there as its size needs. If some are
// missing, libjpeg guesses which.
func (r *repair) number(restarts []int, header []byte) {
	if r.interval == 0 || len(restarts) != (r.units(header)+r.interval-1)/r.interval-1 {
		return
	}
	for i, at := range restarts {
		if right := byte(0xd0 + i%8); r.out.Bytes()[at] != right {
			r.out.Bytes()[at] = right
			r.note("a restart marker with a wrong number")
		}
	}
}

// units returns how many units the scan with a header has: the squares that hold a block of each component, or the
// blocks of a component that stands alone.
func (r *repair) units(header []byte) int {
	up := func(a, b int) int { return (a + b - 1) / max(b, 1) }
	if len(header) < 3 {
		return 0
	}
	w, h := r.frame.width, r.frame.height
	if header[0] != 1 || r.frame.components == 1 {
		return up(w, r.frame.across) * up(h, r.frame.down)
	}
	for _, f := range r.factors {
		if f[0] == header[1] {
			return up(w*int(f[1]), r.frame.across) * up(h*int(f[2]), r.frame.down)
		}
	}
	return 0
}

// said joins the notes to one sentence without an end.
func said(notes []string) string { return "JPEG file with " + strings.Join(notes, ", ") }

func hasNote(notes []string, note string) bool { return slices.Contains(notes, note) }
