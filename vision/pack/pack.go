// Package pack keeps model packs: folders of networks with a manifest that says how to feed them, how to read them and
// how far to trust them.
package pack

import (
	"context"
	"errors"
)

// ManifestName is the file in a pack's folder that describes it.
const ManifestName = "pack.json"

// Pack is a verified model pack on disk. It is immutable and safe for concurrent use.
type Pack struct {
	dir string
}

// Open reads the manifest in dir and verifies the SHA-256 of every file it names.
func Open(dir string) (*Pack, error) { return nil, errors.New("open model pack: not wired yet") }

// Convert turns the weight manifests of a face-api model folder into a pack at dst, which must not exist.
func Convert(ctx context.Context, src, dst string) (*Pack, error) {
	return nil, errors.New("convert models: not wired yet")
}

// Source says where a pack comes from.
type Source struct {
	// Location is an https URL, or the path of an archive (.tar.gz, .tgz, .zip) or a folder.
	Location string
	// SHA256 is the digest, in hexadecimal, of the archive; for a folder, of its manifest file. Required.
	SHA256 string
}

// Install fetches the pack at src, verifies it and puts it into the folder root under its own name.
func Install(ctx context.Context, root string, src Source) (*Pack, error) {
	return nil, errors.New("install model pack: not wired yet")
}

// Name returns the pack's name: lower-case letters, digits and dashes.
func (p *Pack) Name() string { return "" }

// Dir returns the pack's folder.
func (p *Pack) Dir() string { return p.dir }

// Dim returns the length of the pack's templates.
func (p *Pack) Dim() int { return 0 }

// Confidence maps a cosine distance (0 same … 2 opposite) to a confidence (0 … 1); see Calibration.
func (p *Pack) Confidence(distance float64) float64 { return 0 }
