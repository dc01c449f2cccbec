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

	"github.com/visage-face/visage/vision/internal/weights"
)

// Convert turns the weight manifests and shards in src, the model folder of @vladmandic/face-api, into a pack in the
// folder dst, which must not exist yet. The same weights give the same bytes on every machine.
func Convert(ctx context.Context, src, dst string) (*Pack, error) {
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

	m := defaultManifest()
	fsys := os.DirFS(src)
	for _, n := range []struct {
		manifest, file string
		build          func(weights.Set) ([]byte, error)
	}{
		{"ssd_mobilenetv1_model-weights_manifest.json", m.Detector.File, buildDetector},
		{"face_landmark_68_model-weights_manifest.json", m.Landmarks.File, buildLandmarks},
		{"face_recognition_model-weights_manifest.json", m.Recogniser.File, buildRecogniser},
	} {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		set, err := weights.Read(fsys, n.manifest)
		if err != nil {
			return nil, fmt.Errorf("convert models: %w", err)
		}
		network, err := n.build(set)
		if err != nil {
			return nil, fmt.Errorf("convert %s: %w", n.manifest, err)
		}
		if n.file == m.Detector.File {
			if m.Detector.Levels, err = anchors(set); err != nil {
				return nil, fmt.Errorf("convert %s: %w", n.manifest, err)
			}
		}
		if err := os.WriteFile(filepath.Join(tmp, n.file), network, 0o644); err != nil {
			return nil, fmt.Errorf("convert models: %w", err)
		}
		sum := sha256.Sum256(network)
		m.Files = append(m.Files, File{Name: n.file, Bytes: int64(len(network)), SHA256: hex.EncodeToString(sum[:])})
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
	return Open(dst)
}

// defaultManifest describes the networks of face-api 1.7.15, save for what is computed from their weights.
func defaultManifest() Manifest {
	faceInput := func(side int) Input {
		return Input{
			Name: "face", Width: side, Height: side, Channels: "RGB",
			Mean: [3]float64{122.782, 117.001, 104.298}, Divisor: [3]float64{255, 255, 255},
		}
	}
	return Manifest{
		Format:  formatVersion,
		Name:    "default",
		Origin:  "@vladmandic/face-api 1.7.15",
		Licence: "MIT",
		Detector: Detector{
			File: "detector.onnx", Kind: SSD, MinScore: 0.5, MaxOverlap: 0.5, Border: 0.25, BorderSide: 256,
			Input: Input{
				Name: "image", Width: detectorSize, Height: detectorSize, Channels: "RGB",
				Mean: [3]float64{127.5, 127.5, 127.5}, Divisor: [3]float64{127.5, 127.5, 127.5},
			},
		},
		Landmarks: &Landmarks{File: "landmarks.onnx", Output: "points", Input: faceInput(landmarkSize)},
		Recogniser: Recogniser{
			File: "recogniser.onnx", Output: "template", Length: 128, Input: faceInput(recogniserSize),
			Alignment: alignment,
		},
		Calibration: calibration(),
	}
}
