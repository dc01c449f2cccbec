package vision_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/pack"
)

// yuNetPack installs a pack with a YuNet detector, no landmarks, and the recogniser of the default pack, from a
// manifest and files alone.
func yuNetPack(t *testing.T, fixed bool) *pack.Pack {
	t.Helper()
	base := defaultPack(t)
	m := base.Manifest()
	files := map[string][]byte{
		"yunet.onnx":      read(t, shared(t, "models", "face_detection_yunet_2026may.onnx")),
		m.Recogniser.File: read(t, base.Path(m.Recogniser.File)),
	}
	m.Name, m.Origin, m.Licence = "yunet", "OpenCV Zoo", "MIT"
	m.Landmarks = nil
	m.Detector = pack.Detector{
		File: "yunet.onnx", Kind: pack.YuNet, MinScore: 0.7, MaxOverlap: 0.3, Border: 0.25, BorderSide: 320,
		Input: pack.Input{Name: "input", Width: 640, Height: 640, Channels: "BGR", Divisor: [3]float64{1, 1, 1}},
	}
	m.Detector.Input.Fixed, m.Recogniser.Input.Fixed = fixed, fixed
	m.Files = nil
	dir := t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		sum := sha256.Sum256(files[name])
		m.Files = append(
			m.Files, pack.File{Name: name, Bytes: int64(len(files[name])), SHA256: hex.EncodeToString(sum[:])},
		)
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	files[pack.ManifestName] = manifest
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sum := sha256.Sum256(manifest)
	p, err := pack.Install(t.Context(), t.TempDir(), pack.Source{Location: dir, SHA256: hex.EncodeToString(sum[:])})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestYuNetPack finds the same people with another detector, aligned by its own five points.
func TestYuNetPack(t *testing.T) {
	t.Run("any size", func(t *testing.T) { samePeople(t, yuNetPack(t, false)) })
	t.Run("fixed size", func(t *testing.T) { samePeople(t, yuNetPack(t, true)) })
}

func samePeople(t *testing.T, p *pack.Pack) {
	other := open(t, vision.Config{Pack: p})
	usual := open(t, vision.Config{})
	for _, name := range []string{
		"Family1-Dad1.jpg", "Family1-Mom2.jpg", "Family2-Lady1.jpg", "Family3-Man1.jpg", "identification1.jpg",
		"detection2.jpg", "detection5.jpg", "detection6.jpg", "test-image-person-group.jpg",
	} {
		file := read(t, shared(t, "faces", name))
		want, err := usual.Detect(t.Context(), file, vision.Want{Templates: true})
		if err != nil {
			t.Fatal(err)
		}
		got, err := other.Detect(t.Context(), file, vision.Want{Templates: true, Attributes: vision.Blur})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Faces) != len(want.Faces) {
			t.Errorf("%s: %d faces, the default pack finds %d", name, len(got.Faces), len(want.Faces))
		}
		for _, g := range got.Faces {
			nearest := slices.MinFunc(want.Faces, func(a, b vision.Face) int {
				return apart(a.Box, g.Box) - apart(b.Box, g.Box)
			})
			if apart(nearest.Box, g.Box) > g.Box.Width/2 || g.Attributes[vision.Blur] == nil {
				t.Errorf("%s: a face at %+v, the default pack's nearest is at %+v", name, g.Box, nearest.Box)
				continue
			}
			d := distance(g.Template, nearest.Template)
			t.Logf("%s: %+v score %.3f, template %.4f from the default pack's", name, g.Box, g.Score, d)
			if other.Confidence(d) < 0.5 {
				t.Errorf("%s: the same face's templates are %.4f apart", name, d)
			}
		}
	}
}

// apart is the distance of two boxes' middles along the axes, in pixels.
func apart(a, b vision.Box) int {
	x, y := 2*a.Left+a.Width-2*b.Left-b.Width, 2*a.Top+a.Height-2*b.Top-b.Height
	return (max(x, -x) + max(y, -y)) / 2
}

func TestPackWithoutLandmarksSaysSo(t *testing.T) {
	p := open(t, vision.Config{Pack: yuNetPack(t, false)})
	if p.Supports() != vision.Blur|vision.Exposure|vision.Noise {
		t.Errorf("supports %v", p.Supports().Names())
	}
	_, err := p.Detect(t.Context(), nil, vision.Want{Landmarks: true})
	if u, ok := errors.AsType[*vision.UnsupportedError](err); !ok || !u.Landmarks || u.Asked != 0 {
		t.Errorf("got %v", err)
	}
	_, err = p.Detect(t.Context(), nil, vision.Want{Attributes: vision.HeadPose})
	if u, ok := errors.AsType[*vision.UnsupportedError](err); !ok || u.Asked != vision.HeadPose {
		t.Errorf("got %v", err)
	}
}
