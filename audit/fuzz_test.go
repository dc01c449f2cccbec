package audit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/visage-face/visage/audit"
)

// FuzzEntry: what is taken for an entry encodes to the same bytes, and can be exported.
func FuzzEntry(f *testing.F) {
	r := newTapedLog(f)
	e := event(1)
	appendN(f, r.log, 1, 1)
	e.KeyID, e.KeyVersion, e.Code = "https://v.vault.localhost/keys/k", "0123", "Forbidden"
	e.Details = map[audit.Detail]string{audit.DetailVault: "v", audit.DetailGeneration: "3", audit.DetailOperation: ""}
	mustDo(f, r.log.Append(f.Context(), e))
	e.Actor = audit.Actor{Kind: audit.Person, ID: "p", Name: "Ada 🦉"}
	mustDo(f, r.log.Append(f.Context(), e))
	for _, seed := range r.entries.data {
		f.Add(seed)
		f.Add(seed[:len(seed)-1])
		f.Add(append(bytes.Clone(seed), 0))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := audit.DecodeEntry(b)
		if err != nil {
			return
		}
		again, err := audit.EncodeEntry(e)
		if err != nil || !bytes.Equal(b, again) {
			t.Errorf("%x decodes and encodes to %x, %v", b, again, err)
		}
		line, err := json.Marshal(e)
		if err != nil || !json.Valid(line) {
			t.Errorf("%x does not export: %v", b, err)
		}
	})
}

// FuzzCheckpoint: what is taken for a checkpoint is one that was signed.
func FuzzCheckpoint(f *testing.F) {
	r := newTapedLog(f)
	appendN(f, r.log, 1, 5)
	mustDo(f, r.log.Sign(f.Context()))
	appendN(f, r.log, 6, 7)
	mustDo(f, r.log.Sign(f.Context()))
	verifier := audit.VerifierOf(f, r.log)
	for _, seed := range r.checkpoints.data {
		f.Add(seed)
		f.Add(seed[:len(seed)-1])
		f.Add(bytes.Replace(seed, []byte("\n5\n"), []byte("\n6\n"), 1))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := audit.DecodeCheckpoint(b, verifier)
		if err != nil {
			return
		}
		if c.Size != 5 && c.Size != 7 || !strings.HasPrefix(string(c.Note), fmt.Sprintf("%s\n%d\n", c.Origin, c.Size)) {
			t.Errorf("%q was taken for a checkpoint of %d entries", b, c.Size)
		}
	})
}

// TestTreeIsTheOneOfRFC6962 holds the growing edge against a full computation, for every size up to 300.
func TestTreeIsTheOneOfRFC6962(t *testing.T) {
	r := newTapedLog(t)
	verifier := audit.VerifierOf(t, r.log)
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var found []tlog.Hash
		for _, i := range indexes {
			found = append(found, stored[i])
		}
		return found, nil
	})
	for n := range 300 {
		appendN(t, r.log, n, n)
		mustDo(t, r.log.Sign(t.Context()))
		hashes := must[[]tlog.Hash](t)(tlog.StoredHashes(int64(n), r.entries.data[n], read))
		stored = append(stored, hashes...)
		want := must[tlog.Hash](t)(tlog.TreeHash(int64(n+1), read))
		c, err := audit.DecodeCheckpoint(r.checkpoints.data[n], verifier)
		if err != nil || c.Root != want || c.Size != uint64(n+1) {
			t.Fatalf("checkpoint of %d entries: size %d, root %x, %v, want %x", n+1, c.Size, c.Root, err, want)
		}
	}
}
