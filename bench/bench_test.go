package bench_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// results are the lines of the table that TestMain prints after the benchmarks. A benchmark body may run several times;
// the last run counts.
var results struct {
	sync.Mutex
	lines []result
}

type result struct {
	what   string  // what was measured, unique
	value  float64 // in unit
	unit   string
	target string // in words; empty: no target, the number is only reported
	met    bool
	note   string // what it depends on: baselines, counts
}

// atMost and atLeast record a number beside its target.
func atMost(b *testing.B, what string, value, target float64, unit, note string) {
	b.Helper()
	record(b, result{what, value, unit, fmt.Sprintf("≤ %g %s", target, unit), value <= target, note})
}

func atLeast(b *testing.B, what string, value, target float64, unit, note string) {
	b.Helper()
	record(b, result{what, value, unit, fmt.Sprintf("≥ %g %s", target, unit), value >= target, note})
}

// told records a number that has no target.
func told(b *testing.B, what string, value float64, unit, note string) {
	b.Helper()
	record(b, result{what: what, value: value, unit: unit, met: true, note: note})
}

func record(b *testing.B, r result) {
	b.Helper()
	b.ReportMetric(r.value, metricUnit(r))
	results.Lock()
	defer results.Unlock()
	if i := slices.IndexFunc(results.lines, func(o result) bool { return o.what == r.what }); i >= 0 {
		results.lines[i] = r
		return
	}
	results.lines = append(results.lines, r)
}

// metricUnit names the metric for benchstat, whose units contain no white space.
func metricUnit(r result) string {
	unit := r.what + "-" + r.unit
	out := make([]rune, 0, len(unit))
	for _, c := range unit {
		switch c {
		case ' ', ',', '(', ')', ':':
			if len(out) > 0 && out[len(out)-1] != '-' {
				out = append(out, '-')
			}
		default:
			out = append(out, c)
		}
	}
	return string(out)
}

// skipped records why a number is missing, so that the table mentions it, and skips the benchmark.
func skipped(b *testing.B, what, why string) {
	b.Helper()
	results.Lock()
	if !slices.ContainsFunc(results.lines, func(o result) bool { return o.what == what }) {
		results.lines = append(results.lines, result{what: what, target: "skipped", note: why})
	}
	results.Unlock()
	b.Skip(why)
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(vaultVariable); dir != "" {
		playVault(dir)
		return
	}
	if dir := os.Getenv(siteVariable); dir != "" {
		publish(dir)
		return
	}
	if order := os.Getenv(backupVariable); order != "" {
		takeBackups(order)
		return
	}
	if order := os.Getenv(clientVariable); order != "" {
		serveOrder(order, clientOrder.ready)
		return
	}
	if order := os.Getenv(peopleVariable); order != "" {
		serveOrder(order, peopleOrder.ready)
		return
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // as in cmd/visage
	}
	code := m.Run()
	results.Lock()
	defer results.Unlock()
	if len(results.lines) > 0 {
		fmt.Println()
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "measured\tnumber\ttarget\tverdict\tnote")
		for _, r := range results.lines {
			switch {
			case r.target == "skipped":
				fmt.Fprintf(w, "%s\t-\t-\tskipped\t%s\n", r.what, r.note)
			case r.target == "":
				fmt.Fprintf(w, "%s\t%.4g %s\t-\t-\t%s\n", r.what, r.value, r.unit, r.note)
			default:
				verdict := "met"
				if !r.met {
					verdict = "MISSED"
				}
				fmt.Fprintf(w, "%s\t%.4g %s\t%s\t%s\t%s\n", r.what, r.value, r.unit, r.target, verdict, r.note)
			}
		}
		w.Flush()
	}
	os.Exit(code)
}

// median returns the middle one; of an even number, the lower of the two in the middle.
func median(times []time.Duration) time.Duration { return quantile(times, 0.5) }

// quantile returns the time that the given share of times does not exceed.
func quantile(times []time.Duration, share float64) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[int(share*float64(len(sorted)-1))]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// root returns the module's folder.
func root(b *testing.B) string {
	b.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		b.Fatalf("find the module: %v", err)
	}
	return dir
}
