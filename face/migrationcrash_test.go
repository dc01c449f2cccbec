package face_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// crashDir names the environment variable with the store of a process that is killed.
const crashDir = "VISAGE_MIGRATION_CRASH_DIR"

// stepWord begins the lines that such a process writes before each step.
const stepWord = "step: "

// TestAMigrationIsKilledAtEveryStep starts processes that move a group back and forth between two packs. It kills each
// before or during a step, one step after the other. The store must then be in the state before the step or after it:
// the pack that served the group recognises everybody, and the next pack everybody whose photo was sent. The next
// process continues from there.
func TestAMigrationIsKilledAtEveryStep(t *testing.T) {
	dir := t.TempDir()
	people := map[string]string{} // the person on each photo
	t.Run("create", func(t *testing.T) {
		r := migratingService(t, openStore(t, crashConfig(dir), true), nil)
		mustDo(t, r.Create(t.Context(), r.res, moving, face.Creation{Name: "g", RecognitionModel: oldModel}))
		people["ann"] = r.enrol(t, moving, "ann", "ann.1", "ann.2").ID
		people["ben"] = r.enrol(t, moving, "ben", "ben").ID
		r.trainNow(t, moving)
	})
	for _, step := range []string{"start", "add", "delete", "send", "complete", "sweep", "cancel"} {
		for n := 1; n <= 3 && !t.Failed(); n++ {
			t.Run(fmt.Sprint(step, n), func(t *testing.T) {
				killAt(t, dir, step, n)
				r := migratingService(t, openStore(t, crashConfig(dir), false), nil)
				r.SweepNow(t.Context(), r.res)
				r.checkMoving(t, people)
			})
		}
	}
}

// killAt runs a process until it announces the n-th step, and kills it.
func killAt(t *testing.T, dir, step string, n int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), must[string](t)(os.Executable()), "-test.run=^TestMovesUntilItIsKilled$")
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out := must[io.ReadCloser](t)(cmd.StdoutPipe())
	mustDo(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for n > 0 && lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), stepWord); !ok {
			complaints.WriteString(lines.Text() + "\n")
		} else if name == step {
			n--
		}
	}
	if n > 0 {
		_ = cmd.Wait()
		t.Fatalf("the process ended by itself:\n%s", complaints.String())
	}
	mustDo(t, cmd.Process.Kill())
	_ = cmd.Wait() // its error is that it was killed
}

// TestMovesUntilItIsKilled is the process that is killed.
func TestMovesUntilItIsKilled(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("is started by another test, and killed")
	}
	r := migratingService(t, openStore(t, crashConfig(dir), false), nil)
	for {
		r.moveOn(t, func(step string) { fmt.Println(stepWord + step) })
	}
}

var moving = face.Ref{Kind: face.PersonGroup, ID: "g"}

// moveOn completes a migration, from whatever step it has reached, and cancels another.
func (r *service) moveOn(t testing.TB, say func(step string)) {
	ctx := t.Context()
	for _, p := range must[[]face.Person](t)(r.Persons(ctx, r.res, moving, face.Page{})) {
		if p.Name == "ann" && len(p.FaceIDs) > 2 { // the last process was killed before it could delete it
			say("delete")
			mustDo(t, r.DeletePersonFace(ctx, r.res, face.PersonRef{Group: moving, ID: p.ID}, p.FaceIDs[2]))
		}
	}
	r.startMoving(t, say)
	names := map[string]string{}
	var ann face.PersonRef
	for _, p := range must[[]face.Person](t)(r.Persons(ctx, r.res, moving, face.Page{})) {
		if names[p.ID] = p.Name; p.Name == "ann" {
			ann = face.PersonRef{Group: moving, ID: p.ID}
		}
	}
	send := func(most int) {
		for _, missing := range must[[]face.Missing](t)(r.MissingFaces(ctx, r.res, moving, face.Page{})) {
			for _, id := range missing.FaceIDs {
				if most--; most < 0 {
					return
				}
				say("send")
				photo := face.Enrolment{Photo: []byte(names[missing.PersonID])}
				mustDo(t, r.MigrateFace(ctx, r.res, moving, missing.PersonID, id, photo, false))
			}
		}
	}
	say("add")
	added := r.addFace(t, ann, "ann.3")
	say("delete")
	mustDo(t, r.DeletePersonFace(ctx, r.res, ann, added))
	send(3)
	say("complete")
	mustDo(t, r.CompleteMigration(ctx, r.res, moving, false))
	say("sweep")
	r.SweepNow(ctx, r.res)
	r.startMoving(t, say)
	send(1)
	say("cancel")
	mustDo(t, r.CancelMigration(ctx, r.res, moving))
	say("sweep")
	r.SweepNow(ctx, r.res)
}

// startMoving begins a migration to the other model, unless one is in progress.
func (r *service) startMoving(t testing.TB, say func(step string)) {
	if _, err := r.Migration(t.Context(), r.res, moving); err == nil {
		return
	}
	to := newModel
	if must[face.Collection](t)(r.Get(t.Context(), r.res, moving)).RecognitionModel == newModel {
		to = oldModel
	}
	say("start")
	mustDo(t, r.StartMigration(t.Context(), r.res, moving, to))
}

// checkMoving checks what must be true of a group at any moment.
func (r *service) checkMoving(t *testing.T, people map[string]string) {
	t.Helper()
	ctx := t.Context()
	c := must[face.Collection](t)(r.Get(ctx, r.res, moving))
	for photo, who := range people {
		if got := r.found(t, moving, photo, c.RecognitionModel); got != who {
			t.Errorf("%s by %s is taken for %q, want %q", photo, c.RecognitionModel, got, who)
		}
	}
	if m, err := r.Migration(ctx, r.res, moving); err == nil {
		unsent := 0
		wholly := map[string]bool{} // missing with all faces that the training saw
		for _, missing := range must[[]face.Missing](t)(r.MissingFaces(ctx, r.res, moving, face.Page{})) {
			unsent += len(missing.FaceIDs)
			p := must[face.Person](t)(r.GetPerson(ctx, r.res, face.PersonRef{Group: moving, ID: missing.PersonID}))
			trained := p.FaceIDs[:min(2, len(p.FaceIDs))]
			wholly[p.ID] = !slices.ContainsFunc(trained,
				func(id string) bool { return !slices.Contains(missing.FaceIDs, id) })
		}
		if m.Sent+unsent != m.Faces {
			t.Errorf("%+v, and %d are missing", m, unsent)
		}
		for photo, who := range people {
			if wholly[who] {
				who = ""
			}
			if got := r.found(t, moving, photo, m.To); got != who {
				t.Errorf("%s by %s, the next model, is taken for %q, want %q", photo, m.To, got, who)
			}
		}
	}
	if _, _, waiting, err := r.Records(ctx, r.res, nil); err != nil || waiting != 0 {
		t.Errorf("%d containers wait to be dropped (%v), want none", waiting, err)
	}
	if _, err := r.store.Maintenance().Verify(ctx, func(f sealed.Finding) {
		t.Errorf("the store: %v",
			f.Err)
	}); err != nil {
		t.Errorf("verify the store: %v", err)
	}
}

func crashConfig(dir string) sealed.Config {
	return sealed.Config{
		Engine: "pebble:" + filepath.Join(dir, "data"), KeyDir: filepath.Join(dir, "keys"),
		Protectors: []sealed.Protector{{Name: "test", Kind: "open", Source: openSource{}}},
	}
}

// openSource is a key source without a secret, so that it opens in every process.
type openSource struct{}

var openRef = keysource.Ref{URI: "open:root", Version: "1"}

func (openSource) Wrap(_ context.Context, inner []byte) ([]byte, keysource.Ref, error) {
	return slices.Clone(inner), openRef, nil
}

func (openSource) Unwrap(_ context.Context, _ keysource.Ref, blob []byte) ([]byte, error) {
	return slices.Clone(blob), nil
}

func (openSource) Describe(context.Context, keysource.Ref) (keysource.Description, error) {
	return keysource.Description{Enabled: true}, nil
}
