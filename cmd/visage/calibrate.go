package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/visage-face/visage/cmd/visage/internal/evaluation"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/vision/pack"
)

// calibrating is what "models calibrate" is told.
type calibrating struct {
	groups, file, subjects, html, tables string
}

func modelsCalibrateCommand() command {
	var opts calibrating
	c := command{
		name: "models calibrate", args: "FOLDER",
		summary: "Count how near strangers come on photos of your own, and let a pack's confidence go by it.",
		example: "visage models calibrate photos/ --groups groups.csv --pack mobileface",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		given := defineSettings(fs, "dir", "pack", "library", "parallel")
		defineGroups(fs, &opts.groups)
		fs.StringVar(&opts.file, "o", "",
			"file to write the calibration to (default: beside the pack, which then goes by it)")
		fs.StringVar(&opts.subjects, "subjects", "",
			"who is on the photos and who is not, in words; it is kept in the calibration")
		fs.StringVar(&opts.html, "html", "", "file to write an evaluation by the new calibration to, as a page")
		fs.StringVar(&opts.tables, "tables", "",
			"document to put the figures into, as tables, between lines <!-- calibration --> and <!-- end of "+
				"calibration -->")
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) != 1 {
				return usage(&c, "takes the folder with the photos")
			}
			set, err := given.load()
			if err != nil {
				return hintUsage(err, &c)
			}
			return runCalibrate(ctx, s, set.server, args[0], opts)
		}
	}
	return c
}

func runCalibrate(ctx context.Context, s streams, cfg server.Config, folder string, opts calibrating) (err error) {
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
	// A pack without a calibration, or with one of other networks, is what this command is for.
	p, err := openPack(cfg, pack.OpenToCalibrate)
	if err != nil {
		return err
	}
	if opts.file == "" {
		opts.file = pack.OwnCalibration(p.Dir())
		if err := writable(opts.file); err != nil {
			return err
		}
	}
	pipeline, err := openNetworks(cfg, p, 1, nil)
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
	made, err := faces.Calibrate(ctx)
	if err != nil {
		return err
	}
	made.Recogniser, made.Subjects = p.Recogniser(), opts.subjects
	if err := made.Write(opts.file); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s\n", opts.file)
	if opts.file == pack.OwnCalibration(p.Dir()) {
		fmt.Fprintf(s.err, "the pack goes by it from the next start on; remove the file to go back to the maker's\n")
	}
	if err := showCalibration(s.out, made); err != nil {
		return err
	}
	checked, err := faces.CrossCheck(ctx)
	switch {
	case errors.Is(err, evaluation.ErrTooFew):
		fmt.Fprintf(s.err, "how the calibration holds on other people is not checked: %v\n", err)
	case err != nil:
		return err
	default:
		if err := checked.WriteText(s.out); err != nil {
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

// insert replaces what is in a document between two marks. Without a text it only looks whether it can.
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
