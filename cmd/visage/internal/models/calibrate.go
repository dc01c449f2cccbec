package models

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/evaluation"
	"github.com/visage-face/visage/cmd/visage/internal/pipeline"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/vision/pack"
)

// calibration is the options of "models calibrate".
type calibration struct {
	groups, file, subjects, html, tables string
}

func calibrate() *cobra.Command {
	var opts calibration
	c := command.New("calibrate FOLDER", "Calibrate the confidence of a model pack on photos of your own",
		"visage models calibrate photos/ --groups groups.csv --pack mobileface")
	c.Long = "Measure how similar photos of different people are, on a folder with one folder of photos for each " +
		"person, and calibrate the confidence of a model pack by it."
	settings.Define(c.Flags(), "dir", "pack", "library", "parallel")
	defineGroups(c, &opts.groups)
	f := c.Flags()
	f.StringVarP(&opts.file, "output", "o", "",
		"`FILE` to write the calibration to (default: beside the pack, which then uses it)")
	f.StringVar(&opts.subjects, "subjects", "", "`SENTENCE` about who is on the photos and who is missing, for the "+
		"calibration")
	f.StringVar(&opts.html, "html", "", "`FILE` to write an evaluation with the new calibration to, as a page")
	f.StringVar(&opts.tables, "tables", "", "`FILE` to write the figures into, as tables between the lines "+
		"<!-- calibration --> and <!-- end of calibration -->")
	return command.Run(c, func(ctx context.Context, s command.Streams, operands []string) error {
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		return runCalibrate(ctx, s, set.Server, operands[0], opts)
	})
}

func runCalibrate(
	ctx context.Context, s command.Streams, cfg server.Config, folder string, opts calibration,
) (err error) {
	if err := writable(opts.file, opts.html); err != nil {
		return err
	}
	if opts.tables != "" {
		if err := insert(opts.tables, "calibration", nil); err != nil {
			return err
		}
	}
	photos, err := readPhotos(s, folder, opts.groups)
	if err != nil {
		return err
	}
	// This command also opens a pack without a calibration, or with one of other networks.
	p, err := pipeline.OpenPack(cfg, pack.OpenToCalibrate)
	if err != nil {
		return err
	}
	if opts.file == "" {
		opts.file = pack.OwnCalibration(p.Dir())
		if err := writable(opts.file); err != nil {
			return err
		}
	}
	networks, err := pipeline.OpenNetworks(cfg, p, 1, nil)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := networks.Close(); err == nil {
			err = closeErr
		}
	}()
	faces, err := look(ctx, s, cfg, photos, networks)
	if err != nil {
		return err
	}
	made, err := faces.Calibrate(ctx)
	if err != nil {
		return err
	}
	made.Recogniser, made.Subjects = p.Recogniser(), opts.subjects
	if err := made.Write(opts.file); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "%s\n", opts.file)
	if opts.file == pack.OwnCalibration(p.Dir()) {
		fmt.Fprintf(s.Err, "the pack uses it from the next start of the server on; remove the file to use the "+
			"original "+
			"calibration again\n")
	}
	if err := showCalibration(s.Out, made); err != nil {
		return err
	}
	checked, err := faces.CrossCheck(ctx)
	switch {
	case errors.Is(err, evaluation.ErrTooFew):
		fmt.Fprintf(s.Err, "the calibration is not cross-checked on other people: %v\n", err)
	case err != nil:
		return err
	default:
		if err := checked.WriteText(s.Out); err != nil {
			return err
		}
	}
	if opts.html == "" && opts.tables == "" {
		return nil
	}
	result, err := faces.Measure(ctx, made)
	if err != nil {
		return err
	}
	if err := writePage(result, opts.html); err != nil || opts.tables == "" {
		return err
	}
	var b bytes.Buffer
	if err := errors.Join(calibrationTables(&b, made), result.WriteMarkdown(&b)); err != nil {
		return err
	}
	if checked != nil {
		if err := checked.WriteMarkdown(&b); err != nil {
			return err
		}
	}
	return insert(opts.tables, "calibration", b.Bytes())
}

// insert replaces the text between two marks of a document. Without a text it only checks that it can.
func insert(document, mark string, text []byte) error {
	raw, err := os.ReadFile(document)
	if err != nil {
		return fmt.Errorf("write tables: %w", err)
	}
	begin, end := "<!-- "+mark+" -->\n", "<!-- end of "+mark+" -->\n"
	before, rest, found := strings.Cut(string(raw), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return fmt.Errorf("write tables: %s has no lines %q and %q", document, strings.TrimSpace(begin),
			strings.TrimSpace(end))
	}
	if text == nil {
		return writable(document)
	}
	return os.WriteFile(document, []byte(before+begin+"\n"+string(text)+"\n"+end+after), 0o644)
}
