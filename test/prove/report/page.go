package main

import (
	"html/template"
	"maps"
	"slices"
	"time"
)

// Report is the result of the whole proof.
type Report struct {
	Began   time.Time
	Version string // of the source, as git describe prints it
	Go      string
	System  string
	Passed  bool
	Seconds float64
	Parts   []Result
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

var html = template.Must(template.New("report").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Visage: the proof</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff }
h2 { margin-top: 2.2rem } .pass { color: #17692f } .fail { color: #a8071a } .skip { color: #775500 }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top }
pre { background: #f5f5f5; padding: .6rem; overflow-x: auto; font-size: 12px }
</style>
<h1>Visage: the proof</h1>
<p class="{{if .Passed}}pass{{else}}fail{{end}}"><strong>{{if .Passed}}Every part proved.{{else}}Not every part proved.{{end}}</strong></p>
<p>{{.Began.Format "2006-01-02 15:04 MST"}}, version {{.Version}}, {{.Go}} on {{.System}}, {{printf "%.0f" .Seconds}} s.</p>
{{range .Parts}}
<h2 class="{{if .Passed}}pass{{else}}fail{{end}}">{{.Part}}: {{if .Passed}}proved{{else}}not proved{{end}}, {{printf "%.1f" .Seconds}} s</h2>
<p>{{.Proves}}</p>
<table><tr><th>test<th>outcome<th>time<th>counted</tr>
{{range .Tests}}<tr><td>{{.Name}}{{if .Subtests}} ({{.Subtests}} cases){{end}}<td class="{{.Outcome}}">{{.Outcome}}<td>{{printf "%.1f" .Seconds}} s
<td>{{range $name, $count := .Counts}}{{$name}}: {{$count}}<br>{{end}}{{if .Said}}<pre>{{range .Said}}{{.}}
{{end}}</pre>{{end}}</tr>
{{end}}</table>
{{end}}
</html>
`))
