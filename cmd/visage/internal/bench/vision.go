package bench

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/pipeline"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/timing"
)

// The photo and the baseline in the source folder, as make setup and make bench download them.
const (
	samplePhoto    = "models/node_modules/@vladmandic/face-api/demo/sample1.jpg"
	baselineFolder = "bench/wasm"
)

func photos() *cobra.Command {
	var cfg timing.Config
	var photo, baseline string
	c := command.New("vision", "Measure how fast this machine finds and describes the face on a photo, stage by stage",
		"visage bench vision\nvisage bench vision --photo me.jpg --pack models/packs/default --clients 16")
	settings.Define(c.Flags(), "dir", "pack", "library", "parallel")
	f := c.Flags()
	f.StringVar(&photo, "photo", "",
		"JPEG or PNG `FILE` with a face in its middle (default: the sample photo that \"make setup\" downloads)")
	f.StringVar(&baseline, "baseline", baselineFolder, "`FOLDER` of the WebAssembly baseline")
	f.IntVar(&cfg.Rounds, "rounds", 15, "`NUMBER` of measurements, of which the median is shown")
	f.IntVar(&cfg.Clients, "clients", 8, "`NUMBER` of callers at the same time")
	f.IntVar(&cfg.Photos, "photos", 200, "`NUMBER` of photos that they send in total, of each size")
	output := command.DefineOutput(c)
	return command.Run(c, func(ctx context.Context, s command.Streams, _ []string) error {
		err := errors.Join(atLeastOne("rounds", cfg.Rounds), atLeastOne("clients", cfg.Clients),
			atLeastOne("photos", cfg.Photos))
		if err != nil {
			return err
		}
		form, err := output.Form()
		if err != nil {
			return err
		}
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		if cfg.Pictures, err = pictures(photo); err != nil {
			return err
		}
		cfg.Progress = func(what string) { fmt.Fprintf(s.Err, "%s ...\n", what) }
		return runVision(ctx, s, cfg, set.Server, baseline, form)
	})
}

// pictures makes the photos to measure from a file, or from the sample.
func pictures(file string) (timing.Pictures, error) {
	var part image.Rectangle
	if file == "" {
		file = filepath.FromSlash(samplePhoto)
		part = image.Rect(1100, 40, 1900, 640) // of 1920 × 1280; shows one of the three people
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && !part.Empty() {
		return timing.Pictures{}, errors.New("this folder has no sample photo: " +
			"name a photo with --photo, or run \"make setup\" in the source folder")
	}
	if err != nil {
		return timing.Pictures{}, fmt.Errorf("read the photo: %w", err)
	}
	return timing.NewPictures(b, part)
}

// visionLine is a stage in the output of bench vision, in milliseconds.
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

func runVision(
	ctx context.Context, s command.Streams, cfg timing.Config, serving server.Config, baseline, output string,
) (err error) {
	report := visionReport{SmallBytes: len(cfg.Pictures.Small), LargeBytes: len(cfg.Pictures.Large)}
	cfg.Open = func(trace func(vision.Stage, time.Duration)) (*vision.Pipeline, error) {
		p, err := pipeline.OpenTraced(serving, 0, trace)
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
		report.Stages = append(report.Stages,
			visionLine{string(stage), ms(r.Small.Stage[stage]), ms(r.Large.Stage[stage])})
	}
	report.Stages = append(report.Stages, visionLine{"whole", ms(r.Small.Whole), ms(r.Large.Whole)})
	report.Ratio = float64(r.Large.Whole) / float64(r.Small.Whole)
	report.Clients, report.SmallRate, report.LargeRate, report.Peak = r.Clients, r.SmallRate, r.LargeRate, r.PeakMemory
	if r.Baseline > 0 {
		report.Baseline, report.Faster = ms(r.Baseline), float64(r.Baseline)/float64(r.Small.Whole)
	}
	if output == "json" {
		return command.WriteJSON(s.Out, report)
	}
	return report.write(s)
}

func (r visionReport) write(s command.Streams) error {
	fmt.Fprintf(s.Out, "pack             %s\n", r.Pack)
	fmt.Fprintf(s.Out, "small photo      %d × %d, %.2f MB of JPEG\n", timing.SmallWidth, timing.SmallHeight,
		float64(r.SmallBytes)/1e6)
	fmt.Fprintf(s.Out, "large photo      %d × %d, %.2f MB of JPEG\n\n", timing.LargeWidth, timing.LargeHeight,
		float64(r.LargeBytes)/1e6)
	t := command.Table{Gap: 3}
	t.Row("STAGE", "SMALL", "LARGE")
	for _, l := range r.Stages {
		t.Row(l.Stage, fmt.Sprintf("%.2f ms", l.Small), fmt.Sprintf("%.2f ms", l.Large))
	}
	if err := t.Write(s.Out); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "\nlarge by small   %.2f times\n", r.Ratio)
	fmt.Fprintf(s.Out, "%-16s %.1f small photos per second, %.1f large ones\n", fmt.Sprintf("%d clients", r.Clients),
		r.SmallRate, r.LargeRate)
	if r.Missing != "" {
		fmt.Fprintf(s.Out, "WebAssembly      not measured: %s\n", r.Missing)
	} else {
		fmt.Fprintf(s.Out, "WebAssembly      %.1f ms without decoding: %.1f times the small photo\n", r.Baseline,
			r.Faster)
	}
	if r.Peak > 0 {
		fmt.Fprintf(s.Out, "peak memory      %.0f MB resident\n", float64(r.Peak)/1e6)
	}
	return nil
}
