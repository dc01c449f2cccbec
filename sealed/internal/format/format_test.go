package format_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/visage-face/visage/sealed/internal/format"
)

var update = flag.Bool("update", false, "add vectors of values that have none yet; frozen ones stay as they are")

// vector is one frozen stored value: what it is opened with and what comes out. Class is empty for a valid one, else
// what opening it must say.
type vector struct {
	Name      string            `json:"name"`
	Format    string            `json:"format"`
	Key       string            `json:"key"` // the record secret, page key or root key
	Place     map[string]string `json:"place"`
	Number    uint64            `json:"number"` // version of a record, epoch, generation
	Value     string            `json:"value"`
	Plaintext string            `json:"plaintext,omitempty"`
	Class     string            `json:"class,omitempty"`
}

const vectorFile = "testdata/vectors.json"

func key(n byte) []byte { return bytes.Repeat([]byte{n}, format.KeySize) }

func place(n byte) format.Place {
	return format.Place{Instance: format.ID{n, 1}, Space: format.ID{n, 2}, Container: format.ID{n, 3},
		Record: format.ID{n, 4}}
}

func places(p format.Place) map[string]string {
	return map[string]string{"instance": p.Instance.String(), "space": p.Space.String(),
		"container": p.Container.String(), "record": p.Record.String()}
}

func id(t testing.TB, text string) (id format.ID) {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		t.Fatalf("id %q: %v", text, err)
	}
	return format.ID(b)
}

func (v vector) at(t testing.TB) format.Place {
	return format.Place{Instance: id(t, v.Place["instance"]), Space: id(t, v.Place["space"]),
		Container: id(t, v.Place["container"]), Record: id(t, v.Place["record"])}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// versions are the versions of a root key, one after the other.
func versions(keys []byte) format.InstanceKeys {
	return func(version uint32) ([]byte, error) {
		if end := int(version) * format.KeySize; end <= len(keys) {
			return keys[end-format.KeySize : end], nil
		}
		return nil, nil
	}
}

// root is the first version of a root key.
func root(key []byte) format.InstanceKey { return format.InstanceKey{Version: 1, Key: key} }

// open opens a vector and returns what is inside in one fixed form.
func (v vector) open(t testing.TB) ([]byte, error) {
	key, value, at := unhex(t, v.Key), unhex(t, v.Value), v.at(t)
	switch v.Format {
	case "record":
		plain, schema, err := format.OpenRecord(nil, at, format.Secret{Key: key, Version: v.Number}, value)
		if err != nil {
			return nil, err
		}
		return append([]byte{schema}, plain...), nil
	case "nursery":
		s, err := format.OpenNursery(at, key, value)
		if err != nil {
			return nil, err
		}
		return fmt.Appendf(nil, "%d %x", s.Version, s.Key), nil
	case "page":
		p, err := format.OpenPage(at, byte(v.Number>>32), format.ID{1}, at.Record, key, v.Number&0xffffffff, value)
		if err != nil {
			return nil, err
		}
		return describe(p), nil
	case "head":
		h, err := format.OpenHead(at, key, value)
		if err != nil {
			return nil, err
		}
		return fmt.Appendf(nil, "%d %d %d %t %d %x %d %d %x %d %x", h.Pair.Generation, h.Pair.Epoch, h.Sequence,
			h.Dropped, h.Height, h.Root.Key, h.Root.Version,
			h.Rows, h.Sum, h.Erased, h.Previous), nil
	case "log entry":
		return format.OpenLogEntry(versions(key), at.Instance, at.Space, v.Number, value)
	case "anchor":
		return format.OpenAnchor(versions(key), at.Instance, value)
	case "bundle":
		return format.OpenBundle(versions(key), at.Instance, at.Space, value)
	case "epoch":
		out := make([]byte, format.KeySize)
		root, data := slices.Concat(key[:32], key[64:]), key[32:64]
		err := format.OpenEpoch(out, versions(root), data, at.Instance, at.Space, uint32(v.Number), value)
		if err != nil {
			return nil, err
		}
		return out, nil
	case "former":
		out := make([]byte, format.KeySize)
		root := format.InstanceKey{Version: 2, Key: key}
		if err := format.OpenFormer(out, root, at.Instance, uint32(v.Number), value); err != nil {
			return nil, err
		}
		return out, nil
	case "inner":
		out := make([]byte, format.KeySize)
		err := format.OpenInner(out, key, at.Instance, at.Space, slot(uint32(v.Number), at.Space), value)
		if err != nil {
			return nil, err
		}
		return out, nil
	case "log":
		return format.OpenLogEntry(versions(key), at.Instance, at.Space, v.Number, value)
	case "portable":
		return format.OpenPortable(versions(key), at.Instance, at.Space.String(), value)
	case "lease":
		return format.OpenLease(versions(key), at.Instance, at.Space[:], value)
	case "instance":
		document, err := format.ReadInstance(value)
		if err == nil {
			err = format.CheckInstance(key, value)
		}
		if err != nil {
			return nil, err
		}
		return document, nil
	}
	t.Fatalf("vector %s has the unknown format %q", v.Name, v.Format)
	return nil, nil
}

func describe(p *format.Page) []byte {
	out := fmt.Appendf(nil, "%d %d %s %s", p.Level, p.Version, p.Lower, p.Upper)
	for i := range p.Len() {
		id, s := p.At(i)
		out = fmt.Appendf(out, " %s:%d:%x", id, s.Version, s.Key)
	}
	return out
}

func slot(generation uint32, space format.ID) format.Slot {
	return format.Slot{Number: 1, Role: "customer", Generation: generation, URI: "https://vault/keys/k", Version: "7",
		Algorithm:  "RSA-OAEP-256",
		Commitment: format.DataKeyCommitment(key(9), space, generation)}
}

func page(level byte, entries int, upper format.ID) *format.Page {
	p := format.NewPage(level, format.ID{1}, upper)
	p.Version = 5
	for i := range entries {
		p.Append(format.ID{2, byte(i >> 8), byte(i)}, format.Secret{Key: key(byte(i)), Version: uint64(i + 1)})
	}
	return p
}

// valid makes one vector of each sort.
func valid() (all []vector) {
	add := func(name, kind string, k []byte, at format.Place, number uint64, value []byte) {
		all = append(
			all, vector{Name: name, Format: kind, Key: hex.EncodeToString(k), Place: places(at), Number: number,
				Value: hex.EncodeToString(value)},
		)
	}
	for _, size := range []int{0, 1, 63, 64, 600, 4096} {
		plain := bytes.Repeat([]byte{byte(size)}, size)
		add(fmt.Sprint("record of ", size), "record", key(1), place(1), 8,
			format.SealRecord(place(1), 2, format.Secret{Key: key(1), Version: 8},
				format.Salt(key(2), place(1), format.Secret{Key: key(1), Version: 8}, plain), plain).Bytes())
	}
	add("nursery", "nursery", key(3), place(2), 0,
		format.SealNursery(place(2), key(3), format.Salt(key(2), place(2), format.Secret{Key: key(4), Version: 9}, nil),
			format.Secret{Key: key(4), Version: 9}).Bytes())
	for _, n := range []int{0, 1, 16, 17, 64, 65, 256} {
		at := place(3)
		at.Record = format.MaxID
		level := byte(n % 3)
		add(fmt.Sprintf("page of %d, level %d", n, level), "page", key(5), at, uint64(level)<<32|5,
			format.SealPage(at, key(5), key(2), page(level, n, format.MaxID)).Bytes())
	}
	at := place(4)
	add("bundle", "bundle", key(6), at, 0,
		format.SealBundle(root(key(6)), at.Instance, at.Space, []byte("document")).Bytes())
	add("head", "head", key(3), place(5), 0,
		format.SealHead(place(5), key(3), key(2),
			&format.Head{Pair: format.Pair{Generation: 3, Epoch: 4}, Sequence: 5, Height: 2,
				Root: format.Secret{Key: key(8), Version: 6}, Rows: 7, Sum: format.Sum(key(9)), Erased: 10,
				Previous: format.Sum(key(11))}).Bytes())
	add("head of a dropped container", "head", key(3), place(6), 0,
		format.SealHead(place(6), key(3), key(2),
			&format.Head{Sequence: 1, Dropped: true, Root: format.Secret{Key: key(8)}}).Bytes())
	add("log entry", "log entry", key(6), at, 13,
		format.SealLogEntry(root(key(6)), at.Instance, at.Space, 13, []byte("entry")).Bytes())
	add("anchor", "anchor", key(6), at, 0, format.AuthAnchor(root(key(6)), at.Instance, []byte("document")))
	add("epoch", "epoch", append(key(6), key(8)...), at, 11,
		format.SealEpoch(root(key(6)), key(8), at.Instance, at.Space, 11, key(7)))
	add("inner", "inner", key(6), at, 12, format.SealInner(key(6), at.Instance, at.Space, slot(12, at.Space), key(9)))
	add("log entry", "log", key(6), at, 13,
		format.SealLogEntry(root(key(6)), at.Instance, at.Space, 13, []byte("entry")).Bytes())
	add("portable", "portable", key(6), at, 0,
		format.SealPortable(root(key(6)), at.Instance, at.Space.String(), []byte("to take away")))
	add("lease", "lease", key(6), at, 0,
		format.SealLease(root(key(6)), at.Instance, at.Space[:], []byte("document")).Bytes())
	second := format.InstanceKey{Version: 2, Key: key(12)}
	add("bundle under a second root", "bundle", append(key(6), key(12)...), at, 0,
		format.SealBundle(second, at.Instance, at.Space, []byte("document")).Bytes())
	add("former root", "former", key(12), at, 1, format.SealFormer(second, at.Instance, root(key(6))))
	carried, err := format.CarryEpoch(versions(append(key(6), key(12)...)), second, at.Instance, at.Space, 11,
		format.SealEpoch(root(key(6)), key(8), at.Instance, at.Space, 11, key(7)))
	if err != nil {
		panic(err)
	}
	add("carried epoch", "epoch", slices.Concat(key(6), key(8), key(12)), at, 11, carried)
	add("instance", "instance", key(6), at, 0, format.AuthInstance(key(6), []byte("document")).Bytes())
	return all
}

// invalid derives vectors that must not open.
func invalid(v vector) (all []vector) {
	value, _ := hex.DecodeString(v.Value)
	add := func(why string, change func(*vector, []byte) []byte) {
		bad := v
		bad.Place = map[string]string{}
		for k, p := range v.Place {
			bad.Place[k] = p
		}
		bad.Name += ": " + why
		bad.Plaintext = ""
		bad.Value = hex.EncodeToString(change(&bad, bytes.Clone(value)))
		all = append(all, bad)
	}
	add("first byte", func(_ *vector, b []byte) []byte { b[0] ^= 1; return b })
	add("format", func(_ *vector, b []byte) []byte { b[1%len(b)]++; return b })
	add("suite", func(_ *vector, b []byte) []byte { b[2]++; return b })
	add("fourth byte", func(_ *vector, b []byte) []byte { b[3]++; return b })
	add("last byte", func(_ *vector, b []byte) []byte { b[len(b)-1] ^= 0x80; return b })
	add("middle byte", func(_ *vector, b []byte) []byte { b[len(b)/2] ^= 0x10; return b })
	add("cut", func(_ *vector, b []byte) []byte { return b[:len(b)-1] })
	add("longer", func(_ *vector, b []byte) []byte { return append(b, 0) })
	add("empty", func(*vector, []byte) []byte { return nil })
	add("other key", func(v *vector, b []byte) []byte {
		v.Key = hex.EncodeToString(slices.Concat(key(99), key(8), key(98))[:len(v.Key)/2])
		return b
	})
	if v.Format != "instance" {
		add(
			"other instance", func(v *vector,
				b []byte) []byte {
				v.Place["instance"] = format.ID{77}.String()
				return b
			},
		)
	}
	if !slices.Contains([]string{"instance", "anchor", "former"}, v.Format) {
		add("other space", func(v *vector, b []byte) []byte { v.Place["space"] = format.ID{77}.String(); return b })
	}
	if slices.Contains([]string{"record", "nursery", "page", "head"}, v.Format) {
		add(
			"other container", func(v *vector,
				b []byte) []byte {
				v.Place["container"] = format.ID{77}.String()
				return b
			},
		)
		add("other record", func(v *vector, b []byte) []byte { v.Place["record"] = format.ID{77}.String(); return b })
	}
	if slices.Contains([]string{"record", "epoch", "inner", "log", "former"}, v.Format) {
		add("other number", func(v *vector, b []byte) []byte { v.Number++; return b })
	}
	return all
}

func class(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, format.ErrMalformed):
		return "malformed"
	case errors.Is(err, format.ErrNotAuthentic):
		return "not authentic"
	}
	return "other: " + err.Error()
}

// TestVectors opens the frozen values: whatever changes in the code, these stay readable, or stay refused, for the same
// reason.
func TestVectors(t *testing.T) {
	if *update {
		all := vectors(t)
		frozen := func(name string) bool {
			return slices.ContainsFunc(all, func(v vector) bool { return v.Name == name })
		}
		for _, v := range valid() {
			if frozen(v.Name) {
				continue
			}
			plain, err := v.open(t)
			if err != nil {
				t.Fatalf("%s: %v", v.Name, err)
			}
			v.Plaintext = hex.EncodeToString(plain)
			all = append(all, v)
			for _, bad := range invalid(v) {
				_, err := bad.open(t)
				if bad.Class = class(err); bad.Class == "" {
					t.Fatalf("%s opens", bad.Name)
				}
				if v.Name == "record of 600" || v.Name == "page of 1, level 1" || len(v.Value) < 400 {
					all = append(all, bad)
				}
			}
		}
		b, err := json.MarshalIndent(all, "", " ")
		if err == nil {
			err = os.WriteFile(vectorFile, append(b, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	good, bad := 0, 0
	for _, v := range vectors(t) {
		plain, err := v.open(t)
		if got := class(err); got != v.Class {
			t.Errorf("%s: got %q, want %q", v.Name, got, v.Class)
		}
		if got := hex.EncodeToString(plain); got != v.Plaintext {
			t.Errorf("%s: got %s, want %s", v.Name, got, v.Plaintext)
		}
		if v.Class == "" {
			good++
		} else {
			bad++
		}
	}
	if good < 15 || bad < 100 {
		t.Errorf("only %d valid and %d invalid vectors", good, bad)
	}
}

func vectors(t testing.TB) (all []vector) {
	t.Helper()
	b, err := os.ReadFile(vectorFile)
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil || len(all) == 0 {
		t.Fatalf("%s: %d vectors, %v", vectorFile, len(all), err)
	}
	return all
}

// TestFreshValuesOpenNowhereElse repeats the vectors' cases with values made now.
func TestFreshValuesOpenNowhereElse(t *testing.T) {
	for _, v := range valid() {
		if _, err := v.open(t); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		for _, bad := range invalid(v) {
			if out, err := bad.open(t); err == nil || out != nil {
				t.Errorf("%s: opens", bad.Name)
			}
		}
	}
}

// TestSlotIsBoundWhole changes each field of a slot in turn.
func TestSlotIsBoundWhole(t *testing.T) {
	at := place(1)
	inner := format.SealInner(key(6), at.Instance, at.Space, slot(1, at.Space), key(9))
	if len(inner) != 61 {
		t.Errorf("an inner seal has %d bytes", len(inner))
	}
	for name, change := range map[string]func(*format.Slot){
		"number":     func(s *format.Slot) { s.Number++ },
		"role":       func(s *format.Slot) { s.Role = "service" },
		"generation": func(s *format.Slot) { s.Generation++ },
		"uri":        func(s *format.Slot) { s.URI, s.Version = s.URI+"/7", "" },
		"version":    func(s *format.Slot) { s.Version = "8" },
		"algorithm":  func(s *format.Slot) { s.Algorithm = "RSA1_5" },
		"commitment": func(s *format.Slot) { s.Commitment = make([]byte, 32) },
		"none":       func(s *format.Slot) { s.Commitment = nil },
	} {
		s := slot(1, at.Space)
		change(&s)
		if err := format.OpenInner(make([]byte, format.KeySize), key(6), at.Instance, at.Space, s, inner); err == nil {
			t.Errorf("opens with another %s", name)
		}
	}
}

// TestContextIsInjective: no two lists of fields have one encoding, whichever way bytes move between neighbours.
func TestContextIsInjective(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[string]string{}
	try := func(label string, fields [][]byte) {
		list, encoded := fmt.Sprintf("%q %q", label, fields), string(format.Context(label, fields...))
		if old, ok := seen[encoded]; ok && old != list {
			t.Fatalf("%s and %s encode alike", old, list)
		}
		seen[encoded] = list
	}
	for range 200_000 {
		fields := make([][]byte, random.IntN(4))
		for i := range fields {
			fields[i] = make([]byte, random.IntN(5))
			for j := range fields[i] {
				fields[i][j] = byte(random.IntN(3)) // few values, among them those that lengths begin with
			}
		}
		try("l", fields)
	}
	for cut := range 9 { // one text cut at each place, and not at all
		text := []byte("abcdefgh")
		try("l", [][]byte{text[:cut], text[cut:]})
	}
	try("l", [][]byte{[]byte("abcdefgh")})
	try("la", [][]byte{[]byte("bcdefgh")})
}

// TestSaltsAreHedged: the salt is the HKDF-Extract of more than the generator gives, so equal plaintexts still differ,
// and each message's key is its own.
func TestSaltsAreHedged(t *testing.T) {
	if _, err := hkdf.Extract(sha256.New, key(1), key(2)); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 100 {
		v := format.SealRecord(place(1), 1, format.Secret{Key: key(1), Version: 1},
			format.Salt(key(2), place(1), format.Secret{Key: key(1), Version: 1}, []byte("the same")),
			[]byte("the same")).Bytes()
		if seen[string(v[12:36])] || seen[string(v[36:48])] || seen[string(v[48:])] {
			t.Fatal("a salt, nonce or ciphertext was repeated")
		}
		seen[string(v[12:36])], seen[string(v[36:48])], seen[string(v[48:])] = true, true, true
	}
}

// FuzzOpen gives arbitrary bytes to every reader: none may panic, open, or give anything back beside an error.
func FuzzOpen(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(unhex(f, v.Value))
	}
	valid := map[string]bool{}
	for _, v := range vectors(f) {
		valid[v.Value] = v.Class == ""
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if len(value) > 1<<16 || valid[hex.EncodeToString(value)] {
			return
		}
		for _, kind := range []string{"record", "nursery", "page", "bundle", "inner", "instance", "head", "log entry",
			"anchor"} {
			v := vector{Name: "fuzz", Format: kind, Key: hex.EncodeToString(key(42)), Place: places(place(42)),
				Number: 1, Value: hex.EncodeToString(value)}
			if out, err := v.open(t); err == nil || out != nil || class(err)[0] == 'o' {
				t.Errorf("%s: %x, %v", kind, out, err)
			}
		}
		if _, err := format.PeekPair(value); err != nil && !errors.Is(err, format.ErrMalformed) {
			t.Error(err)
		}
	})
}

// FuzzPageContent seals arbitrary entries as a page and opens it again: what does not keep a page's rules is refused,
// what does comes back the same.
func FuzzPageContent(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	f.Add(bytes.Repeat([]byte{7}, 56*3), uint8(1))
	f.Fuzz(func(t *testing.T, content []byte, lower uint8) {
		p := format.NewPage(0, format.ID{lower}, format.MaxID)
		for len(content) >= 17 && p.Len() < format.PageSlots {
			p.Append(format.ID(content), format.Secret{Key: key(content[16]), Version: 1 + uint64(content[16])})
			content = content[17:]
		}
		want := describe(p)
		at := place(1)
		got, err := format.OpenPage(at, 0, format.ID{lower}, format.MaxID, key(5), 0,
			format.SealPage(at, key(5), key(2), p).Bytes())
		if err != nil {
			if !errors.Is(err, format.ErrMalformed) {
				t.Error(err)
			}
			return
		}
		if !bytes.Equal(describe(got), want) {
			t.Errorf("got %s, want %s", describe(got), want)
		}
	})
}
