package evaluation

import (
	"fmt"
	"html/template"
	"io"
	"math"
	"net/url"
	"path/filepath"
	"strings"
)

// WriteHTML writes a result as one page. The page loads nothing except the photos of the worst errors, from their
// paths.
func (r *Result) WriteHTML(w io.Writer) error {
	var tables []map[string]any
	for _, t := range r.tables() {
		if len(t.rows) > 0 {
			tables = append(tables, map[string]any{"Title": t.title, "Head": t.head, "Rows": t.rows})
		}
	}
	missed := append(append([]Missed{}, r.Undetected...), r.Refused...)
	return page.Execute(w, map[string]any{
		"Rows": r.summary(), "Missed": missed, "ROC": roc(r.Curve), "DET": det(r.Curve), "Tables": tables,
		"Nearest": r.Nearest, "Farthest": r.Farthest,
	})
}

// The size of the plots in pixels.
const plotWidth, plotHeight = 600.0, 360.0

// decades is how many decades the plots show on the logarithmic axis.
const decades = 7.0

type drawing struct {
	Title, Line string
	Ticks, Rows []tick
}

type tick struct {
	At    float64
	Label string
}

// roc draws true accepts from 0 to 1 upwards, against false accepts.
func roc(curve []Point) drawing {
	d := axes("True accepts against false accepts")
	d.Line = line(curve, func(p Point) float64 { return 1 - p.TrueAccepts })
	for i := range 6 {
		d.Rows = append(d.Rows, tick{plotHeight * (1 - float64(i)/5), fmt.Sprintf("%d %%", i*20)})
	}
	return d
}

// det draws the share of genuine pairs that are refused, from 1e-4 to 1 upwards, against false accepts.
func det(curve []Point) drawing {
	const high = 4.0
	d := axes("Refused pairs of one person against accepted pairs of strangers (DET)")
	d.Line = line(curve, func(p Point) float64 { return -math.Log10(max(1-p.TrueAccepts, 1e-9)) / high })
	for i := range int(high) + 1 {
		d.Rows = append(d.Rows, tick{plotHeight * float64(i) / high, fmt.Sprintf("1e-%d", i)})
	}
	return d
}

func axes(title string) drawing {
	d := drawing{Title: title}
	for e := range int(decades) + 1 {
		d.Ticks = append(d.Ticks, tick{plotWidth * float64(e) / decades, fmt.Sprintf("1e%d", e-int(decades))})
	}
	return d
}

// line joins the points of a curve; down is the distance of a point from the top, 0 to 1.
func line(curve []Point, down func(Point) float64) string {
	var points []string
	for _, p := range curve {
		x := plotWidth * (1 + math.Log10(p.FalseAccepts)/decades)
		points = append(points, fmt.Sprintf("%.1f,%.1f", max(0, x), plotHeight*min(1, down(p))))
	}
	return strings.Join(points, " ")
}

// link is the address of a photo on this machine.
func link(path string) template.URL {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return template.URL((&url.URL{Scheme: "file", Path: filepath.ToSlash(path)}).String())
}

var page = template.Must(template.New("page").Funcs(template.FuncMap{"link": link}).Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Visage: evaluation</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}td,th{padding:.3rem .8rem .3rem 0;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}
svg{margin:1rem 0 2rem 3rem;overflow:visible}svg text{font-size:12px;fill:#555}code{font-size:.9em}
figure{display:inline-block;margin:0 1.5rem 1.5rem 0;font-size:.85em}figure img{height:8rem;margin-right:.2rem}
</style></head><body>
<h1>Evaluation</h1>
<table>{{range .Rows}}<tr><th>{{index . 0}}</th><td>{{index . 1}}</td></tr>
{{end}}</table>
{{range .Tables}}<h2>{{.Title}}</h2>
<table><tr>{{range .Head}}<th>{{.}}</th>{{end}}</tr>
{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>
{{end}}</table>
{{end}}{{template "plot" .DET}}{{template "plot" .ROC}}
<p>Intervals are Wilson's; those of true-accept and of identification rates, and of false accepts, are the wider of
Wilson's and of one from drawing the people anew 500 times, threshold and all.</p>
{{if .Nearest}}<h2>The nearest strangers</h2>
<p>Look whether they are strangers: what is nearest is often one person under two names.</p>
{{range .Nearest}}{{template "pair" .}}{{end}}{{end}}
{{if .Farthest}}<h2>The farthest photos of one person</h2>
{{range .Farthest}}{{template "pair" .}}{{end}}{{end}}
{{if .Missed}}<h2>Photos not used</h2><table>{{range .Missed}}<tr><td><code>{{.Path}}</code></td><td>{{.Reason}}</td></tr>
{{end}}</table>{{end}}
</body></html>
{{define "plot"}}<h2>{{.Title}}</h2>
<svg width="600" height="380" viewBox="0 0 600 380" role="img" aria-label="{{.Title}}">
{{range .Ticks}}<line x1="{{.At}}" x2="{{.At}}" y1="0" y2="360" stroke="#eee"/><text x="{{.At}}" y="376" text-anchor="middle">{{.Label}}</text>
{{end}}{{range .Rows}}<line x1="0" x2="600" y1="{{.At}}" y2="{{.At}}" stroke="#eee"/><text x="-6" y="{{.At}}" dy="4" text-anchor="end">{{.Label}}</text>
{{end}}<polyline points="{{.Line}}" fill="none" stroke="#0a58ca" stroke-width="2"/></svg>
{{end}}{{define "pair"}}<figure><img src="{{link .A}}" alt=""><img src="{{link .B}}" alt="">
<figcaption>distance {{printf "%.4f" .Distance}}, confidence {{printf "%.3f" .Confidence}}<br><code>{{.A}}</code><br><code>{{.B}}</code></figcaption></figure>
{{end}}`))
