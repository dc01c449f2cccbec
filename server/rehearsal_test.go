package server_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/drill"
	"github.com/visage-face/visage/server/servertest"
)

// TestRehearse rehearses a revocation from within the server: one at a time, step by step, and without a trace on disk
// or on the server, also when it is ended in the middle.
func TestRehearse(t *testing.T) {
	w := &inspector{realm{servertest.Start(t, server.Config{}), t}, jwkOf(t, 2048), 0}
	folder := filepath.Join(w.Dir(), "rehearsal")
	gone := func() {
		t.Helper()
		if _, err := os.Lstat(folder); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the folder of the rehearsal is left: %v", err)
		}
	}
	name, p := w.set(scenario{})
	if _, err := w.Rehearse(t.Context(), w.operator(), name, nil); codeOf(err) != "CustomerManagedKeyNotEnabled" {
		t.Errorf("a resource under the service's key: %v", err)
	}
	if _, err := w.Rehearse(t.Context(), w.operator(), "none", nil); codeOf(err) != "ResourceNotFound" {
		t.Errorf("a resource that does not exist: %v", err)
	}
	w.must(w.update(name, w.operator(), p))
	a, err := w.Accounts().Get(t.Context(), name)
	w.must(err)
	w.until(a, func(s custody.Status) bool { return s.Condition == custody.Active })

	w.must(os.MkdirAll(filepath.Join(folder, "copy", "data"), 0o700)) // a crash has left it
	w.must(os.WriteFile(filepath.Join(folder, "copy", "data", "x"), []byte("x"), 0o600))
	var steps []drill.Step
	report, err := w.Rehearse(t.Context(), w.operator(), name, func(s drill.Step) {
		if steps = append(steps, s); s != drill.StepStart {
			return
		}
		if _, err := w.Rehearse(t.Context(), w.operator(), name, nil); codeOf(err) != "RequestConflict" {
			t.Errorf("a second rehearsal: %v", err)
		}
	})
	w.must(err)
	if !report.Passed || len(report.Checks) < 6 || report.Rows == 0 || report.Key == "" {
		t.Errorf("%+v", report)
	}
	if !slices.Equal(steps, rehearsed) {
		t.Errorf("the steps are %q", steps)
	}
	gone()
	if s, err := w.Custody().Status(t.Context(), spaceOf(a)); err != nil || s.Condition != custody.Active {
		t.Errorf("after the rehearsal: %+v, %v", s, err)
	}

	for _, at := range rehearsed {
		ctx, cancel := context.WithCancel(t.Context())
		report, err := w.Rehearse(ctx, w.operator(), name, func(s drill.Step) {
			if s == at {
				cancel()
			}
		})
		cancel()
		if at != drill.StepRemove && (err == nil && report.Passed) {
			t.Errorf("ended at %s: %+v", at, report)
		}
		gone()
	}
}

// TestRehearsalOfACrash checks that a start removes the files of a rehearsal that ended with the server.
func TestRehearsalOfACrash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "visage")
	w := servertest.Start(t, server.Config{Dir: dir})
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "rehearsal", "copy"), 0o700); err != nil {
		t.Fatal(err)
	}
	servertest.Start(t, server.Config{Dir: dir})
	if _, err := os.Lstat(filepath.Join(dir, "rehearsal")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is left: %v", err)
	}
}

// codeOf returns the code of a refusal; empty: the error is none.
func codeOf(err error) string {
	refusal, _ := errors.AsType[*visage.Refusal](err)
	if refusal == nil {
		return ""
	}
	return refusal.Code
}

// rehearsed are the steps of a rehearsal in the order in which they are taken.
var rehearsed = []drill.Step{
	drill.StepBackup, drill.StepKeyring, drill.StepRestore, drill.StepStart, drill.StepRevoke, drill.StepInspect,
	drill.StepGiveBack, drill.StepRemove,
}
