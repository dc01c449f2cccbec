package evaluation

import (
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
)

// WriteText writes a result for a terminal.
func (r *Result) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "pack                 %s\n", r.Pack)
	fmt.Fprintf(&b, "photos               %d of %d people\n", r.Photos, r.People)
	fmt.Fprintf(&b, "failures to detect   %d of %d (%s)\n", len(r.Undetected), r.Photos, r.Detection.flipped())
	fmt.Fprintf(&b, "pairs                %d of one person, %d of strangers", r.Genuine, r.Strangers)
	if r.Lost > 0 {
		fmt.Fprintf(&b, "; %d of one person could not be compared, because a face was not found", r.Lost)
	}
	b.WriteString("\n")
	for _, rate := range r.Rates {
		fmt.Fprintf(&b, "TAR at FAR %-9s %s\n", percent(rate.FalseAccepts), rate.words())
	}
	fmt.Fprintf(&b, "rank-1               %s\n", r.RankOne.words())
	for _, m := range r.Undetected {
		fmt.Fprintf(&b, "  not used: %s: %s\n", m.Path, m.Reason)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Rate) words() string {
	if !r.Measurable {
		return fmt.Sprintf("cannot be measured: it takes at least %.0f pairs of strangers and one of one person",
			1/r.FalseAccepts)
	}
	return fmt.Sprintf("%s at distance %.4f (confidence %.3f); %s with undetected faces counted as refused",
		r.TrueAccepts.words(), r.Threshold, r.Confidence, percent(r.All))
}

func (p Proportion) words() string {
	if p.Of == 0 {
		return "cannot be measured: nobody has two photos"
	}
	return fmt.Sprintf("%s, 95 %% interval %s to %s (%d of %d)", percent(p.Value), percent(p.Low), percent(p.High),
		p.Count, p.Of)
}

// flipped words the share of what did not happen.
func (p Proportion) flipped() string {
	if p.Of == 0 {
		return "no photos"
	}
	return fmt.Sprintf("%s, 95 %% interval %s to %s", percent(1-p.Value), percent(1-p.High), percent(1-p.Low))
}

func percent(v float64) string { return fmt.Sprintf("%.4g %%", math.Round(v*1e6)/1e4) }

// WriteHTML writes a result as one page that needs nothing else.
func (r *Result) WriteHTML(w io.Writer) error {
	var rows [][2]string
	rows = append(rows,
		[2]string{"Pack", r.Pack},
		[2]string{"Photos", fmt.Sprintf("%d of %d people", r.Photos, r.People)},
		[2]string{"Failures to detect", fmt.Sprintf("%d (%s)", len(r.Undetected), r.Detection.flipped())},
		[2]string{"Pairs", fmt.Sprintf("%d of one person, %d of strangers, %d of one person not comparable", r.Genuine,
			r.Strangers, r.Lost)},
	)
	for _, rate := range r.Rates {
		rows = append(rows, [2]string{"TAR at FAR " + percent(rate.FalseAccepts), rate.words()})
	}
	rows = append(rows, [2]string{"Rank-1", r.RankOne.words()})
	return page.Execute(w, map[string]any{"Rows": rows, "Missed": r.Undetected, "Plot": plot(r.Curve)})
}

// The plot: false accepts from 10^-6 to 1 by their logarithm to the right, true accepts from 0 to 1 upwards, in a box
// of these pixels.
const plotWidth, plotHeight, decades = 600.0, 360.0, 6.0

type drawing struct {
	Line  string
	Ticks []tick
	Rows  []tick
}

type tick struct {
	At    float64
	Label string
}

func plot(curve []Point) drawing {
	var d drawing
	var line []string
	for _, p := range curve {
		x := plotWidth * (1 + math.Log10(p.FalseAccepts)/decades)
		line = append(line, fmt.Sprintf("%.1f,%.1f", max(0, x), plotHeight*(1-p.TrueAccepts)))
	}
	d.Line = strings.Join(line, " ")
	for e := range int(decades) + 1 {
		d.Ticks = append(d.Ticks, tick{plotWidth * float64(e) / decades, fmt.Sprintf("1e%d", e-int(decades))})
	}
	for i := range 6 {
		d.Rows = append(d.Rows, tick{plotHeight * (1 - float64(i)/5), fmt.Sprintf("%d %%", i*20)})
	}
	return d
}

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Visage: evaluation</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{padding:.3rem .8rem .3rem 0;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}
svg{margin:1rem 0 2rem 3rem;overflow:visible}svg text{font-size:12px;fill:#555}code{font-size:.9em}
</style></head><body>
<h1>Evaluation</h1>
<table>{{range .Rows}}<tr><th>{{index . 0}}</th><td>{{index . 1}}</td></tr>
{{end}}</table>
<h2>True accepts against false accepts</h2>
<svg width="600" height="380" viewBox="0 0 600 380" role="img" aria-label="ROC curve">
{{range .Plot.Ticks}}<line x1="{{.At}}" x2="{{.At}}" y1="0" y2="360" stroke="#eee"/><text x="{{.At}}" y="376" text-anchor="middle">{{.Label}}</text>
{{end}}{{range .Plot.Rows}}<line x1="0" x2="600" y1="{{.At}}" y2="{{.At}}" stroke="#eee"/><text x="-6" y="{{.At}}" dy="4" text-anchor="end">{{.Label}}</text>
{{end}}<polyline points="{{.Plot.Line}}" fill="none" stroke="#0a58ca" stroke-width="2"/></svg>
<p>Intervals are Wilson's; that of a true-accept rate is the wider of Wilson's and one from drawing the people anew
500 times, threshold and all.</p>
{{if .Missed}}<h2>Photos not used</h2><table>{{range .Missed}}<tr><td><code>{{.Path}}</code></td><td>{{.Reason}}</td></tr>
{{end}}</table>{{end}}
</body></html>
`))
