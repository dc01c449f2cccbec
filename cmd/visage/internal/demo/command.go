package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	"github.com/visage-face/visage/cmd/visage/internal/pipeline"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
)

// Command is "visage demo".
func Command() *cobra.Command {
	var cfg Config
	var database string
	c := command.New("demo", "Recognise people on sample photos, and show that nothing readable was stored",
		"visage demo --out demo-out")
	settings.Define(c.Flags(), "dir", "pack", "library", "parallel")
	f := c.Flags()
	f.StringVar(&cfg.Photos, "photos", filepath.Join("models", "node_modules", "@vladmandic", "face-api", "demo"),
		"`FOLDER` with sample*.jpg")
	f.StringVar(&cfg.Out, "out", "demo-out", "`FOLDER` for the annotated pictures")
	f.IntVar(&cfg.Crowd, "crowd", 100_000,
		"`NUMBER` of synthetic faces to enrol before a key is rotated, 0 to 1000000; the default takes a minute")
	f.StringVar(&database, "replicas-over", "",
		"run two replicas over the empty PostgreSQL database with this `URL`, kill one, and go on")
	f.BoolVar(&cfg.Console, "console", false, "serve the result at the end, and print the address of its console")
	return command.Run(c, func(ctx context.Context, s command.Streams, _ []string) (err error) {
		if cfg.Crowd < 0 || cfg.Crowd > 1_000_000 {
			return command.Misuse("--crowd must be between 0 and 1000000; got %d", cfg.Crowd)
		}
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		if _, err := os.Stat(cfg.Photos); errors.Is(err, fs.ErrNotExist) {
			return command.Hinted(fmt.Errorf("the folder %s does not exist", cfg.Photos),
				"\"make setup\" downloads the sample photos")
		}
		cfg.Progress, cfg.Client = s.Out, operator.HTTPClient
		if database != "" {
			return RunCluster(ctx, cfg, database)
		}
		if cfg.Pipeline, err = pipeline.Open(set.Server); err != nil {
			return err
		}
		defer func() {
			if closeErr := cfg.Pipeline.Close(); err == nil {
				err = closeErr
			}
		}()
		return Run(ctx, cfg)
	})
}
