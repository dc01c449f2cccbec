package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/visage-face/visage/cmd/visage/internal/evaluation"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/pack"
)

func evaluateCommand() command {
	var opts struct{ pairs, html string }
	c := command{
		name: "evaluate", args: "FOLDER",
		summary: "Measure how well a model pack tells people apart, on a folder that has a folder of photos for each person.",
		example: "visage evaluate photos/ --html report.html\n  visage evaluate lfw/ --pairs pairs.txt",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		given := defineSettings(fs, "dir", "pack", "library", "parallel")
		fs.StringVar(&opts.pairs, "pairs", "",
			"file with the pairs to compare, in LFW's format (default: every photo with every other)")
		fs.StringVar(&opts.html, "html", "", "file to write the report to as a page, with the curve")
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) != 1 {
				return usage(&c, "takes the folder with the photos")
			}
			set, err := given.load()
			if err != nil {
				return hintUsage(err, &c)
			}
			var photos evaluation.Set
			if opts.pairs != "" {
				photos, err = evaluation.ReadPairs(opts.pairs, args[0])
			} else {
				photos, err = evaluation.ReadFolder(args[0])
			}
			if err != nil {
				return err
			}
			return runEvaluate(ctx, s, set.server, photos, opts.html)
		}
	}
	return c
}

func runEvaluate(ctx context.Context, s streams, cfg server.Config, photos evaluation.Set, html string) (err error) {
	pipeline, err := openPipeline(cfg)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := pipeline.Close(); err == nil {
			err = closeErr
		}
	}()
	result, err := evaluation.Measure(ctx, photos, pipeline, func(done, of int) {
		if done%100 == 0 || done == of {
			fmt.Fprintf(s.err, "%d of %d photos\n", done, of)
		}
	})
	if err != nil {
		return err
	}
	if html != "" {
		var page bytes.Buffer
		if err := result.WriteHTML(&page); err != nil {
			return fmt.Errorf("make report: %w", err)
		}
		if err := os.WriteFile(html, page.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	}
	return result.WriteText(s.out)
}

// openPipeline opens the model pack that cfg names, or the one that would be served.
func openPipeline(cfg server.Config) (*vision.Pipeline, error) {
	dir := cfg.Dir
	if dir == "" {
		var err error
		if dir, err = server.DefaultDir(); err != nil {
			return nil, err
		}
	}
	folder, err := server.FindPack(cfg.Pack, dir)
	if err != nil {
		return nil, hinted(err, "\"make setup\" makes the default pack")
	}
	library, err := server.FindLibrary(cfg.Library)
	if err != nil {
		return nil, hinted(err, "\"make setup\" fetches the library")
	}
	p, err := pack.Open(folder)
	if err != nil {
		return nil, err
	}
	return vision.Open(vision.Config{Pack: p, Library: library, Parallel: cfg.Parallel})
}
