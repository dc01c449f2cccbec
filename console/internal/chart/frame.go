package chart

import (
	"cmp"
	"math"
	"slices"
	"time"
	"unicode/utf8"
)

// frame is the outline of a picture, for one width of the screen.
type frame struct {
	name          string
	width, height float64
	ticks         int // labels at the horizontal axis
}

// frames are the outlines that every picture is drawn in.
var frames = [...]frame{{"wide", 720, 280, 8}, {"narrow", 360, 260, 4}}

// The sizes of letters and margins, in units of a picture.
const (
	letterSize  = 12
	letterWidth = 7 // of a digit, rounded up
	above       = 26
	below       = 40
	right       = 22
)

// tick is a line of a grid with its label.
type tick struct {
	share float64 // 0 at the beginning of the axis, 1 at its end
	text  string
}

// begin writes the beginning of a picture up to its grid, and returns the area for the lines. end ends it.
func (f frame) begin(b *builder, id, title, description, xLabel, yLabel string, y []tick) rect {
	longest := 0
	for _, t := range y {
		longest = max(longest, min(utf8.RuneCountInString(t.text), maxTick))
	}
	left := float64(14 + letterWidth*longest)
	area := rect{left, above, f.width - left - right, f.height - above - below}
	b.raw(`<svg class="chart-`).raw(f.name).raw(`" viewBox="0 0 `).number(f.width).raw(" ").number(f.height)
	b.raw(`" role="img" aria-labelledby="`).raw(id).raw("-").raw(f.name).raw(`-title `)
	b.raw(id).raw("-").raw(f.name).raw(`-desc">`)
	b.raw(`<title id="`).raw(id).raw("-").raw(f.name).raw(`-title">`).text(title, maxTitle).raw(`</title>`)
	b.raw(`<desc id="`).raw(id).raw("-").raw(f.name).raw(`-desc">`).text(description, maxText).raw(`</desc>`)
	b.raw(`<g class="chart-grid" stroke="currentColor" stroke-width="1">`)
	for _, t := range y {
		at := area.up(t.share)
		b.raw(`<path d="M`).number(area.left).raw(" ").number(at).raw("L").number(area.left + area.width).raw(" ")
		b.number(at).raw(`"/>`)
	}
	b.raw(`</g><g class="chart-axis" fill="currentColor" font-size="`).number(letterSize).raw(`">`)
	for _, t := range y {
		b.label(area.left-6, area.up(t.share)+4, "end", t.text)
	}
	b.title(area.left, above-12, "start", yLabel)
	b.title(area.left+area.width, f.height-4, "end", xLabel)
	return area
}

// horizontal writes the labels of the horizontal axis.
func (f frame) horizontal(b *builder, area rect, x []tick) {
	for _, t := range x {
		at := area.along(t.share)
		b.raw(`<path fill="none" stroke="currentColor" d="M`).number(at).raw(" ").number(area.top + area.height)
		b.raw("L").number(at).raw(" ").number(area.top + area.height + 4).raw(`"/>`)
		b.label(at, area.top+area.height+18, "middle", t.text)
	}
	b.raw(`</g>`)
}

// label writes a short text at an axis.
func (b *builder) label(x, y float64, anchor, text string) {
	b.raw(`<text x="`).number(x).raw(`" y="`).number(y).raw(`" text-anchor="`).raw(anchor).raw(`">`)
	b.text(text, maxTick).raw(`</text>`)
}

// title writes the label of a whole axis, if there is one.
func (b *builder) title(x, y float64, anchor, text string) {
	if text == "" {
		return
	}
	b.raw(`<text x="`).number(x).raw(`" y="`).number(y).raw(`" text-anchor="`).raw(anchor).raw(`">`)
	b.text(text, maxTitle).raw(`</text>`)
}

// lines draws a Picture.
func (f frame) lines(b *builder, id string, p Picture) {
	all := make([][]float64, len(p.Series))
	top := 0.0
	for i, s := range p.Series {
		all[i] = finite(s.Values, len(p.Times))
		top = max(top, largest(all[i]))
	}
	top, y := p.Y.grid(top)
	area := f.begin(b, id, p.Title, p.Description, p.TimeLabel, p.Y.Label, y)
	f.horizontal(b, area, p.timeTicks(f.ticks))
	for i, values := range all {
		b.raw(`<g class="series-`).number(float64(i + 1)).raw(`">`)
		b.line(reduced(values), func(at int, v float64) (float64, float64) {
			return area.along(p.share(p.Times[at])), area.up(v / top)
		}, i)
		b.raw(`</g>`)
	}
	b.raw(`</svg>`)
}

// share returns where a moment is between the first and the last.
func (p Picture) share(t time.Time) float64 {
	first := p.Times[0]
	span := p.Times[len(p.Times)-1].Sub(first)
	if span <= 0 {
		return 0.5
	}
	return min(max(float64(t.Sub(first))/float64(span), 0), 1)
}

// lineCount is about how many lines a grid has above zero.
const lineCount = 4

// grid returns where the vertical axis ends, at top or above, and its lines from 0 to there.
func (a Axis) grid(top float64) (end float64, lines []tick) {
	step := a.step(top / lineCount)
	n := max(int(math.Ceil(top/step-1e-9)), 1)
	end = step * float64(n)
	for i := range n + 1 {
		v := step * float64(i)
		lines = append(lines, tick{v / end, a.spell(v)})
	}
	return end, lines
}

// step returns a distance between lines that is at least about the given one.
func (a Axis) step(least float64) float64 {
	switch {
	case a.Steps == Binary && least <= 1, a.Steps == Whole && least <= 1, least <= 0:
		return 1
	case a.Steps == Binary:
		return math.Exp2(math.Ceil(math.Log2(least)))
	}
	power := math.Pow(10, math.Floor(math.Log10(max(least, 1e-300))))
	for _, times := range []float64{1, 2, 5} {
		if power*times >= least*(1-1e-9) {
			return power * times
		}
	}
	return power * 10
}

// The distances that labels of times may have.
var timeSteps = []time.Duration{
	time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	day, 2 * day, 7 * day, 14 * day, 30 * day, 60 * day, 90 * day, 180 * day, 365 * day,
}

const day = 24 * time.Hour

// timeTicks returns at most about n labels of the horizontal axis, at whole multiples of their distance in the time
// zone of the picture.
func (p Picture) timeTicks(n int) []tick {
	if len(p.Times) == 0 {
		return nil
	}
	first, last := p.Times[0], p.Times[len(p.Times)-1]
	span := last.Sub(first)
	if span <= 0 {
		return []tick{{p.share(first), p.spellTime(first, time.Minute)}}
	}
	i, _ := slices.BinarySearchFunc(timeSteps, span, func(step, span time.Duration) int {
		return cmp.Compare(step*time.Duration(n), span)
	})
	step := timeSteps[min(i, len(timeSteps)-1)]
	var ticks []tick
	for t := firstTick(first, step); !t.After(last) && len(ticks) <= 2*n; t = nextTick(t, step) {
		ticks = append(ticks, tick{p.share(t), p.spellTime(t, step)})
	}
	return ticks
}

// firstTick returns the first moment from t on that is a whole multiple of step on the clock of its time zone.
func firstTick(t time.Time, step time.Duration) time.Time {
	year, month, date := t.Date()
	midnight := time.Date(year, month, date, 0, 0, 0, 0, t.Location())
	if step >= day {
		if midnight.Before(t) {
			midnight = time.Date(year, month, date+1, 0, 0, 0, 0, t.Location())
		}
		return midnight
	}
	since := t.Sub(midnight)
	return midnight.Add((since + step - 1) / step * step)
}

// nextTick returns the moment of the label after t: one step later on the clock of its time zone, where days have 23 to
// 25 hours.
func nextTick(t time.Time, step time.Duration) time.Time {
	if step < time.Hour {
		return t.Add(step)
	}
	year, month, date := t.Date()
	next := time.Date(year, month, date, t.Hour()+int(step/time.Hour), t.Minute(), 0, 0, t.Location())
	if !next.After(t) { // the hour does not exist on that day
		return t.Add(step)
	}
	return next
}

func (p Picture) spellTime(t time.Time, step time.Duration) string {
	switch {
	case p.FormatTime != nil:
		return p.FormatTime(t, step)
	case step >= day:
		return t.Format(time.DateOnly)
	}
	return t.Format("15:04")
}

// maxDecades is how many powers of ten a curve spans at most, down from its largest.
const maxDecades = 12

// curves draws a Curve.
func (f frame) curves(b *builder, id string, c Curve) {
	all := make([][]Point, len(c.Series))
	least, most := math.Inf(1), math.Inf(-1) // powers of ten
	for i, s := range c.Series {
		all[i] = s.drawable()
		if n := len(all[i]); n > 0 {
			least = min(least, math.Floor(math.Log10(all[i][0].X)+1e-9))
			most = max(most, math.Ceil(math.Log10(all[i][n-1].X)-1e-9))
		}
	}
	if least > most { // there are no points
		least, most = -6, 0
	}
	most = max(most, least+1)
	least = max(least, most-maxDecades)
	var y []tick
	for i := range lineCount + 1 {
		v := float64(i) / lineCount
		y = append(y, tick{v, c.Y.spell(v)})
	}
	area := f.begin(b, id, c.Title, c.Description, c.X.Label, c.Y.Label, y)
	var x []tick
	every := math.Ceil((most - least) / float64(f.ticks))
	for power := most; power >= least; power -= every {
		x = append(x, tick{(power - least) / (most - least), c.X.spell(math.Pow(10, power))})
	}
	f.horizontal(b, area, x)
	for i, points := range all {
		b.raw(`<g class="series-`).number(float64(i + 1)).raw(`">`)
		samples := make([]sample, len(points))
		for k, p := range points {
			samples[k] = sample{k, p.Y}
		}
		b.line(samples, func(k int, v float64) (float64, float64) {
			share := (math.Log10(points[k].X) - least) / (most - least)
			return area.along(min(max(share, 0), 1)), area.up(v)
		}, i)
		b.raw(`</g>`)
	}
	b.raw(`</svg>`)
}

// drawable returns the points of a curve that can be drawn, in the order of their X, at most maxColumn.
func (s Points) drawable() []Point {
	var all []Point
	for _, p := range s.Points {
		if p.X > 0 && !math.IsInf(p.X, 0) && !math.IsNaN(p.Y) && !math.IsInf(p.Y, 0) {
			all = append(all, Point{p.X, min(max(p.Y, 0), 1)})
		}
	}
	slices.SortStableFunc(all, func(a, b Point) int { return cmp.Compare(a.X, b.X) })
	if n := len(all); n > maxColumn {
		fewer := make([]Point, maxColumn)
		for i := range fewer {
			fewer[i] = all[i*(n-1)/(maxColumn-1)]
		}
		all = fewer
	}
	return all
}
