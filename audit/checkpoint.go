package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/visage-face/visage/sealed"
)

const (
	checkpointMagic = "VAC\x01"
	maxNote         = 2 << 10 // bytes; ours have about 250, and one with a few cosignatures still fits
)

// Checkpoint is what a signed checkpoint says.
type Checkpoint struct {
	Origin string            // "visage/audit/" and the instance's id
	Size   uint64            // how many entries there were
	Root   [sha256.Size]byte // of the Merkle tree over them (RFC 6962 §2.1)
	Note   []byte            // as it was signed: C2SP tlog-checkpoint in a signed-note
}

// record is what the audit log keeps in the operator's space: its signing key, and the highest checkpoint that it
// signed, which a log that was cut back together with its checkpoints contradicts.
type record struct {
	PrivateKey []byte // Ed25519, RFC 8032 §5.1.5: the seed, 32 bytes
	Size       uint64
	Root       []byte
}

var records = sealed.NewTable[record]("audit", 1)

const recordID = "log"

// signer signs checkpoints; it is a note.Signer.
type signer struct {
	note.Verifier
	key ed25519.PrivateKey
}

func (s *signer) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }

// newSigner makes a signer of a seed. The text is what a verifier needs: note.NewVerifier reads it.
func newSigner(origin string, seed []byte) (s *signer, text string, err error) {
	if len(seed) != ed25519.SeedSize {
		return nil, "", fmt.Errorf("the audit log's signing key has %d bytes", len(seed))
	}
	key := ed25519.NewKeyFromSeed(seed)
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		panic("audit: an Ed25519 key has a public key of another sort")
	}
	if text, err = note.NewEd25519VerifierKey(origin, public); err != nil {
		return nil, "", fmt.Errorf("make verifier of the audit log: %w", err)
	}
	verifier, err := note.NewVerifier(text)
	if err != nil {
		return nil, "", fmt.Errorf("make verifier of the audit log: %w", err)
	}
	return &signer{verifier, key}, text, nil
}

// readRecord returns the log's record; a store without one is given it when make says so.
func readRecord(ctx context.Context, store *sealed.Store, make bool) (rec record, err error) {
	space := store.Space(sealed.Operator)
	err = space.View(ctx, func(r sealed.Reader) error {
		rec, err = records.In().Get(r, recordID)
		return err
	})
	if errors.Is(err, sealed.ErrNotFound) && make {
		err = space.Update(ctx, func(tx sealed.Tx) error {
			rec, err = records.In().Get(tx, recordID)
			if !errors.Is(err, sealed.ErrNotFound) { // another process was faster
				return err
			}
			rec = record{PrivateKey: newSeed()}
			return records.In().Put(tx, recordID, rec)
		})
	}
	if err != nil {
		return record{}, fmt.Errorf("read the audit log's key: %w", err)
	}
	return rec, nil
}

func newSeed() []byte {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed) // never fails: the runtime ends the process instead
	return seed
}

// edge is the right-hand edge of a Merkle tree: the roots of its complete subtrees, the largest first. Their sizes are
// the bits of the number of leaves. It is all that a tree needs to grow.
type edge []tlog.Hash

// grow returns the edge with one more leaf after size of them. It does not change e.
func (e edge) grow(size uint64, leaf tlog.Hash) edge {
	out := append(make(edge, 0, len(e)+1), e...)
	for ; size&1 == 1; size >>= 1 {
		leaf = tlog.NodeHash(out[len(out)-1], leaf)
		out = out[:len(out)-1]
	}
	return append(out, leaf)
}

// root is the tree's root; of an empty tree, the hash of nothing.
func (e edge) root() tlog.Hash {
	if len(e) == 0 {
		return sha256.Sum256(nil)
	}
	h := e[len(e)-1]
	for _, left := range slices.Backward(e[:len(e)-1]) {
		h = tlog.NodeHash(left, h)
	}
	return h
}

// sign makes the checkpoint of a tree.
func sign(s *signer, size uint64, root tlog.Hash) ([]byte, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", s.Name(), size, base64.StdEncoding.EncodeToString(root[:]))
	return note.Sign(&note.Note{Text: text}, s)
}

// parseNote reads a checkpoint and verifies its signature. Lines after the root, which C2SP allows, are refused: we
// write none.
func parseNote(msg []byte, verifier note.Verifier) (Checkpoint, error) {
	if len(msg) > maxNote {
		return Checkpoint{}, fmt.Errorf("%w: a checkpoint of %d bytes", errMalformed, len(msg))
	}
	n, err := note.Open(msg, note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("signature of a checkpoint: %w", err)
	}
	return parseText(n.Text, verifier.Name(), msg)
}

func parseText(text, origin string, msg []byte) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, fmt.Errorf("%w: a checkpoint that has not three lines", errMalformed)
	}
	if lines[0] != origin {
		return Checkpoint{}, errors.New("the checkpoint is of another log")
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil || strconv.FormatUint(size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("%w: the size of a checkpoint", errMalformed)
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != sha256.Size {
		return Checkpoint{}, fmt.Errorf("%w: the root of a checkpoint", errMalformed)
	}
	return Checkpoint{Origin: origin, Size: size, Root: hash(root), Note: bytes.Clone(msg)}, nil
}

// encodeCheckpoint is a checkpoint as it is stored: with the tree's edge, so that a restart need not read the whole
// log.
func encodeCheckpoint(signed []byte, e edge) []byte {
	b := append([]byte(checkpointMagic), byte(len(e)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(signed)))
	b = append(b, signed...)
	for _, h := range e {
		b = append(b, h[:]...)
	}
	return b
}

// decodeCheckpoint reads what encodeCheckpoint wrote, verifies the signature and holds the edge against what was
// signed.
func decodeCheckpoint(b []byte, verifier note.Verifier) (Checkpoint, edge, error) {
	const header = len(checkpointMagic) + 3
	if len(b) < header || string(b[:len(checkpointMagic)]) != checkpointMagic {
		return Checkpoint{}, nil, fmt.Errorf("%w: not a checkpoint of the audit log in format 1", errMalformed)
	}
	edges, n := int(b[len(checkpointMagic)]), int(binary.BigEndian.Uint16(b[len(checkpointMagic)+1:]))
	if b = b[header:]; n > maxNote || len(b) != n+edges*sha256.Size {
		return Checkpoint{}, nil, fmt.Errorf("%w: a checkpoint of %d bytes", errMalformed, header+len(b))
	}
	c, err := parseNote(b[:n], verifier)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	e := make(edge, edges)
	for i := range e {
		e[i] = tlog.Hash(b[n+i*sha256.Size:][:sha256.Size])
	}
	if edges != bits.OnesCount64(c.Size) || e.root() != tlog.Hash(c.Root) {
		return Checkpoint{}, nil, errors.New("the edge of the tree is not the one that was signed")
	}
	return c, e, nil
}
