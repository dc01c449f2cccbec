package audit_test

import (
	"context"
	"fmt"
	"log"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// Hand out one entry with its proof. Anyone who knows the log's public key can check it without the log, and finds that
// the entry was changed.
func ExampleHistory_Prove() {
	ctx := context.Background()
	store, err := sealed.Open(ctx, sealed.Config{
		Engine:     "memory:",
		Protectors: []sealed.Protector{{Name: "root", Kind: "memory", Source: sourcetest.NewFake("root")}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	events, err := audit.Open(ctx, audit.Config{Store: store})
	if err != nil {
		log.Fatal(err)
	}
	if err := events.Append(ctx, audit.Event{Kind: audit.CustodyLock, Outcome: audit.Done}); err != nil {
		log.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	stop()
	if err := events.Run(running); err != nil { // signs what was appended, since it is stopped
		log.Fatal(err)
	}

	proof, err := events.Prove(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(proof.Entry.Kind, proof.Entry.Outcome, "-", proof.Check())
	proof.Entry.Outcome = audit.Refused
	fmt.Println(proof.Entry.Kind, proof.Entry.Outcome, "-", proof.Check())
	// Output:
	// custody.lock done - <nil>
	// custody.lock refused - check proof: the entry is not the one that was signed
}
