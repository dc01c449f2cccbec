package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/visage-face/visage/cmd/visage/internal/demo"
)

func demoCommand() command {
	var opts struct {
		photos, out string
		crowd       int
	}
	c := command{
		name: "demo",
		summary: "Do the main job on sample photos in a temporary directory, and show that nothing readable was " +
			"stored.",
		example: "visage demo --out demo-out",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		given := defineSettings(fs, "dir", "pack", "library", "parallel")
		fs.StringVar(&opts.photos, "photos", filepath.Join("models", "node_modules", "@vladmandic", "face-api", "demo"),
			"folder with sample*.jpg (default: those of the npm package, under models/)")
		fs.StringVar(&opts.out, "out", "demo-out", "folder for the pictures with names (default: demo-out)")
		fs.IntVar(&opts.crowd, "crowd", 100_000,
			"made-up faces to enrol before a key is rotated (default: 100000, which take a minute)")
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) > 0 {
				return usage(&c, "takes no arguments, and was given %q", args[0])
			}
			if opts.crowd < 0 || opts.crowd > 1_000_000 {
				return usage(&c, "--crowd is %d; allowed: 0 to 1000000", opts.crowd)
			}
			set, err := given.load()
			if err != nil {
				return hintUsage(err, &c)
			}
			return runDemo(ctx, s, set, opts.photos, opts.out, opts.crowd)
		}
	}
	return c
}

func runDemo(ctx context.Context, s streams, set *settings, photos, out string, crowd int) (err error) {
	if _, err := os.Stat(photos); errors.Is(err, fs.ErrNotExist) {
		return hinted(fmt.Errorf("there is no folder %s", photos), "\"make setup\" fetches the sample photos")
	}
	pipeline, err := openPipeline(set.server)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := pipeline.Close(); err == nil {
			err = closeErr
		}
	}()
	return demo.Run(
		ctx, demo.Config{Photos: photos, Out: out, Pipeline: pipeline, Crowd: crowd, Progress: s.out, Client: trusting},
	)
}
