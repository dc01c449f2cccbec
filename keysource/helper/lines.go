package helper

import (
	"bytes"
	"log/slog"
	"strings"
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
