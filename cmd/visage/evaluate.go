package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/visage-face/visage/cmd/visage/internal/evaluation"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/pack"
)

func evaluateCommand() command {
	var opts struct{ pairs, groups, html, output string }
	c := command{
		name: "evaluate", args: "FOLDER",
		summary: "Measure how well a model pack tells people apart, on a folder that has a folder of photos for each " +
			"person.",
		example: "visage evaluate photos/ --html report.html\n  visage evaluate photos/ --groups groups.csv -o json\n" +
			"  visage evaluate lfw/ --pairs pairs.txt",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		given := defineSettings(fs, "dir", "pack", "library", "parallel")
		fs.StringVar(&opts.pairs, "pairs", "",
			"file with the pairs to compare, in LFW's format (default: every photo with every other)")
		defineGroups(fs, &opts.groups)
		fs.StringVar(&opts.html, "html", "",
			"file to write the report to as a page, with curves and the worst errors' photos")
		fs.StringVar(&opts.output, "o", "text", "form of the report: text, json or markdown")
		return func(ctx context.Context, s streams, args []string) error {
			switch {
			case len(args) != 1:
				return usage(&c, "takes the folder with the photos")
			case opts.pairs != "" && opts.groups != "":
				return usage(&c, "--groups needs every photo compared with every other, so it does not go with --pairs")
			case opts.output != "text" && opts.output != "json" && opts.output != "markdown":
				return usage(&c, "-o takes text, json or markdown, not %q", opts.output)
			}
			set, err := given.load()
			if err != nil {
				return hintUsage(err, &c)
			}
			if err := writable(opts.html); err != nil {
				return err
			}
			var photos evaluation.Set
			if opts.pairs != "" {
				photos, err = evaluation.ReadPairs(opts.pairs, args[0])
			} else {
				photos, err = readPhotos(s, args[0], opts.groups)
			}
			if err != nil {
				return err
			}
			return runEvaluate(ctx, s, set.server, photos, opts.html, opts.output)
		}
	}
	return c
}

// defineGroups defines the flag that says how people are told apart.
func defineGroups(fs *flag.FlagSet, groups *string) {
	fs.StringVar(groups, "groups", "", "tell groups apart: a CSV file with a header (person, then a column for each "+
		"grouping), \"folders\" for a level of folders above the people's, or \"names\" for common names of regions "+
		"and "+
		"sexes")
}

// readPhotos reads the photos in a folder, and the groups of the people on them.
func readPhotos(s streams, folder, groups string) (evaluation.Set, error) {
	if groups == "folders" {
		return evaluation.ReadGrouped(folder)
	}
	photos, err := evaluation.ReadFolder(folder)
	if err != nil {
		return evaluation.Set{}, err
	}
	switch groups {
	case "":
	case "names":
		photos.GroupByName()
	default:
		odd, err := photos.ReadGroups(groups)
		if err != nil {
			return evaluation.Set{}, err
		}
		for _, sentence := range odd {
			fmt.Fprintf(s.err, "warning: %s\n", sentence)
		}
	}
	return photos, nil
}

func runEvaluate(
	ctx context.Context, s streams, cfg server.Config, photos evaluation.Set, html, output string,
) (err error) {
	pipeline, err := openPipeline(cfg)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := pipeline.Close(); err == nil {
			err = closeErr
		}
	}()
	faces, err := look(ctx, s, cfg, photos, pipeline)
	if err != nil {
		return err
	}
	result, err := faces.Measure(ctx, pipeline)
	if err != nil {
		return err
	}
	// The report is printed even where the page cannot be written: it may have taken hours.
	defer func() {
		if pageErr := writePage(result, html); err == nil {
			err = pageErr
		}
	}()
	switch output {
	case "json":
		return result.WriteJSON(s.out)
	case "markdown":
		return result.WriteMarkdown(s.out)
	}
	return result.WriteText(s.out)
}

// look finds the faces on photos, and tells how far it is.
func look(
	ctx context.Context, s streams, cfg server.Config, photos evaluation.Set, pipeline *vision.Pipeline,
) (*evaluation.Faces, error) {
	return evaluation.Look(ctx, photos, pipeline, cfg.Parallel, func(done, of int) {
		if done%100 == 0 || done == of {
			fmt.Fprintf(s.err, "%d of %d photos\n", done, of)
		}
	})
}

// writable refuses files that cannot be written to, before the hours that their content takes. An empty path is none.
// What is there stays as it is.
func writable(paths ...string) error {
	for _, path := range paths {
		if path == "" {
			continue
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			if f, err = os.CreateTemp(filepath.Dir(path), ".visage-*"); err == nil {
				defer os.Remove(f.Name())
			}
		}
		if err != nil {
			return fmt.Errorf("%s cannot be written: %w", path, err)
		}
		f.Close()
	}
	return nil
}

// writePage writes the report as a page to a file, if one is named.
func writePage(result *evaluation.Result, html string) error {
	if html == "" {
		return nil
	}
	var page bytes.Buffer
	if err := result.WriteHTML(&page); err != nil {
		return fmt.Errorf("make report: %w", err)
	}
	if err := os.WriteFile(html, page.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// openPipeline opens the model pack that cfg names, or the one that would be served, for many photos at once: nobody
// waits for one of them, and a processor a photo does most.
func openPipeline(cfg server.Config) (*vision.Pipeline, error) { return openTraced(cfg, 1, nil) }

// openTraced is openPipeline for any number of processors a photo, 0 for the service's own, with a trace, which may be
// nil, of how long stages take.
func openTraced(cfg server.Config, threads int, trace func(vision.Stage, time.Duration)) (*vision.Pipeline, error) {
	p, err := openPack(cfg, pack.Open)
	if err != nil {
		return nil, err
	}
	return openNetworks(cfg, p, threads, trace)
}

// openPack opens the model pack that cfg names, or the one that would be served, by pack.Open or pack.OpenToCalibrate.
func openPack(cfg server.Config, open func(dir string) (*pack.Pack, error)) (*pack.Pack, error) {
	dir := cfg.Dir
	if dir == "" {
		var err error
		if dir, err = server.DefaultDir(); err != nil {
			return nil, err
		}
	}
	folder, err := server.FindPack(cfg.Pack, dir)
	if err != nil {
		return nil, hinted(err, "\"make setup\" makes the pack of new stores; --pack names another")
	}
	return open(folder)
}

// openNetworks loads the networks of a pack.
func openNetworks(
	cfg server.Config, p *pack.Pack, threads int, trace func(vision.Stage, time.Duration),
) (*vision.Pipeline, error) {
	library, err := server.FindLibrary(cfg.Library)
	if err != nil {
		return nil, hinted(err, "\"make setup\" fetches the library")
	}
	return vision.Open(vision.Config{Pack: p, Library: library, Parallel: cfg.Parallel, Threads: threads, Trace: trace})
}
