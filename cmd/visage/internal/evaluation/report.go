package evaluation

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// WriteJSON writes a result for programs.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteText writes a result for a terminal.
func (r *Result) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, row := range r.summary() {
		name := row[0]
		if name[1] >= 'a' { // not an abbreviation
			name = strings.ToLower(name[:1]) + name[1:]
		}
		fmt.Fprintf(&b, "%-22s %s\n", name, row[1])
	}
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, table := range r.tables() {
		if len(table.rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s\n", table.title)
		fmt.Fprintln(t, strings.Join(table.head, "\t"))
		for _, row := range table.rows {
			fmt.Fprintln(t, strings.Join(row, "\t"))
		}
		t.Flush()
	}
	for _, list := range []struct {
		title string
		pairs []Mistake
	}{{"The nearest strangers", r.Nearest}, {"The farthest photos of one person", r.Farthest}} {
		if len(list.pairs) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s\n", list.title)
		for _, m := range list.pairs[:min(5, len(list.pairs))] {
			fmt.Fprintf(t, "%.4f\tconfidence %.3f\t%s\t%s\n", m.Distance, m.Confidence, m.A, m.B)
		}
		t.Flush()
	}
	for _, m := range r.Undetected {
		fmt.Fprintf(&b, "  not used: %s: %s\n", m.Path, m.Reason)
	}
	for _, m := range r.Refused {
		fmt.Fprintf(&b, "  no template: %s: %s\n", m.Path, m.Reason)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteMarkdown writes the figures as tables for a document, without paths of photos.
func (r *Result) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| | |\n| --- | --- |\n")
	for _, row := range r.summary() {
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], row[1])
	}
	for _, t := range r.tables() {
		if len(t.rows) > 0 {
			fmt.Fprintf(&b, "\n%s\n\n%s", t.title, t.markdown())
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// summary is the figures over all photos, one a line.
func (r *Result) summary() [][2]string {
	rows := [][2]string{
		{"Pack", r.Pack},
		{"Photos", fmt.Sprintf("%d of %d people", r.Photos, r.People)},
		{"Failures to detect", fmt.Sprintf("%d of %d (%s)", len(r.Undetected), r.Photos, r.Detection.flipped())},
		{"Faces without template", fmt.Sprintf("%d", len(r.Refused))},
	}
	pairs := fmt.Sprintf("%d of one person, %d of strangers", r.Genuine, r.Strangers)
	if r.Lost > 0 {
		pairs += fmt.Sprintf("; %d of one person could not be compared, because a template is missing", r.Lost)
	}
	rows = append(rows, [2]string{"Pairs", pairs})
	if c := r.Coding; c.Pairs > 0 {
		rows = append(rows, [2]string{"As 16-bit codes", fmt.Sprintf(
			"of %d pairs, against float32: distance within %.1e, confidence within %.1e; of %s the five decimals "+
				"differ",
			c.Pairs, c.Distance, c.Confidence, percent(c.Moved.Value))})
	}
	for _, rate := range r.Rates {
		rows = append(rows, [2]string{"TAR at FAR " + percent(rate.FalseAccepts), rate.words()})
		if !rate.Measurable {
			break // lower ones are not measurable either
		}
	}
	half := "no pairs of strangers"
	if r.Half.FalseAccepts.Of > 0 {
		half = fmt.Sprintf("distance %.4f; false accepts %s; true accepts %s", r.Half.Distance,
			r.Half.FalseAccepts.rare(),
			r.Half.TrueAccepts.words())
	}
	rows = append(rows, [2]string{"At confidence 0.5", half})
	if g := r.worst(); g != nil {
		rows = append(rows, [2]string{"Worst group at 0.5", fmt.Sprintf("%s, %s: false accepts %s; true accepts %s",
			g.Grouping, g.Name, g.Half.FalseAccepts.rare(), g.Half.TrueAccepts.words())})
	}
	if r.EqualError.Measurable {
		rows = append(rows, [2]string{"Equal error rate", fmt.Sprintf("%s at distance %.4f (confidence %.3f)",
			percent(1-r.EqualError.TrueAccepts.Value), r.EqualError.Threshold, r.EqualError.Confidence)})
	}
	rows = append(rows, [2]string{"Rank-1", r.RankOne.words()})
	if a := r.Accuracy; a != nil {
		rows = append(
			rows, [2]string{"Accuracy", fmt.Sprintf("%s ± %s over %d folds, undetected faces counted as refused",
				percent(a.Mean), percent(a.Error), a.Folds)})
	}
	if s := r.Search; s != nil {
		for _, i := range s.Rates {
			words := fmt.Sprintf("cannot be measured: it takes at least %.0f people with one photo, and some with more",
				1/i.FalseAlarms)
			if i.Measurable {
				words = fmt.Sprintf("%s at distance %.4f (confidence %.3f); %d enrolled, %d strangers",
					i.Found.words(), i.Threshold, i.Confidence, s.Enrolled, s.NonMates)
			}
			rows = append(rows, [2]string{"TPIR at FPIR " + percent(i.FalseAlarms), words})
		}
	}
	return rows
}

// worst returns the group with the most false accepts at 0.5, of those with enough pairs; nil when there is none.
func (r *Result) worst() *Group {
	var worst *Group
	for i := range r.Groups {
		g := &r.Groups[i]
		if g.Strangers >= leastCounted/halfRate &&
			(worst == nil || g.Half.FalseAccepts.Value > worst.Half.FalseAccepts.Value) {
			worst = g
		}
	}
	return worst
}

// table is one of a report.
type table struct {
	title string
	head  []string
	rows  [][]string
}

func (t table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(t.head, " | "), strings.Repeat(" --- |", len(t.head)))
	for _, row := range t.rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
	}
	return b.String()
}

// tables are the figures by the size of a group, and within groups of people and photos.
func (r *Result) tables() []table {
	sizes := table{
		title: "Searches in groups of n faces, one of each person: strangers who match somebody (FPIR), and people " +
			"found " +
			"(TPIR)",
		head: []string{"faces", "FPIR at 0.5", "TPIR at 0.5", "threshold by default", "FPIR", "TPIR"},
	}
	if r.Search != nil {
		for _, c := range r.Search.Sizes {
			sizes.rows = append(sizes.rows, []string{
				fmt.Sprint(c.Faces), c.AtHalf.FalseAlarms.short(), c.AtHalf.Found.short(),
				fmt.Sprintf("%.3f", c.Default), c.AtDefault.FalseAlarms.short(), c.AtDefault.Found.short(),
			})
		}
	}
	groups := table{
		title: "Within groups: false and true accepts at 0.5, false accepts at thresholds over all, and strangers " +
			"who " +
			"match somebody in a group of their own",
		head: []string{"by", "group", "people", "photos", "pairs of strangers", "FAR at 0.5 (95 %)", "TAR at 0.5"},
	}
	for _, rate := range r.Rates {
		if rate.Measurable {
			groups.head = append(groups.head, fmt.Sprintf("FAR at %.0e", rate.FalseAccepts))
		}
	}
	groups.head = append(groups.head, "FPIR at 0.5", "by default")
	for _, g := range r.Groups {
		row := []string{
			g.Grouping, g.Name, fmt.Sprint(g.People), fmt.Sprint(g.Photos), fmt.Sprint(g.Strangers),
			g.Half.FalseAccepts.rare(), percent(g.Half.TrueAccepts.Value),
		}
		if g.Genuine == 0 {
			row[len(row)-1] = "no pairs"
		}
		for _, far := range g.FalseAccepts {
			row = append(row, fmt.Sprintf("%.2g", far))
		}
		row = append(row, g.Crowd.AtHalf.FalseAlarms.short(), g.Crowd.AtDefault.FalseAlarms.short())
		groups.rows = append(groups.rows, row)
	}
	return []table{sizes, groups}
}

func (r Rate) words() string {
	if !r.Measurable {
		return fmt.Sprintf("cannot be measured: it takes at least %.0f pairs of strangers and one of one person",
			leastCounted/r.FalseAccepts)
	}
	return fmt.Sprintf("%s at distance %.4f (confidence %.3f); %s with missing templates counted as refused",
		r.TrueAccepts.words(), r.Threshold, r.Confidence, percent(r.All))
}

func (p Proportion) words() string {
	if p.Of == 0 {
		return "cannot be measured: no person has two photos"
	}
	return fmt.Sprintf("%s, 95 %% interval %s to %s (%d of %d)", percent(p.Value), percent(p.Low), percent(p.High),
		p.Count, p.Of)
}

// short formats a share without its interval.
func (p Proportion) short() string {
	if p.Of == 0 {
		return "nobody"
	}
	return percent(p.Value)
}

// rare formats a small share.
func (p Proportion) rare() string { return fmt.Sprintf("%.2g (%.2g to %.2g)", p.Value, p.Low, p.High) }

// flipped formats the complement of the share.
func (p Proportion) flipped() string {
	if p.Of == 0 {
		return "no photos"
	}
	return fmt.Sprintf("%s, 95 %% interval %s to %s", percent(1-p.Value), percent(1-p.High), percent(1-p.Low))
}

func percent(v float64) string { return fmt.Sprintf("%.4g %%", math.Round(v*1e6)/1e4) }
