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

	"github.com/visage-face/visage/sealed"
)

// Proof shows that an entry is in the log, to a reader who trusts the key that signs its checkpoints and has no
// other part of the log: the entry, the checkpoint, and the hashes that lead from one to the other (RFC 6962 §2.1.1).
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

// Prove makes the proof of an entry, over the last checkpoint. It reads the entry, the checkpoint, and of the nodes of
// the tree as many as the logarithm of the log's length says; Verify reads everything. Errors: ErrUnsigned,
// ErrCatchingUp, *BrokenError, also when what was read does not lead to the root that was signed.
func (h *History) Prove(ctx context.Context, sequence uint64) (Proof, error) {
	last, verifier, err := h.last(ctx) // first: the log goes on meanwhile
	if err != nil {
		return Proof{}, err
	}
	next, err := h.entries.Next(ctx)
	if err != nil {
		return Proof{}, broken(0, err)
	}
	if sequence == 0 || sequence >= next {
		return Proof{}, &BrokenError{Sequence: sequence, Err: errMissing}
	}
	if sequence > last.Size {
		return Proof{}, ErrUnsigned
	}
	if last.Size >= next {
		return Proof{}, &BrokenError{Sequence: next, Err: errShorter}
	}
	p := Proof{Index: sequence - 1, Checkpoint: string(last.Note), Verifier: verifier}
	if p.Encoded, err = one(ctx, h.entries, sequence); err == nil {
		p.Entry, err = decodeEntry(p.Encoded)
	}
	if err != nil {
		return Proof{}, &BrokenError{Sequence: sequence, Err: err}
	}
	t, err := h.tree(ctx, last.Size)
	if err != nil {
		return Proof{}, err
	}
	if p.Path, err = t.path(ctx, p.Index); err != nil {
		return Proof{}, err
	}
	if err := p.Check(); err != nil {
		return Proof{}, &BrokenError{Err: err} // of an entry or of nodes: "visage audit verify" tells
	}
	return p, nil
}

// last returns the last checkpoint, the zero value when there is none, and what it is verified with.
func (h *History) last(ctx context.Context) (c Checkpoint, verifier string, err error) {
	rec, err := readRecord(ctx, h.store, false)
	if errors.Is(err, sealed.ErrNotFound) {
		return Checkpoint{}, "", &BrokenError{Err: errors.New("the key of the log is missing")}
	}
	if err != nil {
		return Checkpoint{}, "", err
	}
	signer, verifier, err := newSigner(h.origin, rec.PrivateKey)
	if err != nil {
		return Checkpoint{}, "", err
	}
	next, err := h.checkpoints.Next(ctx)
	if err != nil {
		return Checkpoint{}, "", brokenCheckpoint(0, err)
	}
	if next > 1 {
		data, err := one(ctx, h.checkpoints, next-1)
		if err != nil {
			return Checkpoint{}, "", brokenCheckpoint(next-1, err)
		}
		if c, _, err = decodeCheckpoint(data, signer); err != nil {
			return Checkpoint{}, "", &BrokenError{Checkpoint: next - 1, Err: err}
		}
	}
	if c.Size < rec.Size {
		return Checkpoint{}, "", &BrokenError{Checkpoint: next, Err: errUnsigned}
	}
	return c, verifier, nil
}

func rootOver(leaves []tlog.Hash) tlog.Hash {
	var e edge
	for i, leaf := range leaves {
		e = e.grow(uint64(i), leaf)
	}
	return e.root()
}

// Check holds a proof against itself: that the checkpoint is signed with Verifier's key, that the path leads from the
// encoded entry to it, and that Entry is what was encoded. The reader has to know whether Verifier is the key of
// the right instance.
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
	if err := tlog.CheckRecord(proof, int64(c.Size), tlog.Hash(c.Root), int64(p.Index),
		tlog.RecordHash(p.Encoded)); err != nil {
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
	*p = Proof{Entry: e, Encoded: raw.Encoded, Index: raw.Index, Path: raw.Path, Checkpoint: raw.Checkpoint,
		Verifier: raw.Verifier}
	return nil
}
