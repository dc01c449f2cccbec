package audit

import (
	"context"
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/visage-face/visage/sealed"
)

// Streams is where the tests put a log whose streams they can get at.
type Streams struct{ Entries, Checkpoints, Nodes stream }

// nodes are the stream of nodes of a test, or one of its own in the store.
func (s Streams) nodes(store *sealed.Store) stream {
	if s.Nodes != nil {
		return s.Nodes
	}
	return store.Log(fmt.Sprintf("%s of %p", nodesName, s.Entries))
}

// The sizes of what is kept of the tree.
const (
	BlockLeaves = blockLeaves
	KeepAtOnce  = keepAtOnce
	MaxUnkept   = maxUnkept
)

// OpenOn is Open on the streams of a test.
func OpenOn(ctx context.Context, cfg Config, s Streams) (*Log, error) {
	return openOn(ctx, cfg, s.Entries, s.Checkpoints, s.nodes(cfg.Store))
}

// ReadOn is Read on the streams of a test.
func ReadOn(cfg Config, s Streams) *History {
	return newHistory(cfg.Store, s.Entries, s.Checkpoints, s.nodes(cfg.Store))
}

// Sign is the tick of Run.
func (l *Log) Sign(ctx context.Context) error { return l.work(ctx, true) }

// Keep makes one step of the nodes that are missing, as Run does.
func (l *Log) Keep(ctx context.Context) (more bool, err error) { return l.keepNodes(ctx) }

// Details returns every detail there is.
func Details() []Detail { return details }

// SetFloor makes the operator's space speak of a checkpoint as the last one.
func SetFloor(ctx context.Context, store *sealed.Store, c Checkpoint) error {
	return store.Space(sealed.Operator).Update(ctx, func(tx sealed.Tx) error {
		rec, err := records.In().Get(tx, recordID)
		if err != nil {
			return err
		}
		rec.Size, rec.Root = c.Size, c.Root[:]
		return records.In().Put(tx, recordID, rec)
	})
}

// The encodings, for the tests that feed them bytes from outside.
var DecodeEntry = decodeEntry

// EncodeEntry puts an entry that was decoded together again.
func EncodeEntry(e Entry) ([]byte, error) {
	body, err := encodeBody(e.Event)
	return place(e.Sequence, e.Previous, body), err
}

// VerifierOf returns what a log's checkpoints are verified with, by way of its text.
func VerifierOf(t testing.TB, l *Log) note.Verifier {
	t.Helper()
	r, err := l.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(r.Verifier)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// DecodeCheckpoint is what reading a stored checkpoint gives.
func DecodeCheckpoint(b []byte, v note.Verifier) (Checkpoint, error) {
	c, _, err := decodeCheckpoint(b, v)
	return c, err
}
