package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/visage-face/visage/gallery/measure"
)

func benchSearchCommand() command {
	var cfg measure.Config
	var output string
	c := command{
		name:    "bench search",
		summary: "Measure how fast this machine searches a gallery, on made-up faces, four a person. No server is needed.",
		example: "visage bench search\n  visage bench search --faces 200000 --dim 512 --probes 10",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		fs.IntVar(&cfg.Faces, "faces", 1_000_000, "faces in the gallery (default 1000000)")
		fs.IntVar(&cfg.Dim, "dim", 128, "numbers a face (default 128)")
		fs.IntVar(&cfg.Probes, "probes", 64, "faces searched for together (default 64)")
		fs.IntVar(&cfg.Rounds, "rounds", 15, "how often everything is measured; medians count (default 15)")
		fs.StringVar(&output, "o", "table", "output: table or json")
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) != 0 {
				return usage(&c, "takes no arguments, and was given %q", args[0])
			}
			for name, n := range map[string]int{
				"faces": cfg.Faces, "dim": cfg.Dim, "probes": cfg.Probes, "rounds": cfg.Rounds,
			} {
				if n < 1 {
					return usage(&c, "--%s is %d; it must be at least 1", name, n)
				}
			}
			if output != "table" && output != "json" {
				return usage(&c, "-o is %q; allowed: table, json", output)
			}
			cfg.Progress = func(what string) { fmt.Fprintf(s.err, "%s ...\n", what) }
			return runBenchSearch(ctx, s, cfg, output)
		}
	}
	return c
}

// searchLine is one kind of search in what bench search prints. Times are in milliseconds, speeds in a second.
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

func runBenchSearch(ctx context.Context, s streams, cfg measure.Config, output string) error {
	r, err := measure.Run(ctx, cfg)
	if err != nil {
		return fmt.Errorf("measure searches: %w", err)
	}
	milliseconds := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	one := func(kind string, m measure.Search) searchLine {
		return searchLine{
			Kind: kind, Probes: 1, Median: milliseconds(m.Median), P99: milliseconds(m.P99), Queries: 1 / m.Median.Seconds(),
			Bytes: m.Bandwidth(), BandwidthShare: m.Bandwidth() / r.ReadBandwidth,
		}
	}
	many := func(kind string, d time.Duration) searchLine {
		return searchLine{Kind: kind, Probes: r.Probes, Median: milliseconds(d), Queries: float64(r.Probes) / d.Seconds()}
	}
	baseline := func(kind string, d time.Duration) searchLine {
		return searchLine{Kind: kind, Probes: 1, Median: milliseconds(d), Queries: 1 / d.Seconds()}
	}
	report := searchReport{
		Kernel: r.Kernel, Faces: r.Faces, Dim: r.Dim, BytesPerFace: r.BytesPerFace, Bandwidth: r.ReadBandwidth,
		Searches: []searchLine{
			one("the same person", r.Best), one("10 who may be the same person", r.Near), one("the 10 nearest, however far", r.Any),
			many("10 who may be the same person", r.NearAll), many("the 10 nearest, however far", r.AnyAll),
			baseline("for comparison: 8-bit codes alone", r.Int8), baseline("for comparison: float32", r.Float32),
		},
	}
	if output == "json" {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		return enc.Encode(report)
	}
	return report.write(s)
}

func (r searchReport) write(s streams) error {
	fmt.Fprintf(s.out, "kernel           %s\ngallery          %d faces of %d numbers, %.0f bytes each, %.0f MB\nplain reads      %.1f GB/s\n\n",
		r.Kernel, r.Faces, r.Dim, r.BytesPerFace, r.BytesPerFace*float64(r.Faces)/1e6, r.Bandwidth/1e9)
	t := tabwriter.NewWriter(s.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "SEARCH FOR\tPROBES\tMEDIAN\tP99\tQUERIES/S\tREAD\tOF PLAIN READS")
	for _, l := range r.Searches {
		fmt.Fprintf(t, "%s\t%d\t%.3f ms\t", l.Kind, l.Probes, l.Median)
		if l.P99 > 0 {
			fmt.Fprintf(t, "%.3f ms", l.P99)
		}
		fmt.Fprintf(t, "\t%.0f\t", l.Queries)
		if l.Bytes > 0 {
			fmt.Fprintf(t, "%.1f GB/s\t%.0f %%", l.Bytes/1e9, 100*l.BandwidthShare)
		} else {
			fmt.Fprint(t, "\t")
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}
