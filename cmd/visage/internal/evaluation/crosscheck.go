package evaluation

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/visage-face/visage/vision/pack"
)

// CrossCheck tests a calibration on people who were not used for it: the people are divided into halves, and each is
// judged by the calibration of the other.
type CrossCheck struct {
	Sides [2]CrossSide
}

// CrossSide is one half, judged by the other.
type CrossSide struct {
	// Worst is the worst group of the half that calibrated.
	Worst string
	// People in the half that is judged, and the accepted pairs at 0.5.
	People int
	Half   Half
	Groups []Group // with Half set
}

// CrossCheck divides the people into halves, the same ones each time. It fails where a half is too small to be
// calibrated.
func (f *Faces) CrossCheck(ctx context.Context) (*CrossCheck, error) {
	var made [2]*pack.Calibration
	var halves [2]*distances
	for side := range 2 {
		d, err := f.half(side).compare(ctx)
		if err != nil {
			return nil, err
		}
		if made[side], err = d.calibrate(); err != nil {
			return nil, fmt.Errorf("check the calibration on one half of the people by the other: %w", err)
		}
		halves[side] = d
	}
	c := &CrossCheck{}
	for side, d := range halves {
		by := made[1-side]
		distance := distanceOf(by, 0.5)
		drawn := d.draw()
		s := CrossSide{
			Worst: by.Worst.Grouping + ": " + by.Worst.Name, People: made[side].People,
			Half: d.atHalf(d.everybody(), func(pair) bool { return true }, distance, drawn),
		}
		for k, g := range d.groups {
			some, bit := d.within(k), uint64(1)<<k
			s.Groups = append(s.Groups, Group{
				Grouping: g.grouping, Name: g.name, Strangers: some.all,
				Half: d.atHalf(some, func(p pair) bool { return d.masks[p.a]&d.masks[p.b]&bit != 0 }, distance, drawn),
			})
		}
		c.Sides[side] = s
	}
	return c, nil
}

const crossTitle = "Held out: each half of the people, divided by person, at the 0.5 calibrated on the other half"

func (c *CrossCheck) table() table {
	t := table{title: crossTitle, head: []string{"by", "group"}}
	for side := range c.Sides {
		t.head = append(t.head, fmt.Sprintf("FAR, half %d", side+1), fmt.Sprintf("TAR, half %d", side+1))
	}
	cells := func(row []string, h Half) []string {
		tar := "no pairs"
		if h.TrueAccepts.Of > 0 {
			tar = percent(h.TrueAccepts.Value)
		}
		return append(row, h.FalseAccepts.rare(), tar)
	}
	row := []string{"all", ""}
	for _, s := range c.Sides {
		row = cells(row, s.Half)
	}
	t.rows = append(t.rows, row)
	for k, g := range c.Sides[0].Groups {
		row := []string{g.Grouping, g.Name}
		for _, s := range c.Sides {
			row = cells(row, s.Groups[k].Half)
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// WriteText writes the check for a terminal.
func (c *CrossCheck) WriteText(w io.Writer) error {
	t := c.table()
	fmt.Fprintf(w, "\n%s\n", t.title)
	tabs := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tabs, strings.Join(t.head, "\t"))
	for _, row := range t.rows {
		fmt.Fprintln(tabs, strings.Join(row, "\t"))
	}
	return tabs.Flush()
}

// WriteMarkdown writes the check for a document.
func (c *CrossCheck) WriteMarkdown(w io.Writer) error {
	t := c.table()
	_, err := fmt.Fprintf(w, "\n%s\n\n%s", t.title, t.markdown())
	return err
}
