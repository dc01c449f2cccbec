package command

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Table is an answer for people: rows of cells in columns. The zero value is empty and ready.
type Table struct {
	Gap   int // spaces between columns; 0 stands for 2
	lines []tableLine
}

// tableLine is a row of cells or, with a single cell, a line of text that ends the columns above it.
type tableLine []string

// Row adds a row. Cells are formatted as fmt.Sprint does; empty strings stay empty.
func (t *Table) Row(cells ...any) {
	line := make(tableLine, len(cells))
	for i, c := range cells {
		line[i] = fmt.Sprint(c)
	}
	t.lines = append(t.lines, line)
}

// Line adds a line of text. The widths of columns below it do not depend on those above.
func (t *Table) Line(format string, args ...any) {
	t.lines = append(t.lines, tableLine{fmt.Sprintf(format, args...)})
}

// Write writes the table. Words for a state are coloured where w is a terminal.
func (t *Table) Write(w io.Writer) error {
	var b strings.Builder
	for begin := 0; begin < len(t.lines); {
		end := begin + 1
		for len(t.lines[begin]) > 1 && end < len(t.lines) && len(t.lines[end]) > 1 {
			end++
		}
		t.block(&b, w, t.lines[begin:end])
		begin = end
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// block writes lines that share their columns.
func (t *Table) block(b *strings.Builder, w io.Writer, lines []tableLine) {
	gap := t.Gap
	if gap == 0 {
		gap = 2
	}
	var widths []int
	for _, line := range lines {
		for i, cell := range line[:len(line)-1] { // the last cell needs no padding
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range lines {
		for i, cell := range line {
			b.WriteString(paintState(w, cell))
			if i < len(line)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]+gap-utf8.RuneCountInString(cell)))
			}
		}
		b.WriteByte('\n')
	}
}

// Dash stands for an empty cell, so that programs can split the columns.
func Dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Clock shortens a time stamp of the server to seconds.
func Clock(stamp string) string {
	short, _, _ := strings.Cut(stamp, ".")
	return Dash(short)
}
