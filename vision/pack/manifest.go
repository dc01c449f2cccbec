package pack

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
)

// ManifestName is the file in a pack's folder that describes it.
const ManifestName = "pack.json"

// formatVersion is the version of the manifest that this program writes; it reads oldestFormat too.
const (
	formatVersion = 2
	oldestFormat  = 1
)

// Limits of a manifest.
const (
	maxManifest  = 1 << 20
	maxFiles     = 16
	maxFileBytes = 512 << 20
	minSide      = 12
	maxSide      = 2048
	maxLength    = 4096
)

// Manifest describes a model pack: its networks, their inputs and outputs, and how reliable they are. See
// docs/formats/model-pack.md.
type Manifest struct {
	// Format is the version of the layout of the manifest.
	Format int `json:"format"`
	// Name is the name of the pack: lower-case letters, digits and dashes.
	Name string `json:"name"`
	// Origin names the source of the networks, Licence their terms (an SPDX expression).
	Origin  string `json:"origin"`
	Licence string `json:"licence"`
	// Files lists every file of the pack but the manifest.
	Files []File `json:"files"`
	// Detector finds faces.
	Detector Detector `json:"detector"`
	// Landmarks finds 68 points on a face; nil when the pack has no such network.
	Landmarks *Landmarks `json:"landmarks,omitempty"`
	// Recogniser turns a face into a template.
	Recogniser Recogniser `json:"recogniser"`
	// Wear are networks that see what faces wear; a pack may have none.
	Wear []Wear `json:"wear,omitempty"`
	// Calibration says how often strangers are as near as a given distance.
	Calibration Calibration `json:"calibration"`
	// Quality is the rule for the quality of a face. Without it, the grades depend on size, pose, blur, noise and
	// exposure alone, and a template is made of every face.
	Quality *Quality `json:"quality,omitempty"`
}

// File is one file of a pack.
type File struct {
	// Name is a plain file name.
	Name string `json:"name"`
	// Bytes is the file's length, SHA256 its digest in lower-case hexadecimal.
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Input says how a picture becomes a network's input tensor (1, 3, height, width).
type Input struct {
	// Name is that of the network's input.
	Name string `json:"name"`
	// Width and Height are in pixels. Of a detector that is not Fixed, Width is the longer side.
	Width  int `json:"width"`
	Height int `json:"height"`
	// Fixed says that the network takes exactly one picture of exactly this size at a time.
	Fixed bool `json:"fixed,omitempty"`
	// Channels is their order, "RGB" or "BGR".
	Channels string `json:"channels"`
	// A channel's value v, from 0 to 255, becomes (v - Mean) / Divisor. Both are in the order of Channels.
	Mean    [3]float64 `json:"mean"`
	Divisor [3]float64 `json:"divisor"`
}

// DetectorKind names a way to read a detector's output.
type DetectorKind string

// The kinds of detector.
const (
	// SSD: outputs "boxes" (offsets from anchors) and "scores", as SSD MobileNet v1 gives them.
	SSD DetectorKind = "ssd"
	// YuNet: outputs cls_s, obj_s, bbox_s and kps_s for strides s of 8, 16 and 32; boxes and five points.
	YuNet DetectorKind = "yunet"
	// MTCNN: three networks in a cascade. File is the first, which sees the whole picture at many sizes; Stages are the
	// others. Outputs "scores" (no face, face), "boxes" (four offsets in parts of the box) and, of the last, "points"
	// (five x, then five y, in parts of the box).
	MTCNN DetectorKind = "mtcnn"
)

// Detector describes the network that finds faces.
type Detector struct {
	File  string       `json:"file"`
	Kind  DetectorKind `json:"kind"`
	Input Input        `json:"input"`
	// MinScore is the least score of a face, MaxOverlap the largest intersection over union of two faces.
	MinScore   float64 `json:"minScore"`
	MaxOverlap float64 `json:"maxOverlap"`
	// Border is how much the canvas of a second look is larger on each side, as a fraction of the width of the picture,
	// because detectors miss faces that fill the frame. 0: no second look.
	Border float64 `json:"border,omitempty"`
	// BorderSide is the longest side of the second look's input in pixels; the faces it is for are large.
	BorderSide int `json:"borderSide,omitempty"`
	// Levels are the anchors of an SSD detector, finest grid first.
	Levels []Level `json:"levels,omitempty"`
	// Stages are the second and the third network of an MTCNN detector.
	Stages []Stage `json:"stages,omitempty"`
}

// Stage is a later network of a cascade, which runs on the boxes that the one before it kept.
type Stage struct {
	File  string `json:"file"`
	Input Input  `json:"input"`
	// MinScore is the least score of a box that is kept; that of the last stage is the least score of a face.
	MinScore float64 `json:"minScore"`
}

// Level is one grid of an SSD detector.
type Level struct {
	// Stride is the distance of two cells in pixels of the input.
	Stride int `json:"stride"`
	// Sizes are the height and width of the anchors in each cell, in pixels of the input.
	Sizes [][2]float64 `json:"sizes"`
}

// Landmarks describes the network that finds 68 points, in the order of the 300-W annotation.
type Landmarks struct {
	File string `json:"file"`
	// Output names the tensor with x and y in turn, from 0 to 1 over the input.
	Output string `json:"output"`
	Input  Input  `json:"input"`
}

// Recogniser describes the network that makes templates.
type Recogniser struct {
	File string `json:"file"`
	// Output names the tensor with the template, Length is how many numbers it has.
	Output string `json:"output"`
	Length int    `json:"length"`
	Input  Input  `json:"input"`
	// Alignment is where five points of a face are in the input, in pixels: left eye, right eye, tip of the nose, left
	// and right corner of the mouth (left in the picture). A face is turned, scaled and moved to fit.
	Alignment [5][2]float64 `json:"alignment"`
}

// parseManifest reads a manifest strictly: it refuses unknown fields.
func parseManifest(raw []byte) (*Manifest, error) {
	if len(raw) > maxManifest {
		return nil, fmt.Errorf("the manifest is larger than %d bytes", maxManifest)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	var m Manifest
	if err := d.Decode(&m); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the manifest")
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return &m, nil
}

// encode returns the bytes of the manifest, equal for equal manifests.
func (m *Manifest) encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(raw, '\n'), nil
}

var (
	packName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)
	fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,126}$`)
)

func (m *Manifest) check() error {
	if m.Format < oldestFormat || m.Format > formatVersion {
		return fmt.Errorf("format %d is not supported; this program reads formats %d to %d",
			m.Format, oldestFormat, formatVersion)
	}
	if !packName.MatchString(m.Name) {
		return fmt.Errorf("name %q is not made of lower-case letters, digits and dashes", m.Name)
	}
	if m.Licence == "" {
		return errors.New("licence is missing")
	}
	files, err := m.checkFiles()
	if err != nil {
		return err
	}
	if err := m.Detector.check(files); err != nil {
		return fmt.Errorf("detector: %w", err)
	}
	if l := m.Landmarks; l != nil {
		if err := checkNetwork(files, l.File, l.Output, l.Input); err != nil {
			return fmt.Errorf("landmarks: %w", err)
		}
	} else if m.Detector.Kind == SSD {
		return errors.New("landmarks: missing, and a detector of kind ssd gives no points to align faces by")
	}
	if err := m.Recogniser.check(files); err != nil {
		return fmt.Errorf("recogniser: %w", err)
	}
	if err := checkWear(files, m.Wear); err != nil {
		return fmt.Errorf("wear: %w", err)
	}
	if q := m.Quality; q != nil {
		if m.Landmarks == nil {
			return errors.New("quality: the pack has no landmarks to tell it by")
		}
		if err := q.check(m.Recogniser.Length); err != nil {
			return fmt.Errorf("quality: %w", err)
		}
	}
	if m.Calibration.empty() {
		return nil // to be calibrated; Open refuses it until then
	}
	if err := m.Calibration.check(m.digest(m.Recogniser.File)); err != nil {
		return fmt.Errorf("calibration: %w", err)
	}
	return nil
}

// digest returns the SHA-256 that the manifest gives for one of its files.
func (m *Manifest) digest(file string) string {
	for _, f := range m.Files {
		if f.Name == file {
			return f.SHA256
		}
	}
	return ""
}

func (m *Manifest) checkFiles() (map[string]bool, error) {
	if len(m.Files) == 0 || len(m.Files) > maxFiles {
		return nil, fmt.Errorf("files: want 1 to %d, have %d", maxFiles, len(m.Files))
	}
	files := map[string]bool{}
	for _, f := range m.Files {
		sum, err := hex.DecodeString(f.SHA256)
		switch {
		case !fileName.MatchString(f.Name) || f.Name == ManifestName:
			return nil, fmt.Errorf("files: %q is not a plain file name", f.Name)
		case files[f.Name]:
			return nil, fmt.Errorf("files: %s is listed twice", f.Name)
		case err != nil || len(sum) != 32:
			return nil, fmt.Errorf("files: %s: sha256 is not 64 hexadecimal digits", f.Name)
		case f.Bytes < 1 || f.Bytes > maxFileBytes:
			return nil, fmt.Errorf("files: %s: bytes is not between 1 and %d", f.Name, maxFileBytes)
		}
		files[f.Name] = true
	}
	return files, nil
}

func (d *Detector) check(files map[string]bool) error {
	if err := checkNetwork(files, d.File, "boxes", d.Input); err != nil {
		return err
	}
	switch {
	case d.Kind != SSD && d.Kind != YuNet && d.Kind != MTCNN:
		return fmt.Errorf("kind %q is not known; known are %q, %q and %q", d.Kind, SSD, YuNet, MTCNN)
	case !(d.MinScore > 0 && d.MinScore < 1):
		return errors.New("minScore is not between 0 and 1")
	case !(d.MaxOverlap > 0 && d.MaxOverlap < 1):
		return errors.New("maxOverlap is not between 0 and 1")
	case !(d.Border >= 0 && d.Border <= 1):
		return errors.New("border is not between 0 and 1")
	case d.Border > 0 && (d.BorderSide < 32 || d.BorderSide > maxSide):
		return fmt.Errorf("borderSide is not between 32 and %d", maxSide)
	case d.Kind == SSD && len(d.Levels) == 0:
		return errors.New("levels are missing")
	case d.Kind != SSD && len(d.Levels) != 0:
		return fmt.Errorf("levels belong to kind %q", SSD)
	case d.Kind != MTCNN && len(d.Stages) != 0:
		return fmt.Errorf("stages belong to kind %q", MTCNN)
	case d.Kind == MTCNN && len(d.Stages) != 2:
		return errors.New("stages: a detector of kind mtcnn has two beside its first network")
	case d.Kind == MTCNN && d.Border != 0:
		return errors.New("border: a detector of kind mtcnn has one of its own")
	case d.Kind == MTCNN && d.Input.Fixed:
		return errors.New("input: fixed, and a detector of kind mtcnn sees pictures of all sizes")
	}
	for i, s := range d.Stages {
		if err := checkNetwork(files, s.File, "scores", s.Input); err != nil {
			return fmt.Errorf("stage %d: %w", i+2, err)
		}
		if s.Input.Fixed {
			return fmt.Errorf("stage %d: input: fixed, and a detector of kind mtcnn sees many boxes at a time", i+2)
		}
		if !(s.MinScore > 0 && s.MinScore < 1) {
			return fmt.Errorf("stage %d: minScore is not between 0 and 1", i+2)
		}
	}
	for i, l := range d.Levels {
		if l.Stride < 1 || l.Stride > maxSide || len(l.Sizes) == 0 || len(l.Sizes) > 64 {
			return fmt.Errorf("level %d is out of bounds", i)
		}
		for _, s := range l.Sizes {
			if !(s[0] > 0 && s[0] < 4*maxSide) || !(s[1] > 0 && s[1] < 4*maxSide) {
				return fmt.Errorf("level %d: size %v is out of bounds", i, s)
			}
		}
	}
	return nil
}

func (r *Recogniser) check(files map[string]bool) error {
	if err := checkNetwork(files, r.File, r.Output, r.Input); err != nil {
		return err
	}
	if r.Length < 1 || r.Length > maxLength {
		return fmt.Errorf("length is not between 1 and %d", maxLength)
	}
	return checkAlignment(r.Alignment)
}

func checkAlignment(points [5][2]float64) error {
	for _, p := range points {
		if !finite(p[:]...) || math.Abs(p[0]) > 4*maxSide || math.Abs(p[1]) > 4*maxSide {
			return fmt.Errorf("alignment point %v is out of bounds", p)
		}
	}
	if points[0][0] >= points[1][0] {
		return errors.New("alignment: the left eye is not left of the right one")
	}
	return nil
}

func checkNetwork(files map[string]bool, file, output string, in Input) error {
	switch {
	case !files[file]:
		return fmt.Errorf("file %q is not among the pack's files", file)
	case output == "" || in.Name == "":
		return errors.New("the name of the input or output is missing")
	case in.Width < minSide || in.Width > maxSide || in.Height < minSide || in.Height > maxSide:
		return fmt.Errorf("input: width or height is not between %d and %d", minSide, maxSide)
	case in.Channels != "RGB" && in.Channels != "BGR":
		return fmt.Errorf("input: channels %q is not RGB or BGR", in.Channels)
	case !finite(in.Mean[:]...) || !finite(in.Divisor[:]...):
		return errors.New("input: mean or divisor is not finite")
	case in.Divisor[0] == 0 || in.Divisor[1] == 0 || in.Divisor[2] == 0:
		return errors.New("input: divisor is 0")
	}
	return nil
}

func finite(xs ...float64) bool {
	for _, x := range xs {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return false
		}
	}
	return true
}
