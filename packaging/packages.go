package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // nfpm.Get finds it
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm" // nfpm.Get finds it
)

const (
	homepage    = "https://github.com/visage-face/visage"
	maintainer  = "The Visage Authors <visage-face@users.noreply.github.com>"
	summary     = "Face recognition service that keeps every face encrypted"
	description = summary + "\n" +
		"Visage recognises faces, keeps them encrypted under keys of its operator or of\n" +
		"customers, and speaks the Azure AI Face API. Photos are never stored."
)

// kinds are the kinds of packages, with what differs between them. The versions of libraries are the oldest ones that
// have what program and ONNX Runtime use, which a test compares.
var kinds = map[string]struct {
	depends, recommends []string
	zsh                 string // the folder of completion of zsh
}{
	"deb": {
		[]string{"libc6 (>= 2.34)", "libstdc++6 (>= 6)", "libgcc-s1 (>= 4.2)", "passwd"},
		[]string{"ca-certificates", "systemd"}, "/usr/share/zsh/vendor-completions/",
	},
	"rpm": {
		[]string{"glibc >= 2.34", "libstdc++ >= 6", "libgcc", "/usr/sbin/useradd"},
		[]string{"ca-certificates", "systemd"}, "/usr/share/zsh/site-functions/",
	},
}

// packages makes the deb and the rpm of each target.
func (p *product) packages(ctx context.Context, targets []target) error {
	for _, t := range targets {
		tree, err := p.tree(ctx, t)
		if err != nil {
			return err
		}
		dir, err := os.MkdirTemp(filepath.Join(p.out, "work"), "packages")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		for _, kind := range []string{"deb", "rpm"} {
			if err := p.packageOf(t, kind, tree, filepath.Join(dir, kind)); err != nil {
				return fmt.Errorf("make the %s for %s: %w", kind, t, err)
			}
		}
	}
	return nil
}

// packageOf makes one package. dir is for files of it; it does not exist yet.
func (p *product) packageOf(t target, kind string, tree []entry, dir string) error {
	files, err := p.contents(kind, tree, dir)
	if err != nil {
		return err
	}
	script := func(name string) string { return filepath.Join(p.source, "packaging", "scripts", name+".sh") }
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "visage", Arch: t.arch, Platform: t.os, Version: p.version, VersionSchema: "semver", Release: "1",
		Section: "net", Priority: "optional", Maintainer: maintainer, Vendor: "The Visage Authors",
		Homepage: homepage, License: "Apache-2.0", Description: description, MTime: p.time,
		Overridables: nfpm.Overridables{
			Depends: kinds[kind].depends, Recommends: kinds[kind].recommends, Contents: files, Umask: 0o022,
			Scripts: nfpm.Scripts{
				PreInstall: script("preinstall"), PostInstall: script("postinstall"),
				PreRemove: script("preremove"), PostRemove: script("postremove"),
			},
			RPM: nfpm.RPM{Summary: summary, BuildHost: "localhost", Group: "System Environment/Daemons"},
		},
	})
	if err := nfpm.PrepareForPackager(info, kind); err != nil {
		return err
	}
	packager, err := nfpm.Get(kind)
	if err != nil {
		return err
	}
	return p.write(packager.ConventionalFileName(info), func(f *os.File) error {
		return packager.Package(info, io.Writer(f))
	})
}

// contents are the files of a package, written to dir as far as they are made here.
func (p *product) contents(kind string, tree []entry, dir string) (files.Contents, error) {
	var all files.Contents
	add := func(path, source, sort string, mode os.FileMode) {
		all = append(all, &files.Content{Source: source, Destination: path, Type: sort,
			FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: p.time}})
	}
	for i, e := range tree {
		at := "/usr/" + e.path
		if name, found := strings.CutPrefix(e.path, "share/zsh/site-functions/"); found {
			at = kinds[kind].zsh + name
		}
		source := filepath.Join(dir, fmt.Sprint(i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(source, e.content, 0o644); err != nil {
			return nil, err
		}
		sort := ""
		if strings.HasPrefix(e.path, "share/doc/") && kind == "rpm" {
			sort = files.TypeRPMDoc
		}
		add(at, source, sort, e.mode)
		if e.path == "share/doc/visage/NOTICE" && kind == "deb" { // where Debian's tools look
			add("/usr/share/doc/visage/copyright", source, "", 0o644)
		}
	}
	// Folders that are listed are removed with the package.
	for _, dir := range []string{
		"/usr/lib/visage", "/usr/share/visage", "/usr/share/visage/packs", "/usr/share/visage/packs/" + pack,
		"/usr/share/doc/visage",
	} {
		add(dir, "", files.TypeDir, 0o755)
	}
	own := func(name string) string { return filepath.Join(p.source, "packaging", "files", name) }
	add("/usr/lib/systemd/system/visage.service", own("visage.service"), "", 0o644)
	add("/usr/lib/sysusers.d/visage.conf", own("visage.sysusers"), "", 0o644)
	add("/usr/lib/tmpfiles.d/visage.conf", own("visage.tmpfiles"), "", 0o644)
	add("/etc/visage/visage.yaml", own("visage.yaml"), files.TypeConfigNoReplace, 0o644)
	add("/etc/visage", "", files.TypeDir, 0o755)
	add("/etc/visage/credentials", "", files.TypeDir, 0o700)
	return all, nil
}
