package models

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/vision/pack"
)

// grid is a table of a calibration, for a terminal or a document.
type grid struct {
	title string
	head  []string
	rows  [][]string
}

// showCalibration prints the meaning of a pack's confidences.
func showCalibration(out io.Writer, c *pack.Calibration) error {
	fmt.Fprintf(out, "\n%s\n", about(c))
	for _, g := range grids(c) {
		fmt.Fprintf(out, "\n%s\n", g.title)
		var t command.Table
		for _, row := range append([][]string{g.head}, g.rows...) {
			t.Row(cells(row)...)
		}
		if err := t.Write(out); err != nil {
			return err
		}
	}
	return nil
}

func cells(row []string) []any {
	all := make([]any, len(row))
	for i, c := range row {
		all[i] = c
	}
	return all
}

// calibrationTables writes the same for a document.
func calibrationTables(out io.Writer, c *pack.Calibration) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", about(c))
	for _, g := range grids(c) {
		fmt.Fprintf(&b, "%s\n\n| %s |\n|%s\n", g.title, strings.Join(g.head, " | "),
			strings.Repeat(" --- |", len(g.head)))
		for _, row := range g.rows {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// about describes in sentences how a calibration was made.
func about(c *pack.Calibration) string {
	text := fmt.Sprintf("Confidence against false accepts, over %d pairs of strangers, of %d people", c.Pairs, c.People)
	if c.Photos > 0 {
		text += fmt.Sprintf(" on %d photos", c.Photos)
	}
	text += ". " + c.Method
	if c.Subjects != "" {
		text += "\nThe people: " + c.Subjects
	}
	if w := c.Worst; w == nil {
		text += "\nGroups of people were not told apart: in some, more strangers are accepted, and by how many is " +
			"not known."
	} else {
		text += fmt.Sprintf("\nA confidence of 0.5 is at most one stranger in 1,000 in the worst group: %s: %s.",
			w.Grouping, w.Name)
	}
	return text
}

// grids are the tables of a calibration: by confidence, by group, and by the size of a group that is searched.
func grids(c *pack.Calibration) []grid {
	all := []grid{confidenceGrid(c)}
	if len(c.Groups) > 0 {
		all = append(all, groupGrid(c))
	}
	return append(all, sizeGrid(c))
}

func confidenceGrid(c *pack.Calibration) grid {
	g := grid{title: "What confidences stand for", head: []string{"confidence", "distance", "one stranger in"}}
	rates := c.Rates
	if c.Worst != nil {
		rates = c.Worst.Rates
		g.head = []string{
			"confidence", "distance", "one stranger in, worst group", "95 %", "one stranger in, all",
			"true accepts, all",
		}
	}
	for _, r := range slices.Backward(rates) {
		row := []string{fmt.Sprintf("%.4f", c.Confidence(r.Distance)), fmt.Sprintf("%.4f", r.Distance),
			oneIn(r.FalseAccepts)}
		if c.Worst != nil {
			counted := "extrapolated"
			if r.High > 0 {
				counted = oneIn(r.High) + " to " + oneIn(r.Low)
			} else if r.Counted > 0 {
				counted = fmt.Sprintf("%d pairs", r.Counted)
			}
			row = append(row, counted, oneIn(c.FalseAccepts(r.Distance)), trueAccepts(c.Rates, r.Distance))
		}
		g.rows = append(g.rows, row)
	}
	return g
}

// trueAccepts formats the true-accept rate at a distance, between the rows of a table.
func trueAccepts(rates []pack.Rate, distance float64) string {
	for i := 1; i < len(rates); i++ {
		a, b := rates[i-1], rates[i]
		if a.Distance <= distance && distance <= b.Distance && b.TrueAccepts > 0 {
			part := (distance - a.Distance) / (b.Distance - a.Distance)
			return fmt.Sprintf("%.1f %%", 100*(a.TrueAccepts+part*(b.TrueAccepts-a.TrueAccepts)))
		}
	}
	return ""
}

func groupGrid(c *pack.Calibration) grid {
	g := grid{
		title: "What a confidence of 0.5 is, by group: strangers and pairs of one person accepted",
		head:  []string{"by", "group", "people", "pairs of strangers", "one stranger in", "95 %", "true accepts"},
	}
	row := func(grouping, name string, people, pairs, genuine int, half *pack.Rate) {
		if half == nil {
			return
		}
		far, accepted := oneIn(half.FalseAccepts), fmt.Sprintf("%.1f %%", 100*half.TrueAccepts)
		if half.Counted == 0 {
			far = "none of " + fmt.Sprint(pairs)
		}
		if genuine == 0 {
			accepted = "no pairs"
		}
		g.rows = append(g.rows, []string{
			grouping, name, fmt.Sprint(people), fmt.Sprint(pairs), far, oneIn(half.High) + " to " + oneIn(half.Low),
			accepted,
		})
	}
	row("all", "", c.People, c.Pairs, 1, c.Half)
	for _, group := range c.Groups {
		row(group.Grouping, group.Name, group.People, group.Pairs, group.Genuine, group.Half)
	}
	return g
}

func sizeGrid(c *pack.Calibration) grid {
	g := grid{
		title: "In a group of n faces: searches for strangers that match somebody at 0.5 if each face " +
			"is matched by itself, and the threshold of identify when none is given",
		head: []string{"faces", "at 0.5, all"},
	}
	if c.Worst != nil {
		g.head = append(g.head, "at 0.5, worst group")
	}
	g.head = append(g.head, "threshold by default")
	half := distanceAtHalf(c)
	for _, n := range []int{1, 10, 100, 1000, 10_000, 100_000, 1_000_000} {
		row := []string{fmt.Sprint(n), somebody(c.FalseAccepts(half), n)}
		if c.Worst != nil {
			row = append(row, somebody(1e-3, n))
		}
		g.rows = append(g.rows, append(row, fmt.Sprintf("%.4f", c.Threshold(n))))
	}
	return g
}

// distanceAtHalf is the distance with a confidence of one half.
func distanceAtHalf(c *pack.Calibration) float64 {
	near, far := 0.0, 2.0
	for far-near > 1e-9 {
		if middle := (near + far) / 2; c.Confidence(middle) >= 0.5 {
			near = middle
		} else {
			far = middle
		}
	}
	return near
}

// somebody formats how many searches for strangers match one of n faces, if each face matches independently at a rate.
func somebody(rate float64, n int) string {
	share := 100 * (1 - math.Pow(1-rate, float64(n)))
	if share >= 10 {
		return fmt.Sprintf("%.0f %%", share)
	}
	return fmt.Sprintf("%.2g %%", share)
}

// oneIn formats a small rate with two or three digits.
func oneIn(rate float64) string {
	if rate <= 0 {
		return "∞"
	}
	n := 1 / rate
	if n < 100 {
		return fmt.Sprintf("%.2g", n)
	}
	scale := math.Pow10(int(math.Log10(n)) - 1)
	digits := fmt.Sprintf("%.0f", math.Round(n/scale)*scale)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
