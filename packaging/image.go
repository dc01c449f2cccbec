package main

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user is the user of the image, which Kubernetes knows not to be root by its number.
const user = 65532

// loaders are the programs that load shared libraries, where the program's header says.
var loaders = map[string]string{"amd64": "lib64/ld-linux-x86-64.so.2", "arm64": "lib/ld-linux-aarch64.so.1"}

// certificates are those of the authorities that Debian's ca-certificates trusts. Its bundle in /etc also holds those
// that were added on this machine.
const certificates = "/usr/share/ca-certificates/mozilla/*.crt"

// image writes the image for all targets, with a list of them, as an archive of the layout of OCI.
func (p *product) image(ctx context.Context, targets []target) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, t := range targets {
		img, err := p.imageOf(ctx, t)
		if err != nil {
			return fmt.Errorf("make the image for %s: %w", t, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: t.os, Architecture: t.arch},
		}})
	}
	annotated, ok := mutate.Annotations(index, p.labels("")).(v1.ImageIndex)
	if !ok {
		return errors.New("an annotated list of images is no list of images")
	}
	// The tag is for programs that read layouts; "+" is not allowed in one.
	tag := strings.ReplaceAll(p.version, "+", "-")
	dir := filepath.Join(p.out, "work", "image")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	at, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if err := at.AppendIndex(annotated, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": tag,
	})); err != nil {
		return err
	}
	return p.write("visage-"+p.version+".oci.tar", func(f *os.File) error { return p.tarOf(f, dir) })
}

// imageOf is the image for one target: system libraries, what rarely changes, and the program, a layer each.
func (p *product) imageOf(ctx context.Context, t target) (v1.Image, error) {
	tree, err := p.tree(ctx, t)
	if err != nil {
		return nil, err
	}
	base, parts, err := p.base(ctx, t)
	if err != nil {
		return nil, err
	}
	var rare, own []entry
	for _, e := range tree {
		e.path = "usr/" + e.path
		switch {
		case strings.Contains(e.path, "/man/"), strings.Contains(e.path, "completion"), strings.Contains(e.path, "zsh"):
			// nobody has a shell here
		case e.path == "usr/share/doc/visage/visage.cdx.json":
			if e.content, err = p.bill(ctx, t, p.built[t], parts); err != nil {
				return nil, err
			}
			own = append(own, e)
		case strings.HasPrefix(e.path, "usr/lib/"), strings.HasPrefix(e.path, "usr/share/visage/"):
			rare = append(rare, e)
		default:
			own = append(own, e)
		}
	}
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	for _, files := range [][]entry{base, rare, own} {
		layer, err := p.layer(files)
		if err != nil {
			return nil, err
		}
		if img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{
			Created: v1.Time{Time: p.time}, CreatedBy: "visage packaging",
		}}); err != nil {
			return nil, err
		}
	}
	commit, err := revision(p.built[t])
	if err != nil {
		return nil, err
	}
	return p.configured(img, t, commit)
}

// configured says how the image is run.
func (p *product) configured(img v1.Image, t target, commit string) (v1.Image, error) {
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.Created, cfg.OS, cfg.Architecture = v1.Time{Time: p.time}, t.os, t.arch
	cfg.Config = v1.Config{
		User:       fmt.Sprintf("%d:%[1]d", user),
		Entrypoint: []string{"/usr/bin/visage"},
		Cmd:        []string{"serve"},
		Env: []string{
			"PATH=/usr/bin", "HOME=/var/lib/visage", "VISAGE_DIR=/var/lib/visage", "VISAGE_LISTEN=0.0.0.0:8443",
		},
		ExposedPorts: map[string]struct{}{"8443/tcp": {}},
		Volumes:      map[string]struct{}{"/var/lib/visage": {}},
		WorkingDir:   "/var/lib/visage",
		StopSignal:   "SIGTERM",
		Labels:       p.labels(commit),
		// The format of OCI does not have it; Docker and Podman read it all the same.
		Healthcheck: &v1.HealthConfig{
			Test: []string{"CMD", "/usr/bin/visage", "health"}, Interval: 30 * time.Second, Timeout: 15 * time.Second,
			StartPeriod: 2 * time.Minute, Retries: 3,
		},
	}
	return mutate.ConfigFile(img, cfg)
}

// labels say what an image is, in the names of OCI.
func (p *product) labels(commit string) map[string]string {
	l := map[string]string{
		"org.opencontainers.image.title":       "Visage",
		"org.opencontainers.image.description": summary,
		"org.opencontainers.image.version":     p.version,
		"org.opencontainers.image.created":     p.time.Format(time.RFC3339),
		"org.opencontainers.image.source":      homepage,
		"org.opencontainers.image.licenses":    "Apache-2.0",
	}
	if commit != "" {
		l["org.opencontainers.image.revision"] = commit
	}
	return l
}

// base is the part of the system that the program needs: the C and C++ libraries of the compiler that built it, the
// certificates of public authorities, and the names of users. parts are the same for the bill of materials.
func (p *product) base(ctx context.Context, t target) (all []entry, parts []cdx.Component, err error) {
	names, err := needed(p.built[t], p.library(t))
	if err != nil {
		return nil, nil, err
	}
	done := map[string]bool{}
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		if done[name] {
			continue
		}
		done[name] = true
		said, err := p.output(ctx, compiler(t.arch), "-print-file-name="+name)
		if err != nil {
			return nil, nil, err
		}
		file, err := filepath.EvalSymlinks(strings.TrimSpace(string(said)))
		if err != nil || !filepath.IsAbs(file) {
			return nil, nil, fmt.Errorf("the compiler for %s lacks %s: install its libstdc++6: %w", t, name, err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, err
		}
		at := "lib/" + name
		if strings.HasPrefix(name, "ld-linux") {
			at = loaders[t.arch]
		}
		all = append(all, entry{at, 0o755, b})
		of, err := fileComponents(file)
		if err != nil {
			return nil, nil, err
		}
		licence := "LGPL-2.1-or-later" // of glibc
		if strings.HasPrefix(name, "libstdc++") || strings.HasPrefix(name, "libgcc_s") {
			licence = "GPL-3.0-or-later WITH GCC-exception-3.1"
		}
		parts = append(parts, cdx.Component{
			BOMRef: name, Type: cdx.ComponentTypeLibrary, Name: name, Version: debianVersion(ctx, file), Components: of,
			Licenses: licences(licence),
		})
		further, err := needed(file)
		if err != nil {
			return nil, nil, err
		}
		names = append(names, further...)
	}
	slices.SortFunc(parts, func(a, b cdx.Component) int { return strings.Compare(a.Name, b.Name) })
	trusted, err := authorities()
	if err != nil {
		return nil, nil, err
	}
	return append(all,
		entry{"etc/ssl/certs/ca-certificates.crt", 0o644, trusted},
		entry{"etc/passwd", 0o644, fmt.Appendf(nil, "root:x:0:0:root:/:/nonexistent\n"+
			"visage:x:%d:%[1]d:visage:/var/lib/visage:/nonexistent\n", user)},
		entry{"etc/group", 0o644, fmt.Appendf(nil, "root:x:0:\nvisage:x:%d:\n", user)},
		entry{"etc/nsswitch.conf", 0o644, []byte("passwd: files\ngroup: files\nhosts: files dns\n")},
	), parts, nil
}

// needed are the libraries that programs and libraries name.
func needed(paths ...string) ([]string, error) {
	var all []string
	for _, path := range paths {
		f, err := elf.Open(path)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		defer f.Close() // read only: nothing can be lost
		names, err := f.ImportedLibraries()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		all = append(all, names...)
		for _, s := range f.Progs {
			if s.Type == elf.PT_INTERP {
				b, err := io.ReadAll(s.Open())
				if err != nil {
					return nil, fmt.Errorf("read %s: %w", path, err)
				}
				all = append(all, filepath.Base(string(bytes.TrimRight(b, "\x00"))))
			}
		}
	}
	return all, nil
}

// authorities are certificates in one file, sorted by name.
func authorities() ([]byte, error) {
	files, err := filepath.Glob(certificates)
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no certificates in %s: install the package ca-certificates", certificates)
	}
	var b bytes.Buffer
	for _, file := range files {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		b.Write(bytes.TrimSpace(pem))
		b.WriteByte('\n')
	}
	return b.Bytes(), nil
}

// layer is a layer with files, and the folders that they are in.
func (p *product) layer(all []entry) (v1.Layer, error) {
	var b bytes.Buffer
	if err := p.tarEntries(&b, "", withFolders(all)); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
}

// withFolders adds the folders of files, those of the user with mode 0700, and sorts all.
func withFolders(all []entry) []entry {
	folders := map[string]bool{"var/lib/visage": true, "tmp": true}
	for _, e := range all {
		for dir := path.Dir(e.path); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	folders["var"], folders["var/lib"] = true, true
	out := slices.Clone(all)
	for dir := range folders {
		mode := fs.ModeDir | 0o755
		switch dir {
		case "var/lib/visage":
			mode = fs.ModeDir | 0o700
		case "tmp":
			mode = fs.ModeDir | fs.ModeSticky | 0o777
		}
		out = append(out, entry{path: dir, mode: mode})
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	return out
}

// tarEntries writes entries below a folder, with nothing of this machine: root owns all but the folder of the service's
// user, at the time of the checkout.
func (p *product) tarEntries(w io.Writer, below string, all []entry) error {
	t := tar.NewWriter(w)
	for _, e := range all {
		h := &tar.Header{Name: path.Join(below, e.path), Mode: int64(e.mode.Perm()), Size: int64(len(e.content)),
			ModTime: p.time, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if e.mode.IsDir() {
			h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		}
		if e.mode&fs.ModeSticky != 0 {
			h.Mode |= 0o1000
		}
		if e.path == "var/lib/visage" {
			h.Uid, h.Gid = user, user
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(e.content); err != nil {
			return err
		}
	}
	return t.Close()
}

// tarOf writes a folder.
func (p *product) tarOf(w io.Writer, dir string) error {
	var all []entry
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		at, err := filepath.Rel(dir, name)
		all = append(all, entry{filepath.ToSlash(at), 0o644, b})
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	return p.tarEntries(w, "", all)
}
