package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/visage-face/visage/audit"
)

// TestPlaceTellsTheSequence: also when many write at the same time.
func TestPlaceTellsTheSequence(t *testing.T) {
	store := newStore(t)
	l := open(t, store)
	var wg sync.WaitGroup
	var placed [50]uint64
	for i := range placed {
		wg.Go(func() {
			e := audit.Event{Kind: audit.PersonDelete, Outcome: audit.Done, RequestID: strconv.Itoa(i)}
			mustDo(t, l.Append(t.Context(), e, e))
			var err error
			if placed[i], err = l.Place(t.Context(), e); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	mustDo(t, l.Sign(t.Context()))
	for i, sequence := range placed {
		p, err := audit.Read(store).Prove(t.Context(), sequence)
		if err != nil || p.Entry.RequestID != strconv.Itoa(i) {
			t.Errorf("entry %d is of request %q (%v), want %d", sequence, p.Entry.RequestID, err, i)
		}
	}
	if sequence, err := l.Place(t.Context(), audit.Event{Kind: "nonsense"}); err == nil || sequence != 0 {
		t.Errorf("an event of no kind is entry %d", sequence)
	}
}

// TestProofsHoldAlone: an entry is proved by its proof and a public key; whatever of the proof is changed, it proves
// nothing.
func TestProofsHoldAlone(t *testing.T) {
	const n = 13
	store := newStore(t)
	l := open(t, store)
	appendN(t, l, 1, n)
	h := audit.Read(store)
	if _, err := h.Prove(t.Context(), n); !errors.Is(err, audit.ErrUnsigned) {
		t.Errorf("before a checkpoint: %v", err)
	}
	mustDo(t, l.Sign(t.Context()))
	for sequence := uint64(1); sequence <= n; sequence++ {
		p, err := h.Prove(t.Context(), sequence)
		if err != nil {
			t.Fatalf("entry %d: %v", sequence, err)
		}
		if p.Index != sequence-1 || p.Entry.Sequence != sequence {
			t.Errorf("entry %d: proof of %d at %d", sequence, p.Entry.Sequence, p.Index)
		}
	}
	if _, err := h.Prove(t.Context(), n+100); err == nil {
		t.Error("an entry that is not there is proved")
	}
	whole, err := h.Prove(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(whole); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*audit.Proof){
		"another entry": func(p *audit.Proof) { p.Entry.Kind = audit.InstanceStop },
		"encoded changed": func(p *audit.Proof) {
			p.Encoded = append(bytes.Clone(p.Encoded[:len(p.Encoded)-1]), p.Encoded[len(p.Encoded)-1]^1)
		},
		"another index":      func(p *audit.Proof) { p.Index++ },
		"path cut":           func(p *audit.Proof) { p.Path = p.Path[1:] },
		"path changed":       func(p *audit.Proof) { p.Path = append([][]byte{make([]byte, 32)}, p.Path[1:]...) },
		"checkpoint changed": func(p *audit.Proof) { p.Checkpoint += "x" },
		"no verifier":        func(p *audit.Proof) { p.Verifier = "" },
		"index out of tree":  func(p *audit.Proof) { p.Index = 1 << 40 },
		"hash of wrong size": func(p *audit.Proof) { p.Path = append([][]byte{{1}}, p.Path[1:]...) },
	} {
		p := whole
		change(&p)
		if err := p.Check(); err == nil {
			t.Errorf("%s: it holds", name)
		}
	}
	if err := whole.Check(); err != nil {
		t.Error(err)
	}
	if _, err := h.Prove(t.Context(), 0); err == nil || errors.Is(err, audit.ErrUnsigned) {
		t.Errorf("entry 0: %v", err)
	}
}
