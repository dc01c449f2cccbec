package console

import (
	"context"
	"html/template"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/console/internal/chart"
	"github.com/visage-face/visage/metrics"
)

func (c *Console) metricsRoutes() []route {
	return []route{
		page(oneResource+"/metrics", onAccount("read"), c.resourceMetrics),
		page(prefix+"/metrics", operator, c.instanceMetrics),
	}
}

// Figures reads the figures that the instance keeps of itself; the zero id is the instance.
type Figures interface {
	Read(ctx context.Context, of visage.ResourceID, from, to time.Time, step time.Duration) (metrics.Series, error)
	Rates(ctx context.Context, of []visage.ResourceID, from, to time.Time) ([]float64, error)
}

// spans are the lengths of time that the pages show, with the length of a point.
var spans = []struct {
	name       string // and the end of its message
	span, step time.Duration
}{
	{"1h", time.Hour, time.Minute},
	{"24h", 24 * time.Hour, 15 * time.Minute},
	{"7d", 7 * 24 * time.Hour, 2 * time.Hour},
}

// metricsData is the page with the figures of a resource or of the instance.
type metricsData struct {
	Spans    []tab
	Totals   []fact
	First    bool // nothing has been counted yet: there is nothing to draw
	Pictures []picture
	Errors   []errorRow
	Step     string // how long each point is
}

// picture is a picture of figures, and the same figures as a table.
type picture struct {
	ID, Title string
	Image     template.HTML
	Columns   []string
	Rows      []pictureRow
}

type pictureRow struct {
	Time  time.Time
	Cells []string
}

type errorRow struct {
	Code  string
	Count int
}

func (c *Console) resourceMetrics(v *visit) (*view, error) {
	a, err := c.cfg.Accounts.Get(v.Context(), v.Path("account"))
	if err != nil {
		return nil, err
	}
	data, err := c.metricsData(v, a.ID, resourcePath(a.Name, "metrics"), v.mayData(useFaces, c.cfg.AccountPath(a)))
	if err != nil {
		return nil, err
	}
	return v.resourcePage("metrics", "metrics", a, data), nil
}

func (c *Console) instanceMetrics(v *visit) (*view, error) {
	data, err := c.metricsData(v, visage.ResourceID{}, prefix+"/metrics", true)
	if err != nil {
		return nil, err
	}
	return v.page("metrics", v.text("metrics.title"), data), nil
}

// line is one line of a picture: a name, its value at a point, and how it is written in the table.
type line struct {
	key   string
	value func(metrics.Point) float64
	text  func(float64) string
}

// metricsData has the figures of a resource or of the instance. The memory of galleries tells how many faces are
// enrolled: counted says whether the person may know that.
func (c *Console) metricsData(v *visit, of visage.ResourceID, path string, counted bool) (*metricsData, error) {
	chosen := spans[0]
	for _, s := range spans {
		if s.name == v.field("span") {
			chosen = s
		}
	}
	now := time.Now().UTC()
	series, err := c.cfg.Figures.Read(v.Context(), of, now.Add(-chosen.span), now, chosen.step)
	if err != nil {
		return nil, err
	}
	d := &metricsData{Step: v.lang.span(series.Step), First: nothingCounted(series)}
	for _, s := range spans {
		d.Spans = append(d.Spans, tab{v.text("metrics.span." + s.name), path + "?" + query("span", s.name),
			s.name == chosen.name})
	}
	count := func(x float64) string { return v.lang.number(int(math.Round(x))) }
	milliseconds := func(x float64) string { return v.text("metrics.ms", x) }
	size := func(x float64) string { return v.lang.size(int64(x)) }
	ms := func(took time.Duration) float64 { return float64(took) / float64(time.Millisecond) }
	total := series.Total
	d.Totals = []fact{
		{v.text("metrics.requests"), v.lang.number(int(total.Requests)), false},
		{v.text("metrics.failed"), v.lang.number(int(total.Failed)), false},
		{v.text("metrics.p50"), milliseconds(ms(total.P50)), false},
		{v.text("metrics.p95"), milliseconds(ms(total.P95)), false},
		{v.text("metrics.p99"), milliseconds(ms(total.P99)), false},
		{v.text("metrics.checks"), v.text("metrics.checks.counts", int(total.Checks.OK), int(total.Checks.Refused),
			int(total.Checks.Unanswered)), false},
	}
	for _, e := range total.Errors {
		d.Errors = append(d.Errors, errorRow{e.Code, int(e.Count)})
	}
	d.Pictures = append(d.Pictures,
		v.picture("requests", series, chart.Axis{Steps: chart.Whole, Format: count},
			line{"metrics.requests", func(p metrics.Point) float64 { return float64(p.Requests) }, count},
			line{"metrics.errors", func(p metrics.Point) float64 { return float64(countErrors(p)) }, count}),
		v.picture("latency", series, chart.Axis{Label: v.text("metrics.ms.unit"), Format: v.lang.short},
			line{"metrics.p50", func(p metrics.Point) float64 { return ms(p.P50) }, milliseconds},
			line{"metrics.p95", func(p metrics.Point) float64 { return ms(p.P95) }, milliseconds},
			line{"metrics.p99", func(p metrics.Point) float64 { return ms(p.P99) }, milliseconds}))
	if counted {
		d.Pictures = append(d.Pictures, v.picture("gallery", series, chart.Axis{Steps: chart.Binary, Format: size},
			line{"metrics.gallery", func(p metrics.Point) float64 { return float64(p.GalleryBytes) }, size}))
	}
	d.Pictures = append(d.Pictures,
		v.picture("checks", series, chart.Axis{Steps: chart.Whole, Format: count},
			line{"metrics.checks.ok", func(p metrics.Point) float64 { return float64(p.Checks.OK) }, count},
			line{"metrics.checks.refused", func(p metrics.Point) float64 { return float64(p.Checks.Refused) }, count},
			line{"metrics.checks.unanswered", func(p metrics.Point) float64 { return float64(p.Checks.Unanswered) },
				count}),
	)
	if of == (visage.ResourceID{}) {
		d.Pictures = append(d.Pictures, v.picture("disk", series, chart.Axis{Steps: chart.Binary, Format: size},
			line{"metrics.disk.used", func(p metrics.Point) float64 { return float64(p.DiskUsed) }, size},
			line{"metrics.disk.total", func(p metrics.Point) float64 { return float64(p.DiskTotal) }, size}))
	}
	return d, nil
}

// nothingCounted reports whether the instance has counted nothing in any part of a time, as in its first minute.
func nothingCounted(s metrics.Series) bool {
	return !slices.ContainsFunc(s.Points, func(p metrics.Point) bool { return !p.Missing })
}

func countErrors(p metrics.Point) (n uint64) {
	for _, e := range p.Errors {
		n += e.Count
	}
	return n
}

// picture draws lines over time, with their table.
func (v *visit) picture(id string, of metrics.Series, y chart.Axis, lines ...line) picture {
	p := picture{ID: id, Title: v.text("metrics.picture." + id)}
	drawn := chart.Picture{
		ID: id, Title: p.Title, Description: v.text("metrics.picture.description", v.lang.span(of.Step)),
		TimeLabel: v.text("metrics.utc"), Y: y, FormatTime: v.lang.axisTime,
	}
	for i, l := range lines {
		p.Columns = append(p.Columns, v.text(l.key))
		drawn.Series = append(drawn.Series, chart.Series{Name: p.Columns[i]})
	}
	for _, point := range of.Points {
		drawn.Times = append(drawn.Times, point.Start)
		row := pictureRow{Time: point.Start}
		for i, l := range lines {
			value, text := math.NaN(), ""
			if !point.Missing {
				value = l.value(point)
				text = l.text(value)
			}
			drawn.Series[i].Values = append(drawn.Series[i].Values, value)
			row.Cells = append(row.Cells, text)
		}
		if !point.Missing {
			p.Rows = append(p.Rows, row)
		}
	}
	p.Image = chart.Lines(drawn)
	return p
}

// short writes a number with few digits.
func (l *language) short(x float64) string {
	if x == math.Trunc(x) {
		return l.number(int(x))
	}
	return l.text("metrics.decimal", x)
}

// axisTime writes a moment at the axis of a picture.
func (l *language) axisTime(t time.Time, step time.Duration) string {
	if step >= 24*time.Hour {
		return strconv.Itoa(t.Day()) + " " + l.text("time.month."+strconv.Itoa(int(t.Month())))
	}
	return t.Format("15:04")
}
