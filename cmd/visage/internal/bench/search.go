// Package bench implements "visage bench", which measures this machine. No server is needed.
package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/gallery/measure"
)

// Command is "visage bench".
func Command() *cobra.Command {
	return command.Noun("bench", "Measure how fast this machine searches and processes photos",
		search(), partitions(), photos())
}

// atLeastOne refuses counts below 1.
func atLeastOne(name string, n int) error {
	if n < 1 {
		return command.Misuse("--%s must be 1 or more; got %d", name, n)
	}
	return nil
}

func search() *cobra.Command {
	var cfg measure.Config
	c := command.New("search", "Measure how fast this machine searches a gallery of synthetic faces",
		"visage bench search\nvisage bench search --faces 200000 --dim 512 --probes 10")
	f := c.Flags()
	f.IntVar(&cfg.Faces, "faces", 1_000_000, "`NUMBER` of faces in the gallery, four for each person")
	f.IntVar(&cfg.Dim, "dim", 128, "`NUMBER` of values in a template")
	f.IntVar(&cfg.Probes, "probes", 64, "`NUMBER` of faces to search for together")
	f.IntVar(&cfg.Rounds, "rounds", 15, "`NUMBER` of measurements, of which the median is shown")
	output := command.DefineOutput(c)
	return command.Run(c, func(ctx context.Context, s command.Streams, _ []string) error {
		err := errors.Join(atLeastOne("faces", cfg.Faces), atLeastOne("dim", cfg.Dim), atLeastOne("probes", cfg.Probes),
			atLeastOne("rounds", cfg.Rounds))
		if err != nil {
			return err
		}
		form, err := output.Form()
		if err != nil {
			return err
		}
		cfg.Progress = func(what string) { fmt.Fprintf(s.Err, "%s ...\n", what) }
		return runSearch(ctx, s, cfg, form)
	})
}

// searchLine is one kind of search in the output of bench search. Times are in milliseconds, speeds are per second.
type searchLine struct {
	Kind           string  `json:"kind"`
	Probes         int     `json:"probes"`
	Median         float64 `json:"medianMilliseconds"`
	P99            float64 `json:"p99Milliseconds,omitempty"`
	Queries        float64 `json:"queriesPerSecond"`
	Bytes          float64 `json:"bytesPerSecond,omitempty"`
	BandwidthShare float64 `json:"shareOfBandwidth,omitempty"`
}

type searchReport struct {
	Kernel       string       `json:"kernel"`
	Faces        int          `json:"faces"`
	Dim          int          `json:"numbersPerFace"`
	BytesPerFace float64      `json:"bytesPerFace"`
	Bandwidth    float64      `json:"bandwidthBytesPerSecond"`
	Searches     []searchLine `json:"searches"`
}

func runSearch(ctx context.Context, s command.Streams, cfg measure.Config, output string) error {
	r, err := measure.Run(ctx, cfg)
	if err != nil {
		return fmt.Errorf("measure searches: %w", err)
	}
	milliseconds := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	one := func(kind string, m measure.Search) searchLine {
		return searchLine{
			Kind: kind, Probes: 1, Median: milliseconds(m.Median), P99: milliseconds(m.P99),
			Queries: 1 / m.Median.Seconds(), Bytes: m.Bandwidth(), BandwidthShare: m.Bandwidth() / r.ReadBandwidth,
		}
	}
	many := func(kind string, d time.Duration) searchLine {
		return searchLine{
			Kind: kind, Probes: r.Probes, Median: milliseconds(d), Queries: float64(r.Probes) / d.Seconds(),
		}
	}
	baseline := func(kind string, d time.Duration) searchLine {
		return searchLine{Kind: kind, Probes: 1, Median: milliseconds(d), Queries: 1 / d.Seconds()}
	}
	report := searchReport{
		Kernel: r.Kernel, Faces: r.Faces, Dim: r.Dim, BytesPerFace: r.BytesPerFace, Bandwidth: r.ReadBandwidth,
		Searches: []searchLine{
			one("the same person", r.Best), one("10 candidates for the same person", r.Near),
			one("the 10 nearest at any distance", r.Any), many("10 candidates for the same person", r.NearAll),
			many("the 10 nearest at any distance", r.AnyAll), baseline("for comparison: 8-bit codes alone", r.Int8),
			baseline("for comparison: float32", r.Float32),
		},
	}
	if output == "json" {
		return command.WriteJSON(s.Out, report)
	}
	return report.write(s)
}

func (r searchReport) write(s command.Streams) error {
	fmt.Fprintf(s.Out, "kernel           %s\n"+
		"gallery          %d faces of %d numbers, %.0f bytes each, %.0f MB\nplain reads      %.1f GB/s\n\n",
		r.Kernel, r.Faces, r.Dim, r.BytesPerFace, r.BytesPerFace*float64(r.Faces)/1e6, r.Bandwidth/1e9)
	t := command.Table{Gap: 3}
	t.Row("SEARCH FOR", "PROBES", "MEDIAN", "P99", "QUERIES/S", "READ", "OF PLAIN READS")
	for _, l := range r.Searches {
		p99, read, share := "", "", ""
		if l.P99 > 0 {
			p99 = fmt.Sprintf("%.3f ms", l.P99)
		}
		if l.Bytes > 0 {
			read, share = fmt.Sprintf("%.1f GB/s", l.Bytes/1e9), fmt.Sprintf("%.0f %%", 100*l.BandwidthShare)
		}
		t.Row(l.Kind, l.Probes, fmt.Sprintf("%.3f ms", l.Median), p99, fmt.Sprintf("%.0f", l.Queries), read, share)
	}
	return t.Write(s.Out)
}
