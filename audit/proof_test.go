package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/visage-face/visage/audit"
)

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
