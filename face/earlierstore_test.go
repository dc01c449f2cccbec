package face_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/keysource/env"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/vision"
)

// The last program without codes made the store in testdata, with the fake networks of these tests: each kind of
// collection has ann, ben and cleo, and a migration in progress for which ann has been sent. It also has detected
// faces, which have expired. This is its root key.
const (
	float32Store    = "testdata/float32.tar.gz"
	float32StoreKey = "77c7a7fbcafea415b450dfd23eea2bf573d237e2c5640c3be3c0670d8a10860d"
)

func TestAStoreMadeByAnEarlierProgramGoesOn(t *testing.T) {
	const variable = "VISAGE_TEST_ROOT"
	t.Setenv(variable, float32StoreKey)
	dir, ctx := t.TempDir(), t.Context()
	unpack(t, float32Store, dir)
	store := openStore(t, sealed.Config{
		Engine: "pebble:" + filepath.Join(dir, "data", "db"), KeyDir: filepath.Join(dir, "keys"),
		Protectors: []sealed.Protector{{Name: "test", Kind: "env", Source: env.New(variable)}},
	}, false)
	r := migratingService(t, store, nil)
	var people map[string]map[string]struct{ Who, Person, Face string } // by kind and name
	mustDo(t, json.Unmarshal(must[[]byte](t)(os.ReadFile(filepath.Join(dir, "people.json"))), &people))
	for kind := face.FaceList; kind <= face.LargePersonGroup; kind++ {
		ref, known := face.Ref{Kind: kind, ID: "g"}, people[kind.String()]
		if len(known) != 3 {
			t.Fatalf("%s: %d people", kind, len(known))
		}
		if aged, all, err := r.Aged(ctx, r.res, ref); err != nil || aged != 3 || all != 3 {
			t.Errorf("%s: %d of %d faces are written as before (%v), want 3 of 3", kind, aged, all, err)
		}
		check := func(model string, names ...string) {
			t.Helper()
			for _, name := range names {
				if got := r.found(t, ref, name+".1", model); got != known[name].Who {
					t.Errorf("%s: by %s %s is taken for %q, want %q", kind, model, name, got, known[name].Who)
				}
			}
		}
		check(oldModel, "ann", "ben", "cleo")
		check(newModel, "ann")
		if ref.Kind == face.PersonGroup || ref.Kind == face.LargePersonGroup {
			r.checkUnrecorded(t, face.PersonRef{Group: ref, ID: known["ann"].Person})
		}
		for _, name := range []string{"ben", "cleo"} {
			p := known[name]
			mustDo(
				t, r.MigrateFace(ctx, r.res, ref, p.Person, p.Face, face.Enrolment{Photo: []byte(name + ".1")}, false),
			)
		}
		mustDo(t, r.CompleteMigration(ctx, r.res, ref, false))
		check(newModel, "ann", "ben", "cleo")
	}
	r.sweepOnce(t)
}

// checkUnrecorded checks that nothing is said about the enrolment of a face from before it was recorded, also when one
// was added since, which it removes again.
func (r *service) checkUnrecorded(t *testing.T, person face.PersonRef) {
	t.Helper()
	added := r.addFace(t, person, "ann")
	d := must[face.PersonDetails](t)(r.PersonDetails(t.Context(), r.res, person))
	if len(d.Faces) != 2 || !d.Faces[0].Added.IsZero() || d.Faces[0].Quality != vision.Ungraded ||
		d.Faces[1].ID != added || d.Faces[1].Added.IsZero() || d.Faces[1].Quality != vision.High {
		t.Errorf("an earlier face and one of today: %+v", d.Faces)
	}
	mustDo(t, r.DeletePersonFace(t.Context(), r.res, person, added))
	if d = must[face.PersonDetails](t)(r.PersonDetails(t.Context(), r.res, person)); !d.Faces[0].Added.IsZero() {
		t.Errorf("an earlier face after a later one was deleted: %+v", d.Faces)
	}
}

// unpack unpacks an archive into a directory. Names must be local.
func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	f := must[*os.File](t)(os.Open(archive))
	defer f.Close()
	root := must[*os.Root](t)(os.OpenRoot(dir))
	defer root.Close()
	in := tar.NewReader(must[*gzip.Reader](t)(gzip.NewReader(f)))
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		mustDo(t, err)
		if h.FileInfo().IsDir() {
			if err := root.Mkdir(filepath.Clean(h.Name), 0o700); !errors.Is(err, fs.ErrExist) {
				mustDo(t, err)
			}
			continue
		}
		mustDo(t, root.WriteFile(h.Name, must[[]byte](t)(io.ReadAll(in)), 0o600))
	}
}
