package pack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// OwnCalibration returns the path of the file with an operator's own calibration of the pack in the folder dir. The
// file is beside the folder, so that the pack stays as its maker published it. Without the file, the calibration of the
// manifest applies.
func OwnCalibration(dir string) string { return filepath.Clean(dir) + ".calibration.json" }

// ReadCalibration reads the calibration in a file. Networks are compared with those of a pack when one is opened with
// it.
func ReadCalibration(path string) (*Calibration, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read calibration: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("read calibration: %w", err)
	}
	c, err := parseCalibration(raw)
	if err != nil {
		return nil, fmt.Errorf("read calibration: %s: %w", path, err)
	}
	return c, nil
}

func parseCalibration(raw []byte) (*Calibration, error) {
	if len(raw) > maxManifest {
		return nil, fmt.Errorf("it is larger than %d bytes", maxManifest)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	var c Calibration
	if err := d.Decode(&c); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the calibration")
	}
	return &c, c.check(c.Recogniser)
}

// Write writes the calibration to a file, as a whole or not at all.
func (c *Calibration) Write(path string) error {
	if err := c.write(path); err != nil {
		return fmt.Errorf("write calibration: %w", err)
	}
	return nil
}

func (c *Calibration) write(path string) error {
	if err := c.check(c.Recogniser); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".calibration-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(append(raw, '\n')); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// goByOwn replaces the calibration of the pack by the operator's own, if there is one.
func (p *Pack) goByOwn() error {
	path := OwnCalibration(p.dir)
	own, err := ReadCalibration(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && own.Recogniser == "" {
		err = errors.New("its field recogniser is missing: the SHA-256 of the network it was measured with")
	}
	if err == nil {
		err = own.check(p.manifest.digest(p.manifest.Recogniser.File))
	}
	if err != nil {
		return fmt.Errorf("the pack's own calibration, %s: %w; calibrate anew, or remove the file", path, err)
	}
	p.manifest.Calibration, p.own = *own, path
	return nil
}
