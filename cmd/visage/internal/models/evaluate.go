package models

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/evaluation"
	"github.com/visage-face/visage/cmd/visage/internal/pipeline"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/vision"
)

// EvaluateCommand is "visage evaluate".
func EvaluateCommand() *cobra.Command {
	var opts struct{ pairs, groups, html string }
	c := command.New("evaluate FOLDER", "Measure how well a model pack tells people apart, on photos of your own",
		"visage evaluate photos/ --html report.html\nvisage evaluate lfw/ --pairs pairs.txt -o json")
	c.Long = "Measure how well a model pack tells people apart, on a folder with one folder of photos for each person."
	settings.Define(c.Flags(), "dir", "pack", "library", "parallel")
	f := c.Flags()
	f.StringVar(&opts.pairs, "pairs", "",
		"`FILE` with the pairs to compare, in LFW's format (default: every photo with every other)")
	defineGroups(c, &opts.groups)
	f.StringVar(&opts.html, "html", "", "`FILE` to write the report to as a page, with curves and the worst errors' "+
		"photos")
	output := command.DefineOutput(c, "text", "json", "markdown")
	return command.Run(c, func(ctx context.Context, s command.Streams, operands []string) error {
		form, err := output.Form()
		if err != nil {
			return err
		}
		if opts.pairs != "" && opts.groups != "" {
			return command.Misuse("--groups compares every photo with every other: it cannot be combined with --pairs")
		}
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		if err := writable(opts.html); err != nil {
			return err
		}
		var photos evaluation.Set
		if opts.pairs != "" {
			photos, err = evaluation.ReadPairs(opts.pairs, operands[0])
		} else {
			photos, err = readPhotos(s, operands[0], opts.groups)
		}
		if err != nil {
			return err
		}
		return runEvaluate(ctx, s, set.Server, photos, opts.html, form)
	})
}

// defineGroups adds the flag that selects the groups of people to report.
func defineGroups(c *cobra.Command, groups *string) {
	c.Flags().StringVar(groups, "groups", "", "report `GROUPS` separately: a CSV file with a header (person, then one "+
		"column "+
		"for each grouping), \"folders\" for a level of folders above the people's, or \"names\" for common names of "+
		"regions and sexes")
}

// readPhotos reads the photos in a folder, and the groups of the people on them.
func readPhotos(s command.Streams, folder, groups string) (evaluation.Set, error) {
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
			fmt.Fprintf(s.Err, "warning: %s\n", sentence)
		}
	}
	return photos, nil
}

func runEvaluate(
	ctx context.Context, s command.Streams, cfg server.Config, photos evaluation.Set, html, output string,
) (err error) {
	p, err := pipeline.Open(cfg)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := p.Close(); err == nil {
			err = closeErr
		}
	}()
	faces, err := look(ctx, s, cfg, photos, p)
	if err != nil {
		return err
	}
	result, err := faces.Measure(ctx, p)
	if err != nil {
		return err
	}
	// The report is printed even if the page cannot be written: it may have taken hours.
	defer func() {
		if pageErr := writePage(result, html); err == nil {
			err = pageErr
		}
	}()
	switch output {
	case "json":
		return result.WriteJSON(s.Out)
	case "markdown":
		return result.WriteMarkdown(s.Out)
	}
	return result.WriteText(s.Out)
}

// look finds the faces on photos, and shows the progress.
func look(
	ctx context.Context, s command.Streams, cfg server.Config, photos evaluation.Set, p *vision.Pipeline,
) (*evaluation.Faces, error) {
	progress := command.Progress{W: s.Err, What: "photos", Every: 100}
	return evaluation.Look(ctx, photos, p, cfg.Parallel, progress.Done)
}

// writable refuses files that cannot be written before hours are spent on their content. Empty paths are skipped.
// Existing content is kept.
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
