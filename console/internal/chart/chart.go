// Package chart draws pictures of figures as SVG, for pages without scripts and without inline styles: lines over time,
// curves over a logarithmic rate, and sparklines.
//
// Every function returns markup that is safe in a page whatever text and numbers it was given: text is escaped and cut,
// numbers that are not finite are gaps, and the size is bounded. All words and the spelling of numbers come from the
// caller, so that a picture speaks the language of its page. Screen readers get the picture as one image with its title
// and description; the page should show the figures in a table too.
//
// A picture of Lines or Curves is a div of class "chart" with two SVG elements, "chart-wide" (720 × 280) and
// "chart-narrow" (360 × 260), of which the stylesheet shows one, so that the letters keep their size on a small screen:
//
//	.chart svg { width: 100%; height: auto }
//	.chart-narrow { display: none }
//	@media (max-width: 40rem) { .chart-wide { display: none } .chart-narrow { display: block } }
//
// Below them is a list "chart-legend" with an item for each series; there is none for a single series. Everything is
// drawn in currentColor: the classes "series-1" to "series-4", "chart-grid" and "chart-axis" say in which. Series
// differ by their dashes too, so that nothing is told by colour alone.
package chart

import (
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"
)

// The limits of what is drawn. More is cut.
const (
	maxSeries = 4
	maxTitle  = 300  // characters of titles, names and labels
	maxText   = 2000 // characters of descriptions
	maxTick   = 20   // characters of a label at an axis
	maxColumn = 640  // points of a line; of more, each column keeps its smallest and largest
	maxValue  = 1e300
)

// Axis says how an axis is labelled.
type Axis struct {
	Label string // with the unit, for example "Requests per minute"; may be empty
	// Format spells a value of the axis, in at most 20 characters. Default: digits, with a point.
	Format func(float64) string
	Steps  Steps // between the lines of the grid; of the vertical axis of Lines
}

// Steps says what distance the lines of a grid may have.
type Steps int

// The distances.
const (
	Decimal Steps = iota // 1, 2 or 5 times a power of ten
	Whole                // likewise, and at least 1
	Binary               // a power of two, for bytes
)

// Picture is a picture of lines over time.
type Picture struct {
	// ID begins the ids of elements; it must be unique in the page. Letters, digits, "-" and "_".
	ID          string
	Title       string // the name of the picture
	Description string // what it shows, in a sentence or two, for people who do not see it
	// Times are the moments of the values, rising, in the time zone whose hours and days are labelled.
	Times []time.Time
	// FormatTime spells a moment at the horizontal axis, in at most 20 characters; step is the distance to the next
	// label. Default: 15:04, and 2006-01-02 from steps of a day on.
	FormatTime func(t time.Time, step time.Duration) string
	TimeLabel  string // of the horizontal axis, for example the time zone; may be empty
	Y          Axis   // from 0 up
	Series     []Series
}

// Series is a line of a Picture.
type Series struct {
	Name string
	// Values are those at Times. One that is not finite, or not there, is a gap; negative ones are drawn as 0.
	Values []float64
}

// Curve is a picture of curves over a rate on a logarithmic scale, for example of the calibration of a model pack.
type Curve struct {
	ID, Title, Description string // as of a Picture
	X                      Axis   // of a rate; its lines are powers of ten
	Y                      Axis   // from 0 to 1
	Series                 []Points
}

// Points is a curve of a Curve. Points whose X is not positive, or which are not finite, are left out; the others are
// joined in the order of their X.
type Points struct {
	Name   string
	Points []Point
}

// Point is a point of a curve. Y is drawn between 0 and 1.
type Point struct{ X, Y float64 }

// Sparkline is a small line without axes, for a table or a card.
type Sparkline struct {
	Title  string    // what it shows, with the newest or the largest value, for people who do not see it
	Values []float64 // as of a Series
}

// Lines draws a picture of at most four lines over time.
func Lines(p Picture) template.HTML {
	if len(p.Series) > maxSeries {
		p.Series = p.Series[:maxSeries]
	}
	id := idOf(p.ID)
	var b builder
	b.raw(`<div class="chart">`)
	for _, f := range frames {
		f.lines(&b, id, p)
	}
	var names []string
	for _, s := range p.Series {
		names = append(names, s.Name)
	}
	b.legend(names)
	b.raw(`</div>`)
	return b.html()
}

// Curves draws a picture of at most four curves.
func Curves(c Curve) template.HTML {
	if len(c.Series) > maxSeries {
		c.Series = c.Series[:maxSeries]
	}
	id := idOf(c.ID)
	var b builder
	b.raw(`<div class="chart">`)
	for _, f := range frames {
		f.curves(&b, id, c)
	}
	var names []string
	for _, s := range c.Series {
		names = append(names, s.Name)
	}
	b.legend(names)
	b.raw(`</div>`)
	return b.html()
}

// The size of sparklines.
const sparkWidth, sparkHeight = 120, 24

// Spark draws a sparkline.
func Spark(s Sparkline) template.HTML {
	values := finite(s.Values, len(s.Values))
	area := rect{1, 2, sparkWidth - 2, sparkHeight - 4}
	top := largest(values)
	if top == 0 {
		top = 1
	}
	var b builder
	b.raw(`<svg class="spark series-1" viewBox="0 0 `).number(sparkWidth).raw(` `).number(sparkHeight)
	b.raw(`" role="img" aria-label="`).text(s.Title, maxTitle).raw(`">`)
	x := func(i int) float64 { return area.across(i, len(values)) }
	b.line(reduced(values), func(i int, v float64) (float64, float64) { return x(i), area.up(v / top) }, 0)
	b.raw(`</svg>`)
	return b.html()
}

// finite returns n values, of which those that are not finite or not there are NaN.
func finite(values []float64, n int) []float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = math.NaN()
		if i < len(values) && !math.IsNaN(values[i]) && !math.IsInf(values[i], 0) {
			all[i] = min(max(values[i], 0), maxValue)
		}
	}
	return all
}

// largest returns the largest value; 0 if there is none.
func largest(values []float64) (top float64) {
	for _, v := range values {
		if v > top { // false for NaN
			top = v
		}
	}
	return top
}

// sample is a value of a line at its place among all.
type sample struct {
	at int
	v  float64 // NaN: a gap
}

// reduced returns the samples of a line that are drawn: all, or of too many those that are the smallest and the largest
// of their column. A column without values stays a gap.
func reduced(values []float64) []sample {
	if len(values) <= maxColumn {
		all := make([]sample, len(values))
		for i, v := range values {
			all[i] = sample{i, v}
		}
		return all
	}
	const columns = maxColumn / 2
	all := make([]sample, 0, maxColumn)
	for c := range columns {
		from, to := len(values)*c/columns, len(values)*(c+1)/columns
		least, most := sample{from, math.NaN()}, sample{from, math.NaN()}
		for i := from; i < to; i++ {
			if v := values[i]; !math.IsNaN(v) {
				if math.IsNaN(least.v) || v < least.v {
					least = sample{i, v}
				}
				if math.IsNaN(most.v) || v > most.v {
					most = sample{i, v}
				}
			}
		}
		switch {
		case least.at < most.at:
			all = append(all, least, most)
		case least.at > most.at:
			all = append(all, most, least)
		default:
			all = append(all, least)
		}
	}
	return all
}

// spell spells a value at an axis.
func (a Axis) spell(v float64) string {
	if a.Format != nil {
		return a.Format(v)
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}

// idOf returns what is left of an id.
func idOf(id string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_':
			return r
		}
		return -1
	}, cut(id, maxTitle))
}
