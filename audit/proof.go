package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Proof shows that an entry is in the log, to whoever trusts the key that signs its checkpoints and has nothing else of the log: the entry, the
// checkpoint, and the hashes that lead from one to the other (RFC 6962 §2.1.1).
type Proof struct {
	Entry      Entry    `json:"entry"`
	Encoded    []byte   `json:"encoded"`    // the entry as it was signed: the leaf of the tree
	Index      uint64   `json:"index"`      // of the leaf, from 0
	Path       [][]byte `json:"path"`       // hashes, the nearest to the leaf first
	Checkpoint string   `json:"checkpoint"` // C2SP tlog-checkpoint, as it was signed
	Verifier   string   `json:"verifier"`   // its public key, as golang.org/x/mod/sumdb/note spells it
}

// ErrUnsigned says that no checkpoint covers an entry yet; the next one does, a second later.
var ErrUnsigned = errors.New("no checkpoint covers the entry yet: ask again in a second")

// Prove makes the proof of an entry, over the last checkpoint. Errors: ErrUnsigned, *BrokenError.
func (h *History) Prove(ctx context.Context, sequence uint64) (Proof, error) {
	report, err := h.Verify(ctx)
	if err != nil {
		return Proof{}, err
	}
	size := report.Last.Size
	if sequence == 0 || sequence > report.Entries {
		return Proof{}, &BrokenError{Sequence: sequence, Err: errMissing}
	}
	if sequence > size {
		return Proof{}, ErrUnsigned
	}
	p := Proof{Index: sequence - 1, Checkpoint: string(report.Last.Note), Verifier: report.Verifier}
	leaves := make([]tlog.Hash, 0, size)
	for e, err := range h.entries.From(ctx, 1) {
		if err != nil {
			return Proof{}, broken(e.Sequence, err)
		}
		if uint64(len(leaves)) == size {
			break
		}
		leaves = append(leaves, tlog.RecordHash(e.Data))
		if uint64(len(leaves)) == sequence {
			p.Encoded = bytes.Clone(e.Data)
		}
	}
	if uint64(len(leaves)) < size {
		return Proof{}, &BrokenError{Sequence: uint64(len(leaves)) + 1, Err: errMissing}
	}
	if p.Entry, err = decodeEntry(p.Encoded); err != nil {
		return Proof{}, &BrokenError{Sequence: sequence, Err: err}
	}
	p.Path = path(leaves, int(p.Index))
	return p, p.Check()
}

// path is the audit path of a leaf (RFC 6962 §2.1.1).
func path(leaves []tlog.Hash, index int) [][]byte {
	if len(leaves) <= 1 {
		return nil
	}
	left := 1 // the largest power of two below the number of leaves
	for left*2 < len(leaves) {
		left *= 2
	}
	if index < left {
		sibling := rootOver(leaves[left:])
		return append(path(leaves[:left], index), sibling[:])
	}
	sibling := rootOver(leaves[:left])
	return append(path(leaves[left:], index-left), sibling[:])
}

func rootOver(leaves []tlog.Hash) tlog.Hash {
	var e edge
	for i, leaf := range leaves {
		e = e.grow(uint64(i), leaf)
	}
	return e.root()
}

// Check holds a proof against itself: that the checkpoint is signed with Verifier's key, that the path leads from the encoded entry to it, and that Entry is what
// was encoded. Whether Verifier is the key of the right instance is for whoever checks to know.
func (p Proof) Check() error {
	verifier, err := note.NewVerifier(p.Verifier)
	if err != nil {
		return fmt.Errorf("check proof: %w", err)
	}
	c, err := parseNote([]byte(p.Checkpoint), verifier)
	if err != nil {
		return fmt.Errorf("check proof: %w", err)
	}
	if p.Index >= c.Size || len(p.Path) > 64 {
		return fmt.Errorf("check proof: %w", errRoot)
	}
	proof := make(tlog.RecordProof, len(p.Path))
	for i, h := range p.Path {
		if len(h) != sha256.Size {
			return fmt.Errorf("check proof: %w", errMalformed)
		}
		proof[i] = tlog.Hash(h)
	}
	if err := tlog.CheckRecord(proof, int64(c.Size), tlog.Hash(c.Root), int64(p.Index), tlog.RecordHash(p.Encoded)); err != nil {
		return fmt.Errorf("check proof: %w: %w", errRoot, err)
	}
	e, err := decodeEntry(p.Encoded)
	if err != nil {
		return fmt.Errorf("check proof: %w", err)
	}
	said, err := e.MarshalJSON()
	if err != nil {
		return fmt.Errorf("check proof: %w", err)
	}
	if have, err := p.Entry.MarshalJSON(); err != nil || !bytes.Equal(said, have) {
		return fmt.Errorf("check proof: the entry is not the one that was signed")
	}
	return nil
}

// UnmarshalJSON reads a proof. The entry is the one that is encoded; one that says otherwise is refused.
func (p *Proof) UnmarshalJSON(b []byte) error {
	var raw struct {
		Entry      json.RawMessage `json:"entry"`
		Encoded    []byte          `json:"encoded"`
		Index      uint64          `json:"index"`
		Path       [][]byte        `json:"path"`
		Checkpoint string          `json:"checkpoint"`
		Verifier   string          `json:"verifier"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	e, err := decodeEntry(raw.Encoded)
	if err != nil {
		return fmt.Errorf("read proof: %w", err)
	}
	said, err := e.MarshalJSON()
	if err != nil {
		return fmt.Errorf("read proof: %w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw.Entry); err != nil {
		return fmt.Errorf("read proof: %w", err)
	}
	if !bytes.Equal(compact.Bytes(), said) {
		return errors.New("read proof: the entry is not the one that was signed")
	}
	*p = Proof{Entry: e, Encoded: raw.Encoded, Index: raw.Index, Path: raw.Path, Checkpoint: raw.Checkpoint, Verifier: raw.Verifier}
	return nil
}
