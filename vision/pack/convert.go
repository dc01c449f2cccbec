package pack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Convert makes the pack of the given name, one of Convertible, from the packages that models/package.json pins.
// packages is the folder they are installed in (node_modules), dst that of the new pack, which must not exist yet.
// Files of the packages that are not those the pack was made for are refused with ErrDigest. The same files give the
// same bytes on every machine.
func Convert(ctx context.Context, name, packages, dst string) (*Pack, error) {
	r, err := recipeOf(name)
	if err != nil {
		return nil, fmt.Errorf("convert models: %w", err)
	}
	if _, err := os.Lstat(dst); err == nil {
		return nil, fmt.Errorf("convert models: %s exists already", dst)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("convert models: %w", err)
	}
	tmp, err := stage(filepath.Dir(dst))
	if err != nil {
		return nil, fmt.Errorf("convert models: %w", err)
	}
	defer os.RemoveAll(tmp)

	m, src := r.manifest, pinned{os.DirFS(packages)}
	for _, n := range r.networks {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		network, err := n.build(src, &m)
		if err != nil {
			return nil, fmt.Errorf("convert %s: %w", n.file, err)
		}
		if err := os.WriteFile(filepath.Join(tmp, n.file), network, 0o644); err != nil {
			return nil, fmt.Errorf("convert models: %w", err)
		}
		sum := sha256.Sum256(network)
		m.Files = append(m.Files, File{Name: n.file, Bytes: int64(len(network)), SHA256: hex.EncodeToString(sum[:])})
	}

	// A calibration of another network says nothing about this one: the pack then has to be calibrated.
	if counted := m.Calibration.Recogniser; counted != "" && counted != m.digest(m.Recogniser.File) {
		m.Calibration = Calibration{}
	}
	raw, err := m.encode()
	if err != nil {
		return nil, fmt.Errorf("convert models: write manifest: %w", err)
	}
	if err := os.WriteFile(filepath.Join(tmp, ManifestName), raw, 0o644); err != nil {
		return nil, fmt.Errorf("convert models: %w", err)
	}
	if err := publish(tmp, dst); err != nil {
		return nil, fmt.Errorf("convert models: %w", err)
	}
	return OpenToCalibrate(dst)
}
