// Package pack keeps model packs: folders of networks with a manifest that describes their inputs, their outputs and
// how reliable they are.
package pack

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Pack is a model pack on disk whose files are those of its manifest. It is immutable and safe for concurrent use.
type Pack struct {
	dir      string
	manifest Manifest
	own      string // the file of the operator's own calibration, if it applies
}

// ErrUncalibrated says that the distances of a pack have not been calibrated.
var ErrUncalibrated = errors.New("the pack has no calibration, so that no distance of its templates means anything; " +
	"`visage models calibrate` makes one from photos of people whose names are known")

// Open reads the manifest in the folder dir and verifies the length and SHA-256 of every file that it names. If an
// operator has calibrated the pack, that calibration applies; see OwnCalibration. A pack without any calibration is
// ErrUncalibrated.
func Open(dir string) (*Pack, error) {
	p, err := OpenToCalibrate(dir)
	if err != nil {
		return nil, err
	}
	if err := p.goByOwn(); err != nil {
		return nil, fmt.Errorf("open model pack %s: %w", p.Name(), err)
	}
	if !p.Calibrated() {
		return nil, fmt.Errorf("open model pack %s: %w", p.Name(), ErrUncalibrated)
	}
	return p, nil
}

// OpenToCalibrate is Open for a pack that has to be calibrated. It ignores a calibration of the operator, and accepts a
// pack without any: its confidences are then 0.
func OpenToCalibrate(dir string) (*Pack, error) {
	raw, err := readManifest(dir)
	if err != nil {
		return nil, fmt.Errorf("open model pack: %w", err)
	}
	m, err := parseManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("open model pack: %s: %w", filepath.Join(dir, ManifestName), err)
	}
	for _, f := range m.Files {
		if err := verify(filepath.Join(dir, f.Name), f); err != nil {
			return nil, fmt.Errorf("open model pack %s: %w", m.Name, err)
		}
	}
	return &Pack{dir: dir, manifest: *m}, nil
}

// Name returns the pack's name.
func (p *Pack) Name() string { return p.manifest.Name }

// Dir returns the pack's folder.
func (p *Pack) Dir() string { return p.dir }

// Dim returns the length of the pack's templates.
func (p *Pack) Dim() int { return p.manifest.Recogniser.Length }

// Manifest returns the pack's description. The caller must not change what it points to.
func (p *Pack) Manifest() Manifest { return p.manifest }

// Recogniser returns the SHA-256 of the network that makes templates, in lower-case hexadecimal.
func (p *Pack) Recogniser() string { return p.manifest.digest(p.manifest.Recogniser.File) }

// Own returns the path of the operator's own calibration if it applies; empty when that of the manifest does.
func (p *Pack) Own() string { return p.own }

// Calibrated reports whether the pack has a calibration; Open returns no other pack.
func (p *Pack) Calibrated() bool { return !p.manifest.Calibration.empty() }

// Path returns the path of one of the pack's files.
func (p *Pack) Path(file string) string { return filepath.Join(p.dir, file) }

// Confidence maps a cosine distance (0 same … 2 opposite) to a confidence (0 … 1); see Calibration.
func (p *Pack) Confidence(distance float64) float64 {
	return p.manifest.Calibration.Confidence(distance)
}

// Calibration returns the calibration that confidences go by. It must not be changed.
func (p *Pack) Calibration() *Calibration { return &p.manifest.Calibration }

// Threshold returns the least confidence for a match in a group of that many faces; see Calibration.
func (p *Pack) Threshold(faces int) float64 { return p.manifest.Calibration.Threshold(faces) }

func readManifest(dir string) ([]byte, error) {
	f, err := os.Open(filepath.Join(dir, ManifestName))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxManifest+1))
}

// verify compares a file with its entry in the manifest.
func verify(path string, want File) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if info.Size() != want.Bytes {
		return fmt.Errorf("%s has %d bytes, the manifest says %d", path, info.Size(), want.Bytes)
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want.SHA256 {
		return fmt.Errorf("%s: %w: it is %s, the manifest says %s", path, ErrDigest, got, want.SHA256)
	}
	return nil
}

// ErrDigest says that bytes do not have the promised SHA-256.
var ErrDigest = errors.New("the SHA-256 does not match")
