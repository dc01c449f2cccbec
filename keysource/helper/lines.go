package helper

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"unicode"
)

// maxLine bounds a line of the log, and maxLines those of one life of a helper. A secret of up to maxSecret bytes is
// found in a line that is cut in the middle of it as well.
const (
	maxLine   = 1 << 10
	maxLines  = 200
	maxSecret = 256
)

// lines logs what a helper writes to its standard error.
type lines struct {
	log     *slog.Logger
	kind    string
	secrets []string // files
	hidden  []string // texts

	rest   []byte // of a line
	over   bool   // the line is longer than rest
	logged int
}

// Write implements io.Writer. It never fails, because a library that cannot write may end.
func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte("\n"))
		room := max(0, maxLine+maxSecret-len(l.rest))
		l.over = l.over || len(line) > room
		l.rest = append(l.rest, line[:min(len(line), room)]...)
		if ended {
			l.write()
		}
		p = rest
	}
	return n, nil
}

func (l *lines) write() {
	line, over := string(l.rest), l.over
	l.rest, l.over = l.rest[:0], false
	l.logged++
	switch {
	case l.logged > maxLines+1 || strings.TrimSpace(line) == "":
		return
	case l.logged > maxLines:
		line = "further lines are not logged"
	case l.secret(line):
		line = "a line with a secret in it is not logged"
	case over || len(line) > maxLine:
		line = line[:min(len(line), maxLine)] + " …"
	}
	l.log.Warn("the helper of a key store wrote", "kind", l.kind, "line", strings.ToValidUTF8(line, "?"))
}

// secret reports whether a line holds a secret.
func (l *lines) secret(line string) bool {
	if slices.ContainsFunc(l.hidden, func(part string) bool { return strings.Contains(line, part) }) {
		return true
	}
	for _, path := range l.secrets {
		raw, err := readFile(path)
		if err != nil {
			return true // which of its words are secret cannot be known
		}
		found := holds([]byte(line), raw)
		clear(raw)
		if found {
			return true
		}
	}
	return false
}

// minHidden is the length from which a part of a text counts that may be secret: shorter ones, such as 1 or debug, are
// in many lines.
const minHidden = 6

// partsOf returns the parts of texts that may be secret: the words in them, without quotes, and what follows an equals
// sign in a word, which may also be the end of a secret in base64.
func partsOf(texts []string) []string {
	var all []string
	for _, text := range texts {
		for _, word := range strings.FieldsFunc(text, func(r rune) bool {
			return unicode.IsSpace(r) || strings.ContainsRune("'\";,", r)
		}) {
			_, value, _ := strings.Cut(word, "=")
			for _, part := range []string{word, value} {
				if len(part) >= minHidden {
					all = append(all, part)
				}
			}
		}
	}
	return all
}

// minSecret is the length from which a line of a secret file counts, other than the first: a private key in PEM has
// many, and its last one may be short enough to be in any text.
const minSecret = 16

// holds reports whether a line holds one of the lines of a secret.
func holds(line, secret []byte) bool {
	first := true
	for part := range bytes.Lines(secret) {
		part = bytes.TrimSpace(part)
		if len(part) > 0 && (first || len(part) >= minSecret) && bytes.Contains(line, part) {
			return true
		}
		first = false
	}
	return false
}
