package audit_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// root protects the keys of the store.
var root = sourcetest.NewFake("root")

// record appends an event to the audit log of the store in a directory, has a checkpoint signed, and verifies the log.
func record(ctx context.Context, data, keys string, kind audit.Kind, kept ...[]byte) (audit.Report, error) {
	store, err := sealed.Open(ctx, sealed.Config{
		Engine:     "pebble:" + data,
		KeyDir:     keys,
		Protectors: []sealed.Protector{{Name: "root", Kind: "memory", Source: root}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	events, err := audit.Open(ctx, audit.Config{Store: store})
	if err != nil {
		log.Fatal(err)
	}
	// The event is on disk when Append returns. Run signs a checkpoint every second, and the last one at its end.
	if err := events.Append(ctx, audit.Event{Kind: kind, Outcome: audit.Done}); err != nil {
		log.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	stop()
	if err := events.Run(running); err != nil {
		log.Fatal(err)
	}
	return events.Verify(ctx, kept...)
}

// Append events, keep a signed checkpoint elsewhere, and find with it that an older copy of the log was put back and
// continued differently.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "audit")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	data, older, keys := filepath.Join(dir, "data"), filepath.Join(dir, "older"), filepath.Join(dir, "keys")

	if _, err := record(ctx, data, keys, audit.InstanceStart); err != nil {
		log.Fatal(err)
	}
	if err := os.CopyFS(older, os.DirFS(data)); err != nil {
		log.Fatal(err)
	}
	report, err := record(ctx, data, keys, audit.CustodyLock)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d entries, whole; %d checkpoints\n", report.Entries, report.Checkpoints)
	kept := report.Last.Note // belongs on another machine

	_, err = record(ctx, older, keys, audit.CustodyRestore)
	fmt.Println("the other log alone:", err)
	_, err = record(ctx, older, keys, audit.CustodyRestore, kept)
	fmt.Println("with the checkpoint:", err)
	// Output:
	// 2 entries, whole; 2 checkpoints
	// the other log alone: <nil>
	// with the checkpoint: the audit log is broken at entry 2: the entries are not those that were signed
}
