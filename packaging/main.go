// Command packaging makes what operators install of a checkout of Visage: deb and rpm packages, a container image, and
// the archives of a release with their checksums, bill of materials and provenance. The same checkout, compiler and
// system libraries give the same bytes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

// run makes what args name.
func run(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("packaging", flag.ContinueOnError)
	source := f.String("source", ".", "the `folder` of the checkout, after make setup")
	out := f.String("out", "dist", "the `folder` to write to")
	version := f.String("version", "", "the `version` to write instead of the program's own, to test upgrades")
	arch := f.String("arch", "amd64,arm64", "the `processors` to build for, with commas between")
	key := f.String("key", "", "a PEM `file` with the private ECDSA key that signs checksums and provenance")
	builder := f.String("builder", "https://github.com/visage-face/visage/blob/main/RELEASING.md",
		"the `URI` of the builder, for the provenance")
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "usage: packaging [flags] packages|image|archives|release")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() != 1 {
		f.Usage()
		return fmt.Errorf("one of packages, image, archives and release is needed")
	}
	p, err := open(ctx, *source, *out, *version)
	if err != nil {
		return err
	}
	var linux []target
	for name := range strings.SplitSeq(*arch, ",") {
		linux = append(linux, target{"linux", name})
	}
	switch f.Arg(0) {
	case "packages":
		return p.packages(ctx, linux)
	case "image":
		return p.image(ctx, linux)
	case "archives":
		return p.archives(ctx, linux)
	case "release":
		if err := p.packages(ctx, linux); err != nil {
			return err
		}
		if err := p.image(ctx, linux); err != nil {
			return err
		}
		if err := p.archives(ctx, linux); err != nil {
			return err
		}
		return p.seal(ctx, *key, *builder)
	}
	return fmt.Errorf("%q cannot be made; packages, image, archives and release can", f.Arg(0))
}

// write makes a file of the output, as a whole or not at all.
func (p *product) write(name string, fill func(*os.File) error) (err error) {
	path := filepath.Join(p.out, name)
	f, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := fill(f); err != nil {
		f.Close()
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	fmt.Println(path)
	return nil
}

// writeBytes makes a file of the output with a content.
func (p *product) writeBytes(name string, content []byte) error {
	return p.write(name, func(f *os.File) error {
		_, err := f.Write(content)
		return err
	})
}
