package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// module is a Go module that the program is built from.
type module struct {
	Path, Version, Dir, Sum string
	licences                []string // SPDX identifiers
}

// legal are the names of files whose texts licences want passed on.
var legal = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|copyright)([._-].*)?$`)

// modules returns the modules that a program was built from, sorted by path, as its build information says.
func (p *product) modules(ctx context.Context, program string) ([]module, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("read the build information of %s: %w", program, err)
	}
	args := []string{"list", "-m", "-json"}
	for _, d := range info.Deps {
		args = append(args, d.Path)
	}
	b, err := p.output(ctx, "go", args...)
	if err != nil {
		return nil, err
	}
	var all []module
	for d := json.NewDecoder(bytes.NewReader(b)); d.More(); {
		var m module
		if err := d.Decode(&m); err != nil {
			return nil, fmt.Errorf("read go list: %w", err)
		}
		texts, err := legalTexts(m.Dir)
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", m.Path, err)
		}
		for _, t := range texts {
			for _, match := range licensecheck.Scan(t.content).Match {
				if !match.IsURL && !slices.Contains(m.licences, match.ID) {
					m.licences = append(m.licences, match.ID)
				}
			}
		}
		if len(m.licences) == 0 {
			return nil, fmt.Errorf("module %s has no known licence in %s", m.Path, m.Dir)
		}
		slices.Sort(m.licences)
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

// legalTexts are the licences and notices at the top of a folder.
func legalTexts(dir string) ([]entry, error) {
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []entry
	for _, f := range found {
		if !f.Type().IsRegular() || !legal.MatchString(f.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, entry{f.Name(), 0o644, b})
	}
	return all, nil
}

// bundled are the folders of licences of what the program or its packages contain beside Go modules.
var bundled = []string{"packaging/licences", "vision/internal/photo/wasm", "console/assets/static/vendor"}

// notices are the texts of the licences of everything that a program contains.
func (p *product) notices(ctx context.Context, program string) ([]byte, error) {
	modules, err := p.modules(ctx, program)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintln(&b, "Visage contains software and networks of others (see NOTICE), under these licences.")
	part := func(title string, texts []entry) {
		for _, t := range texts {
			fmt.Fprintf(&b, "\n%s\n%s (%s)\n%[1]s\n\n%[4]s\n", strings.Repeat("=", 80), title, t.path,
				bytes.TrimSpace(bytes.ReplaceAll(t.content, []byte("\r\n"), []byte("\n"))))
		}
	}
	goroot, err := p.output(ctx, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	texts, err := legalTexts(strings.TrimSpace(string(goroot)))
	if err != nil || len(texts) == 0 {
		return nil, fmt.Errorf("no licence of Go in %s: %v", goroot, err)
	}
	part("Go "+runtime.Version(), texts)
	for _, m := range modules {
		texts, err := legalTexts(m.Dir)
		if err != nil {
			return nil, err
		}
		part(m.Path+" "+m.Version, texts)
	}
	for _, dir := range bundled {
		texts, err := legalTexts(filepath.Join(p.source, dir))
		if err != nil || len(texts) == 0 {
			return nil, fmt.Errorf("no licences in %s (has make setup run?): %v", dir, err)
		}
		part(dir, texts)
	}
	return b.Bytes(), nil
}
