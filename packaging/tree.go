package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// entry is one file of an installation. Its path is below a prefix such as /usr.
type entry struct {
	path    string
	mode    fs.FileMode
	content []byte
}

// tree is what every form of an installation has in common, sorted by path: program, ONNX Runtime, model pack, manual
// pages, completion of command lines, and licences.
func (p *product) tree(ctx context.Context, t target) ([]entry, error) {
	program, err := p.program(ctx, t)
	if err != nil {
		return nil, err
	}
	var all []entry
	read := func(path string, mode fs.FileMode, from string) {
		b, failed := os.ReadFile(from)
		if failed != nil && err == nil {
			err = fmt.Errorf("%w (has make setup run?)", failed)
		}
		all = append(all, entry{path, mode, b})
	}
	read("bin/visage", 0o755, program)
	read("lib/visage/libonnxruntime.so.1", 0o644, p.library(t))
	weights, globbed := filepath.Glob(filepath.Join(p.source, "models", "packs", pack, "*"))
	if globbed != nil || len(weights) == 0 {
		return nil, fmt.Errorf("no model pack %s in models/packs: make setup makes it", pack)
	}
	for _, file := range weights {
		read("share/visage/packs/"+pack+"/"+filepath.Base(file), 0o644, file)
	}
	read("share/doc/visage/LICENSE", 0o644, filepath.Join(p.source, "LICENSE"))
	read("share/doc/visage/NOTICE", 0o644, filepath.Join(p.source, "NOTICE"))
	read("share/doc/visage/CHANGELOG.md", 0o644, filepath.Join(p.source, "CHANGELOG.md"))
	if err != nil {
		return nil, err
	}
	notices, err := p.notices(ctx, program)
	if err != nil {
		return nil, err
	}
	bill, err := p.bill(ctx, t, program, nil)
	if err != nil {
		return nil, err
	}
	all = append(all, entry{"share/doc/visage/THIRD-PARTY-NOTICES", 0o644, notices},
		entry{"share/doc/visage/visage.cdx.json", 0o644, bill})
	pages, err := p.manual(ctx)
	if err != nil {
		return nil, err
	}
	all = append(all, pages...)
	for shell, path := range map[string]string{
		"bash": "share/bash-completion/completions/visage",
		"zsh":  "share/zsh/site-functions/_visage",
		"fish": "share/fish/vendor_completions.d/visage.fish",
	} {
		script, err := p.output(ctx, p.host, "completion", shell)
		if err != nil {
			return nil, err
		}
		all = append(all, entry{path, 0o644, script})
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	return all, nil
}

// library is the path of the ONNX Runtime library for a target.
func (p *product) library(t target) string {
	return filepath.Join(p.source, "models", "node_modules", "onnxruntime-node", "bin", "napi-v6", libraries[t])
}

// manual is the manual pages, compressed as systems want them.
func (p *product) manual(ctx context.Context) ([]entry, error) {
	dir, err := os.MkdirTemp("", "visage-man")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if _, err := p.output(ctx, p.host, "man", dir); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("visage man has written no pages: %v", err)
	}
	var pages []entry
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		packed, err := compress(b)
		if err != nil {
			return nil, err
		}
		pages = append(pages, entry{"share/man/man1/" + filepath.Base(file) + ".gz", 0o644, packed})
	}
	return pages, nil
}

// compress is gzip without a name and a time.
func compress(b []byte) ([]byte, error) {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}
