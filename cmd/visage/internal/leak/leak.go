// Package leak searches files for secrets, in every form in which they could have been written.
package leak

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/visage-face/visage/gallery"
)

// Secret is data to search for, in all its forms.
type Secret struct {
	What  string // describes the secret in reports, without revealing it
	forms []form
}

type form struct {
	name  string
	bytes []byte
}

// minForm is the least length of a form in bytes. Shorter ones would occur in random bytes by chance: 8 bytes occur
// once in 2^64 places.
const minForm = 8

// Text returns a text to search for: as UTF-8, UTF-16, JSON, hexadecimal and base64, and in lower and upper case. It
// fails when the text is so short that it could occur by chance.
func Text(what, text string) (Secret, error) {
	if len(text) < minForm {
		return Secret{}, fmt.Errorf("%s has %d bytes; less than %d are found by chance", what, len(text), minForm)
	}
	s := Secret{What: what}
	s.add("utf-8", []byte(text))
	s.add("lower case", []byte(strings.ToLower(text)))
	s.add("upper case", []byte(strings.ToUpper(text)))
	var little, big []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		little = binary.LittleEndian.AppendUint16(little, unit)
		big = binary.BigEndian.AppendUint16(big, unit)
	}
	s.add("utf-16 little endian", little)
	s.add("utf-16 big endian", big)
	if quoted, err := json.Marshal(text); err == nil {
		s.add("json", bytes.Trim(quoted, `"`))
	}
	s.addEncoded("utf-8", []byte(text))
	return s, nil
}

// Template returns a template to look for: any of a few runs of its numbers, as float32 and float64, and of those of
// its code, as integers of 16 bits, in both byte orders, all these in hexadecimal and base64, and as JSON. It uses runs
// because a template may be stored in parts. It fails when the template has no code.
func Template(what string, template []float32) (Secret, error) {
	code, err := gallery.Encode(template)
	if err != nil {
		return Secret{}, fmt.Errorf("%s: %w", what, err)
	}
	s := Secret{What: what}
	for part := range runs(template, 4) {
		var le32, be32, le64, be64 []byte
		var text []string
		for _, v := range part {
			le32 = binary.LittleEndian.AppendUint32(le32, math.Float32bits(v))
			be32 = binary.BigEndian.AppendUint32(be32, math.Float32bits(v))
			le64 = binary.LittleEndian.AppendUint64(le64, math.Float64bits(float64(v)))
			be64 = binary.BigEndian.AppendUint64(be64, math.Float64bits(float64(v)))
			text = append(text, strconv.FormatFloat(float64(v), 'g', -1, 32))
		}
		for _, f := range []form{
			{"float32 little endian", le32}, {"float32 big endian", be32}, {"float64 little endian", le64},
			{"float64 big endian", be64},
		} {
			s.add(f.name, f.bytes)
			s.addEncoded(f.name, f.bytes)
		}
		s.addJSON("json", text)
	}
	numbers := make([]int16, len(template))
	for i := range numbers {
		numbers[i] = int16(binary.LittleEndian.Uint16(code[2*i:]))
	}
	for part := range runs(numbers, 8) {
		var little, big []byte
		var text []string
		for _, n := range part {
			little = binary.LittleEndian.AppendUint16(little, uint16(n))
			big = binary.BigEndian.AppendUint16(big, uint16(n))
			text = append(text, strconv.Itoa(int(n)))
		}
		s.add("code little endian", little)
		s.addEncoded("code little endian", little)
		s.add("code big endian", big)
		s.addEncoded("code big endian", big)
		s.addJSON("code as json", text)
	}
	return s, nil
}

// runs yields a few runs of n numbers: from the beginning, the middle and the end.
func runs[T any](numbers []T, n int) iter.Seq[[]T] {
	return func(yield func([]T) bool) {
		for _, at := range []int{0, len(numbers) / 2, len(numbers) - n} {
			if at >= 0 && at+n <= len(numbers) && !yield(numbers[at:at+n]) {
				return
			}
		}
	}
}

// addJSON adds numbers as the elements of a list, with and without blanks.
func (s *Secret) addJSON(name string, numbers []string) {
	s.add(name, []byte(strings.Join(numbers, ",")))
	s.add(name+" with blanks", []byte(strings.Join(numbers, ", ")))
}

func (s *Secret) add(name string, b []byte) {
	if len(b) >= minForm && !slices.ContainsFunc(s.forms, func(f form) bool { return bytes.Equal(f.bytes, b) }) {
		s.forms = append(s.forms, form{name, b})
	}
}

// addEncoded adds b in hexadecimal and in base64. Base64 differs for each of three offsets in the encoded data; the
// characters at the ends depend on the neighbours and are left out.
func (s *Secret) addEncoded(name string, b []byte) {
	h := hex.EncodeToString(b)
	s.add(name+" in hexadecimal", []byte(h))
	s.add(name+" in hexadecimal", []byte(strings.ToUpper(h)))
	for offset := range 3 {
		whole := (len(b) + offset) / 3 * 3
		padded := append(make([]byte, offset), b...)[:whole]
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := enc.EncodeToString(padded)
			if offset > 0 && len(text) > 4 {
				text = text[4:] // the first four include the neighbour before
			}
			s.add(name+" in base64", []byte(text))
		}
	}
}

// Find is a secret that was found.
type Find struct {
	What   string // as Secret.What
	Form   string // for example "float32 little endian in base64"
	File   string
	Offset int64 // of the form, in the file
}

// Report is the result of a search.
type Report struct {
	Files int
	Bytes int64
	Finds []Find
}

// chunk is the size of the parts of a file that are searched at a time.
const chunk = 4 << 20

// index finds many forms in one pass: at each place it checks whether any form begins with the eight bytes there.
type index struct {
	forms   map[uint64][]indexed // by their first eight bytes
	maybe   []uint64             // a bit for each hash of such a beginning, since few places have one
	overlap int                  // of two windows, so that no form is split
}

type indexed struct {
	what string
	form
}

const indexBits = 20

func newIndex(secrets []Secret) *index {
	x := &index{forms: map[uint64][]indexed{}, maybe: make([]uint64, 1<<indexBits/64)}
	for _, s := range secrets {
		for _, f := range s.forms {
			begin := binary.LittleEndian.Uint64(f.bytes)
			x.forms[begin] = append(x.forms[begin], indexed{s.What, f})
			h := hash(begin)
			x.maybe[h/64] |= 1 << (h % 64)
			x.overlap = max(x.overlap, len(f.bytes)-1)
		}
	}
	return x
}

// hash spreads beginnings over the bits of index.maybe: multiplication by 2^64 over the golden ratio.
func hash(begin uint64) uint64 { return begin * 0x9e3779b97f4a7c15 >> (64 - indexBits) }

// each calls fn with every form in window and the place where it is.
func (x *index) each(window []byte, fn func(indexed, int)) {
	for i := 0; i+minForm <= len(window); i++ {
		begin := binary.LittleEndian.Uint64(window[i:])
		if h := hash(begin); x.maybe[h/64]>>(h%64)&1 == 0 {
			continue
		}
		for _, f := range x.forms[begin] {
			if bytes.HasPrefix(window[i:], f.bytes) {
				fn(f, i)
			}
		}
	}
}

// Search looks for the secrets in every byte of every file under the paths, and in the files' names. Each form is
// reported once a file.
func Search(secrets []Secret, paths ...string) (Report, error) {
	var r Report
	x := newIndex(secrets)
	for _, path := range paths {
		err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			x.each([]byte(d.Name()), func(f indexed, _ int) {
				r.Finds = append(r.Finds, Find{f.what, f.name + " in the file's name", name, 0})
			})
			if !d.Type().IsRegular() {
				return nil
			}
			return r.searchFile(name, x)
		})
		if err != nil {
			return r, fmt.Errorf("search %s: %w", path, err)
		}
	}
	return r, nil
}

func (r *Report) searchFile(name string, x *index) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	r.Files++
	found := map[string]bool{}
	buf := make([]byte, x.overlap+chunk)
	kept := 0     // bytes at the start of buf that the last round has searched
	var pos int64 // of buf[0] in the file
	for {
		n, err := io.ReadFull(f, buf[kept:])
		r.Bytes += int64(n)
		window := buf[:kept+n]
		x.each(window, func(f indexed, at int) {
			if id := f.what + "\x00" + f.name; !found[id] {
				found[id] = true
				r.Finds = append(r.Finds, Find{f.what, f.name, name, pos + int64(at)})
			}
		})
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
		keep := min(x.overlap, len(window))
		pos += int64(len(window) - keep)
		kept = copy(buf, window[len(window)-keep:])
	}
}

// Plant writes every form of the secrets into a new file at path, with other bytes around each, to check that a search
// finds them all. It returns how many there are.
func Plant(path string, secrets []Secret) (int, error) {
	var b bytes.Buffer
	n := 0
	for _, s := range secrets {
		for _, f := range s.forms {
			b.WriteString("\x00\xff~~")
			b.Write(f.bytes)
			n++
		}
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		return 0, fmt.Errorf("plant secrets: %w", err)
	}
	return n, nil
}
