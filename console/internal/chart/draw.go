package chart

import (
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// builder writes markup.
type builder struct{ strings.Builder }

func (b *builder) html() template.HTML {
	return template.HTML(b.String()) // every text in it went through text
}

// raw writes markup of this package.
func (b *builder) raw(s string) *builder {
	b.WriteString(s)
	return b
}

// text writes a text of the caller's, for content and attributes, of at most so many characters.
func (b *builder) text(s string, limit int) *builder {
	b.WriteString(html.EscapeString(cut(s, limit)))
	return b
}

// number writes a coordinate, to a tenth.
func (b *builder) number(v float64) *builder {
	s := strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
	if s == "-0" {
		s = "0"
	}
	b.WriteString(s)
	return b
}

// cut returns the beginning of a text, without characters that are not for showing.
func cut(s string, limit int) string {
	var b strings.Builder
	for _, r := range s {
		if r == utf8.RuneError || unicode.IsControl(r) || r == 0xfffe || r == 0xffff {
			r = ' '
		}
		if limit--; limit < 0 {
			b.WriteString("…")
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// dashes tell series apart without colours.
var dashes = [maxSeries]string{"", "6 3", "2 3", "9 3 2 3"}

// line draws a line through samples, with gaps, in the style of a series. place says where a sample is.
func (b *builder) line(samples []sample, place func(int, float64) (x, y float64), series int) {
	var path builder
	var alone [][2]float64 // samples between gaps, which a path would not show
	run := 0               // samples since the last gap
	var lastX, lastY float64
	end := func() {
		if run == 1 {
			alone = append(alone, [2]float64{lastX, lastY})
		}
		run = 0
	}
	for _, s := range samples {
		if math.IsNaN(s.v) {
			end()
			continue
		}
		x, y := place(s.at, s.v)
		switch run {
		case 0:
		case 1:
			path.raw("M").number(lastX).raw(" ").number(lastY)
			fallthrough
		default:
			path.raw("L").number(x).raw(" ").number(y)
		}
		lastX, lastY = x, y
		run++
	}
	end()
	if path.Len() > 0 {
		b.raw(`<path fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round"`)
		b.dash(series)
		b.raw(` d="`).raw(path.String()).raw(`"/>`)
	}
	for _, at := range alone {
		b.raw(`<circle fill="currentColor" r="2" cx="`).number(at[0]).raw(`" cy="`).number(at[1]).raw(`"/>`)
	}
}

// dash writes the dashes of a series as an attribute.
func (b *builder) dash(series int) {
	if dashes[series] != "" {
		b.raw(` stroke-dasharray="`).raw(dashes[series]).raw(`"`)
	}
}

// legend writes the names of several series, each with a piece of its line.
func (b *builder) legend(names []string) {
	if len(names) < 2 {
		return
	}
	b.raw(`<ul class="chart-legend">`)
	for i, name := range names {
		b.raw(`<li><svg class="series-`).number(float64(i + 1))
		b.raw(`" viewBox="0 0 28 8" width="28" height="8" aria-hidden="true"><path fill="none" stroke="currentColor"`)
		b.raw(` stroke-width="2"`)
		b.dash(i)
		b.raw(` d="M0 4L28 4"/></svg> `).text(name, maxTitle).raw(`</li>`)
	}
	b.raw(`</ul>`)
}

// rect is an area of a picture, in its units, y downwards.
type rect struct{ left, top, width, height float64 }

// across returns the x of the i-th of n points that are spread evenly.
func (r rect) across(i, n int) float64 {
	if n < 2 {
		return r.left + r.width/2
	}
	return r.left + r.width*float64(i)/float64(n-1)
}

// along returns the x of a share of the width, up the y of a share of the height.
func (r rect) along(share float64) float64 { return r.left + r.width*share }
func (r rect) up(share float64) float64    { return r.top + r.height*(1-share) }
