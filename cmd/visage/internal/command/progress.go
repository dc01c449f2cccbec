package command

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// Progress shows the progress of work that can take minutes: as a bar on one line where w is a terminal, elsewhere as a
// line for each Every pieces.
type Progress struct {
	W     io.Writer
	What  string // the pieces, in the plural
	Every int
}

// Done reports the number of pieces that are complete.
func (p Progress) Done(done, of int) {
	const bar = 30
	switch {
	case IsTerminal(p.W) && os.Getenv("TERM") != "dumb":
		filled := bar
		if of > 0 {
			filled = bar * done / of
		}
		fmt.Fprintf(p.W, "\r[%s%s] %d of %d %s", strings.Repeat("#", filled), strings.Repeat(" ", bar-filled), done, of,
			p.What)
		if done == of {
			fmt.Fprintln(p.W)
		}
	case done%p.Every == 0 || done == of:
		fmt.Fprintf(p.W, "%d of %d %s\n", done, of, p.What)
	}
}
