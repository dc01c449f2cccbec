package main

import (
	"compress/gzip"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// archives makes an archive of each target, which can be unpacked anywhere: bin, lib and share below one folder.
func (p *product) archives(ctx context.Context, targets []target) error {
	for _, t := range targets {
		tree, err := p.tree(ctx, t)
		if err != nil {
			return err
		}
		name := "visage-" + p.version + "-" + t.String()
		if err := p.write(name+".tar.gz", func(f *os.File) error {
			z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
			if err != nil {
				return err
			}
			if err := p.tarEntries(z, name, tree); err != nil {
				return err
			}
			return z.Close()
		}); err != nil {
			return err
		}
		for _, e := range tree {
			if e.path != "share/doc/visage/visage.cdx.json" {
				continue
			}
			if err := p.writeBytes(name+".cdx.json", e.content); err != nil {
				return err
			}
		}
	}
	return nil
}

// debianVersion is the package that a file of this machine belongs to, as NAME VERSION, or "unknown": other systems
// than Debian have other answers.
func debianVersion(ctx context.Context, file string) string {
	// Packages name files where they were before /lib became a link.
	for _, name := range []string{file, strings.TrimPrefix(file, "/usr")} {
		owner, err := exec.CommandContext(ctx, "dpkg-query", "-S", filepath.Clean(name)).Output()
		if err != nil {
			continue
		}
		pkg, _, _ := strings.Cut(string(owner), ": ")
		version, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Package} ${Version}", pkg).Output()
		if err == nil {
			return string(version)
		}
	}
	return "unknown"
}
