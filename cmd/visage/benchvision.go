package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/timing"
)

// Where the photo and the baseline are beside the program's source, as make setup and make bench fetch them.
const (
	samplePhoto    = "models/node_modules/@vladmandic/face-api/demo/sample1.jpg"
	baselineFolder = "bench/wasm"
)

func benchVisionCommand() command {
	var cfg timing.Config
	var photo, baseline, output string
	c := command{
		name: "bench vision",
		summary: "Measure how fast this machine finds and describes the face on a photo, stage by stage, and how many photos a " +
			"second. No server is needed.",
		example: "visage bench vision\n  visage bench vision --photo me.jpg --pack models/packs/default --clients 16",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		given := defineSettings(fs, "dir", "pack", "library", "parallel")
		fs.StringVar(&photo, "photo", "",
			"JPEG or PNG file with a face in its middle (default: the sample photo that make setup fetches)")
		fs.StringVar(&baseline, "baseline", baselineFolder, "folder of the WebAssembly baseline (default bench/wasm)")
		fs.IntVar(&cfg.Rounds, "rounds", 15, "how often everything is measured; medians count (default 15)")
		fs.IntVar(&cfg.Clients, "clients", 8, "callers at the same time (default 8)")
		fs.IntVar(&cfg.Photos, "photos", 200, "photos that they send in all, of each size (default 200)")
		fs.StringVar(&output, "o", "table", "output: table or json")
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) != 0 {
				return usage(&c, "takes no arguments, and was given %q", args[0])
			}
			for name, n := range map[string]int{"rounds": cfg.Rounds, "clients": cfg.Clients, "photos": cfg.Photos} {
				if n < 1 {
					return usage(&c, "--%s is %d; it must be at least 1", name, n)
				}
			}
			if output != "table" && output != "json" {
				return usage(&c, "-o is %q; allowed: table, json", output)
			}
			set, err := given.load()
			if err != nil {
				return hintUsage(err, &c)
			}
			if cfg.Pictures, err = benchPictures(photo); err != nil {
				return err
			}
			cfg.Progress = func(what string) { fmt.Fprintf(s.err, "%s ...\n", what) }
			return runBenchVision(ctx, s, cfg, set.server, baseline, output)
		}
	}
	return c
}

// benchPictures makes the photos that are measured of a file, or of the sample.
func benchPictures(file string) (timing.Pictures, error) {
	var part image.Rectangle
	if file == "" {
		file = filepath.FromSlash(samplePhoto)
		part = image.Rect(1100, 40, 1900, 640) // of 1920 × 1280; shows one of the three people
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && !part.Empty() {
		return timing.Pictures{}, errors.New("there is no sample photo in this folder; " +
			"name one with --photo, or run make setup in the source's")
	}
	if err != nil {
		return timing.Pictures{}, fmt.Errorf("read the photo: %w", err)
	}
	return timing.NewPictures(b, part)
}

// visionLine is a stage in what bench vision prints, in milliseconds.
type visionLine struct {
	Stage string  `json:"stage"`
	Small float64 `json:"smallMilliseconds"`
	Large float64 `json:"largeMilliseconds"`
}

type visionReport struct {
	Pack       string       `json:"pack"`
	SmallBytes int          `json:"smallPhotoBytes"`
	LargeBytes int          `json:"largePhotoBytes"`
	Stages     []visionLine `json:"stages"`
	Ratio      float64      `json:"largeBySmall"`
	Clients    int          `json:"clients"`
	SmallRate  float64      `json:"smallPhotosPerSecond"`
	LargeRate  float64      `json:"largePhotosPerSecond"`
	Baseline   float64      `json:"webAssemblyMilliseconds,omitempty"`
	Faster     float64      `json:"timesFasterThanWebAssembly,omitempty"`
	Missing    string       `json:"webAssemblyMissing,omitempty"`
	Peak       int64        `json:"peakMemoryBytes,omitempty"`
}

func runBenchVision(
	ctx context.Context, s streams, cfg timing.Config, serving server.Config, baseline, output string,
) (err error) {
	report := visionReport{SmallBytes: len(cfg.Pictures.Small), LargeBytes: len(cfg.Pictures.Large)}
	cfg.Open = func(trace func(vision.Stage, time.Duration)) (*vision.Pipeline, error) {
		p, err := openTraced(serving, 0, trace)
		if err == nil {
			report.Pack = p.Name()
		}
		return p, err
	}
	cfg.Progress("starting the WebAssembly baseline")
	cfg.Baseline, err = timing.StartBaseline(ctx, baseline, cfg.Pictures)
	if errors.Is(err, timing.ErrNoBaseline) {
		report.Missing = err.Error()
	} else if err != nil {
		return err
	} else {
		defer func() { err = errors.Join(err, cfg.Baseline.Close()) }()
	}
	r, err := timing.Run(ctx, cfg)
	if err != nil {
		return fmt.Errorf("measure photos: %w", err)
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	for _, stage := range timing.Stages {
		report.Stages = append(report.Stages, visionLine{string(stage), ms(r.Small.Stage[stage]), ms(r.Large.Stage[stage])})
	}
	report.Stages = append(report.Stages, visionLine{"whole", ms(r.Small.Whole), ms(r.Large.Whole)})
	report.Ratio = float64(r.Large.Whole) / float64(r.Small.Whole)
	report.Clients, report.SmallRate, report.LargeRate, report.Peak = r.Clients, r.SmallRate, r.LargeRate, r.PeakMemory
	if r.Baseline > 0 {
		report.Baseline, report.Faster = ms(r.Baseline), float64(r.Baseline)/float64(r.Small.Whole)
	}
	if output == "json" {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		return enc.Encode(report)
	}
	return report.write(s)
}

func (r visionReport) write(s streams) error {
	fmt.Fprintf(s.out, "pack             %s\n", r.Pack)
	fmt.Fprintf(s.out, "small photo      %d × %d, %.2f MB of JPEG\n", timing.SmallWidth, timing.SmallHeight, float64(r.SmallBytes)/1e6)
	fmt.Fprintf(s.out, "large photo      %d × %d, %.2f MB of JPEG\n\n", timing.LargeWidth, timing.LargeHeight, float64(r.LargeBytes)/1e6)
	t := tabwriter.NewWriter(s.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "STAGE\tSMALL\tLARGE")
	for _, l := range r.Stages {
		fmt.Fprintf(t, "%s\t%.2f ms\t%.2f ms\n", l.Stage, l.Small, l.Large)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "\nlarge by small   %.2f times\n", r.Ratio)
	fmt.Fprintf(s.out, "%-16s %.1f small photos a second, %.1f large ones\n", fmt.Sprintf("%d clients", r.Clients), r.SmallRate, r.LargeRate)
	if r.Missing != "" {
		fmt.Fprintf(s.out, "WebAssembly      not measured: %s\n", r.Missing)
	} else {
		fmt.Fprintf(s.out, "WebAssembly      %.1f ms without decoding: %.1f times the small photo\n", r.Baseline, r.Faster)
	}
	if r.Peak > 0 {
		fmt.Fprintf(s.out, "peak memory      %.0f MB resident\n", float64(r.Peak)/1e6)
	}
	return nil
}
