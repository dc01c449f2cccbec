package face_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/pack"
)

// missing ends a test that lacks what it needs: a skip, but a failure where CI must have it.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s, and CI=true", what)
	}
	t.Skip(what)
}

// pipeline opens the model pack of new stores.
func pipeline(t testing.TB) *vision.Pipeline {
	t.Helper()
	models := filepath.Join("..", "models")
	dir := os.Getenv("VISAGE_MODELS")
	if dir == "" {
		dir = filepath.Join(models, "packs", "mobileface")
	}
	if _, err := os.Stat(filepath.Join(dir, pack.ManifestName)); err != nil {
		missing(t, "no model pack at "+dir+": run `make setup`")
	}
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	libraries := must[[]string](t)(filepath.Glob(filepath.Join(
		models, "node_modules", "onnxruntime-node", "bin", "napi-v6", runtime.GOOS, arch, "libonnxruntime.*")))
	if len(libraries) == 0 {
		missing(t, "no ONNX Runtime under "+models+": run `make setup`")
	}
	p := must[*vision.Pipeline](t)(vision.Open(vision.Config{
		Pack: must[*pack.Pack](t)(pack.Open(dir)), Library: libraries[0],
	}))
	t.Cleanup(func() { mustDo(t, p.Close()) })
	return p
}

// photo reads one of the shared test photos.
func photo(t testing.TB, name string) []byte {
	t.Helper()
	dir := os.Getenv("VISAGE_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared")
	}
	b, err := os.ReadFile(filepath.Join(dir, "testdata", "faces", name))
	if err != nil {
		missing(t, "no shared test photos in "+dir+": set VISAGE_SHARED")
	}
	return b
}

func TestRealFacesAreRecognised(t *testing.T) {
	model := pipeline(t)
	photo(t, "Family1-Dad1.jpg")
	res := visage.Resource{ID: visage.ResourceID{1}, Tier: visage.S0}
	s := must[*face.Service](t)(face.New(face.Config{
		Store: newStore(t), Models: map[string]face.Recogniser{"recognition_01": model, "recognition_04": model},
		Resources: func(context.Context) ([]visage.ResourceID, error) { return nil, nil },
	}))
	t.Cleanup(s.Close)
	ctx, group := t.Context(), face.Ref{Kind: face.PersonGroup, ID: "family"}
	mustDo(t, s.Create(ctx, res, group, face.Creation{Name: "Family", RecognitionModel: "recognition_04"}))

	enrolled := map[string][]string{
		"Dad": {"Family1-Dad1.jpg", "Family1-Dad2.jpg"}, "Mom": {"Family1-Mom1.jpg"},
		"Daughter": {"Family1-Daughter1.jpg", "Family1-Daughter2.jpg"}, "Son": {"Family1-Son1.jpg"},
	}
	names := make(map[string]string)
	for name, photos := range enrolled {
		p := face.PersonRef{Group: group, ID: must[string](t)(s.CreatePerson(ctx, res, group, name, nil))}
		names[p.ID] = name
		for _, file := range photos {
			must[string](t)(s.AddPersonFace(ctx, res, p, face.Enrolment{Photo: photo(t, file)}))
		}
	}
	mustDo(t, s.Train(ctx, res, group))
	s.TrainNow(ctx, res)

	detect := func(file string) []face.Face {
		return must[[]face.Face](t)(s.Detect(ctx, res, photo(t, file), face.DetectQuery{
			ReturnFaceID: true, ReturnLandmarks: true, RecognitionModel: "recognition_04",
			Attributes: []string{"headPose", "blur", "exposure", "noise", "qualityForRecognition"},
		}))
	}
	for file, want := range map[string]string{
		"Family1-Dad3.jpg": "Dad", "Family1-Mom2.jpg": "Mom", "Family1-Daughter3.jpg": "Daughter",
		"Family1-Son2.jpg": "Son", "Family3-Man1.jpg": "", "Family2-Lady1.jpg": "",
	} {
		found := detect(file)
		if len(found) != 1 {
			t.Errorf("%s: %d faces", file, len(found))
			continue
		}
		if f := found[0]; f.Landmarks == nil ||
			f.Attributes[vision.HeadPose] == nil || f.Attributes[vision.Quality] == nil {
			t.Errorf("%s: %+v lacks what was asked for", file, f)
		}
		got := must[[]face.Identified](t)(s.Identify(ctx, res, face.IdentifyQuery{
			FaceIDs: []string{found[0].ID}, PersonGroupID: "family", MaxCandidates: 1,
		}))[0].Candidates
		name := ""
		if len(got) > 0 {
			name = names[got[0].PersonID]
			t.Logf("%s: %s, confidence %.5f", file, name, got[0].Confidence)
		}
		if name != want {
			t.Errorf("%s is taken for %q, want %q", file, name, want)
		}
	}

	several := photo(t, "identification1.jpg")
	list := face.Ref{Kind: face.FaceList, ID: "l"}
	mustDo(t, s.Create(ctx, res, list, face.Creation{Name: "l", RecognitionModel: "recognition_04"}))
	_, err := s.AddFace(ctx, res, list, face.Enrolment{Photo: several})
	wantRefusal(t, err, visage.Invalid, "InvalidImage")
	second := detect("identification1.jpg")[1]
	added := must[string](t)(s.AddFace(ctx, res, list, face.Enrolment{Photo: several, TargetFace: &second.Box}))
	got := must[[]face.Similar](t)(s.FindSimilar(ctx, res, face.SimilarQuery{FaceID: second.ID, FaceListID: "l"}))
	if len(got) != 1 || got[0].PersistedFaceID != added || got[0].Confidence < 0.99 {
		t.Errorf("the face under targetFace: %+v", got)
	}
	_, err = s.AddFace(ctx, res, list, face.Enrolment{Photo: []byte("no photo")})
	wantRefusal(t, err, visage.Invalid, "InvalidImageSize")
	_, err = s.AddFace(ctx, res, list, face.Enrolment{Photo: bytes.Repeat([]byte("no photo"), 1000)})
	wantRefusal(t, err, visage.Invalid, "InvalidImage")
}
