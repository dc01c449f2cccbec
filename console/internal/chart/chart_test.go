package chart_test

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/visage-face/visage/console/internal/chart"
)

var update = flag.Bool("update", false, "write the golden files")

var nan = math.NaN()

// french spells a number with a comma.
func french(v float64) string { return strings.ReplaceAll(fmt.Sprintf("%g", v), ".", ",") }

// times returns n moments.
func times(begin time.Time, step time.Duration, n int) []time.Time {
	all := make([]time.Time, n)
	for i := range all {
		all[i] = begin.Add(time.Duration(i) * step)
	}
	return all
}

// wave returns n values with a gap of a tenth in the middle.
func wave(n int, height float64) []float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = height * (1.2 + math.Sin(float64(i)/float64(n)*9))
		if i*10/n == 4 {
			all[i] = nan
		}
	}
	return all
}

// paris is a time zone in which the day of the first picture has 25 hours.
func paris(t *testing.T) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Skip("this machine knows no time zones: ", err)
	}
	return zone
}

// TestGolden compares pictures with those that were looked at; -update writes them.
func TestGolden(t *testing.T) {
	noon := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for name, got := range map[string]template.HTML{
		"day": chart.Lines(chart.Picture{
			ID: "latency", Title: "Temps de réponse", Description: "Trois centiles sur 24 heures.",
			Times:     times(time.Date(2026, 10, 25, 0, 0, 0, 0, paris(t)), 15*time.Minute, 100),
			TimeLabel: "Heure de Paris", Y: chart.Axis{Label: "ms", Format: french},
			Series: []chart.Series{
				{Name: "p50", Values: wave(100, 20)}, {Name: "p95", Values: wave(100, 40)},
				{Name: "p99", Values: wave(100, 66)}, {Name: "le plus long", Values: wave(100, 80)},
			},
		}),
		"hour": chart.Lines(chart.Picture{
			ID: "requests", Title: "Requests", Times: times(noon.Add(-time.Hour), time.Minute, 60),
			Y: chart.Axis{Label: "Requests per minute", Steps: chart.Whole},
			Series: []chart.Series{
				{Name: "Requests", Values: []float64{0, 1, 3, nan, 2, nan, nan, 1, 1, -4, math.Inf(1)}},
			},
		}),
		"week": chart.Lines(chart.Picture{
			ID: "memory", Title: "Memory", Times: times(noon.Add(-7*24*time.Hour), 2*time.Hour, 84),
			Y: chart.Axis{Steps: chart.Binary,
				Format: func(v float64) string { return fmt.Sprintf("%g MiB", v/(1<<20)) }},
			FormatTime: func(t time.Time, step time.Duration) string {
				return fmt.Sprintf("%s/%v", t.Format("02.01."), step/time.Hour)
			},
			Series: []chart.Series{{Name: "Galleries", Values: wave(84, 123<<20)}},
		}),
		"nothing": chart.Lines(chart.Picture{ID: "nothing", Title: "Nothing"}),
		"calibration": chart.Curves(chart.Curve{
			ID: "calibration", Title: "Calibration", Description: "Confidence by rate of false accepts.",
			X: chart.Axis{Label: "False accepts",
				Format: func(v float64) string { return fmt.Sprintf("%.3g %%", v*100) }},
			Y: chart.Axis{Label: "Confidence"},
			Series: []chart.Points{
				{Name: "all", Points: []chart.Point{{1e-2, 0.1}, {1e-6, 0.9}, {1e-4, 0.5}, {0, 1}, {nan, 1}, {1, nan}}},
				{Name: "worst group", Points: []chart.Point{{1e-5, 0.9}, {3e-3, 0.5}, {1e-1, 0.1}}},
			},
		}),
		"spark": chart.Spark(chart.Sparkline{Title: "Requests in the last hour, 3 at most", Values: wave(60, 1)}),
	} {
		t.Run(name, func(t *testing.T) {
			check(t, got)
			file := filepath.Join("testdata", name+".html")
			text := strings.ReplaceAll(string(got), "><", ">\n<") + "\n"
			if *update {
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), text); diff != "" {
				t.Errorf("%s differs; if it should, look at it and run go test -update:\n%s", file, diff)
			}
		})
	}
}

// noNumber finds what is no coordinate, in attributes.
var noNumber = regexp.MustCompile(`="[^"]*(NaN|Inf|e[+-]?[0-9])[^"]*"`)

// maxBytes is more than any picture has.
const maxBytes = 160 << 10

// check wants well-formed markup of elements and attributes that this package may use, with ids that are there once,
// finite coordinates, and of bounded size.
func check(t *testing.T, got template.HTML) {
	t.Helper()
	if len(got) > maxBytes {
		t.Errorf("%d bytes, want at most %d", len(got), maxBytes)
	}
	ids := map[string]bool{}
	d := xml.NewDecoder(strings.NewReader(string(got)))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("not well-formed: %v in\n%s", err, got)
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if !strings.Contains(" div svg title desc g path circle text ul li ", " "+element.Name.Local+" ") {
			t.Errorf("element %s", element.Name.Local)
		}
		for _, a := range element.Attr {
			name := a.Name.Local
			switch name {
			case "aria-label", "id", "aria-labelledby":
			case "class", "viewBox", "role", "d", "fill", "stroke", "stroke-width", "stroke-linejoin",
				"stroke-dasharray", "cx", "cy", "r", "x", "y", "text-anchor", "font-size", "width", "height",
				"aria-hidden":
				if bad := noNumber.FindString(name + `="` + a.Value + `"`); bad != "" || len(a.Value) > maxBytes/4 {
					t.Errorf("attribute %s", bad)
				}
			default:
				t.Errorf("attribute %s of %s", name, element.Name.Local)
			}
			if name == "id" && ids[a.Value] {
				t.Errorf("id %q is there twice", a.Value)
			}
			ids[a.Value] = ids[a.Value] || name == "id"
		}
	}
}

// TestLongLinesAreReduced draws more points than a screen has, with one that stands out, and keeps it.
func TestLongLinesAreReduced(t *testing.T) {
	values := make([]float64, 100_000)
	values[54_321] = 1000
	got := chart.Lines(chart.Picture{ID: "a", Title: "a", Series: []chart.Series{{Values: values}},
		Times: times(time.Unix(0, 0).UTC(), time.Second, len(values))})
	check(t, got)
	if len(got) > 40<<10 {
		t.Errorf("%d bytes", len(got))
	}
	if !strings.Contains(string(got), " 26L") { // the top of the area
		t.Error("the largest value is lost")
	}
}

// FuzzPictures draws whatever comes.
func FuzzPictures(f *testing.F) {
	f.Add("id", "<script>alert(1)</script>", "é\x00\"'&", int64(0), int64(time.Minute), 3, 1.5, -2.0, 1e300, uint8(0))
	f.Add("", "\xff\ufffe", "]]>", int64(-1<<62), int64(1<<62), 700, math.MaxFloat64, nan, math.Inf(-1), uint8(1))
	f.Add("a b\"", "</svg>", "💥", int64(1<<40), int64(1), 2, 5e-324, 1e-300, 0.0, uint8(2))
	f.Add("a", "", "", int64(1<<40), int64(24*time.Hour), 400, 1.0, 2.0, 3.0, uint8(9))
	f.Fuzz(func(t *testing.T, id, title, text string, begin, step int64, n int, a, b, c float64, steps uint8) {
		n = min(max(n, 0), 2000)
		values := make([]float64, n)
		points := make([]chart.Point, n)
		for i := range values {
			values[i] = []float64{a, b, c, a * b, b / c, nan}[i%6]
			points[i] = chart.Point{X: values[i], Y: []float64{c, a, b}[i%3]}
		}
		say := func(float64) string { return text }
		all := []chart.Series{{title, values}, {text, values[:n/2]}, {Name: id}, {text, values}, {title, values}}
		check(t, chart.Lines(chart.Picture{
			ID: id, Title: title, Description: text, Times: times(time.Unix(0, begin).UTC(), time.Duration(step), n),
			FormatTime: func(time.Time, time.Duration) string { return text }, TimeLabel: title,
			Y: chart.Axis{Label: text, Format: say, Steps: chart.Steps(steps)}, Series: all,
		}))
		far := times(time.Unix(begin, 0), time.Duration(step), n)
		check(t, chart.Lines(chart.Picture{ID: id, Times: far, Series: all}))
		check(t, chart.Curves(chart.Curve{
			ID: id, Title: title, Description: text,
			X: chart.Axis{Label: text, Format: say}, Y: chart.Axis{Label: title},
			Series: []chart.Points{{title, points}, {text, points[:n/3]}, {}, {}, {Name: "the fifth"}},
		}))
		check(t, chart.Curves(chart.Curve{Series: []chart.Points{{Points: points}}}))
		check(t, chart.Spark(chart.Sparkline{Title: text, Values: values}))
	})
}
