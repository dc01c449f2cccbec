package audit_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource/sourcetest"
	"github.com/visage-face/visage/sealed"
)

// TestMain draws a byte first: the first random read of a process must not be inside a synctest bubble.
func TestMain(m *testing.M) {
	var b [1]byte
	rand.Read(b[:])
	os.Exit(m.Run())
}

func newStore(t testing.TB) *sealed.Store {
	t.Helper()
	store := must[*sealed.Store](t)(sealed.Open(t.Context(), sealed.Config{
		Engine:     "memory:",
		Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: sourcetest.NewFake("root")}},
	}))
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	return store
}

func must[T any](t testing.TB) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, store *sealed.Store) *audit.Log {
	t.Helper()
	return must[*audit.Log](t)(audit.Open(t.Context(), audit.Config{Store: store}))
}

// event is a plain one that tells itself apart by n.
func event(n int) audit.Event {
	return audit.Event{Kind: audit.KeyUnwrap, Outcome: audit.Done, RequestID: fmt.Sprintf("request-%d", n)}
}

func appendN(t testing.TB, l *audit.Log, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		mustDo(t, l.Append(t.Context(), event(n)))
	}
}

func list(t testing.TB, h *audit.History, q audit.Query) []audit.Entry {
	t.Helper()
	var all []audit.Entry
	for e, err := range h.Entries(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func sequences(entries []audit.Entry) []uint64 {
	var all []uint64
	for _, e := range entries {
		all = append(all, e.Sequence)
	}
	return all
}

// TestNamesOfActors: the name of a human keeps its script, cannot make an entry look like another, and changes nothing
// about the entries without one.
func TestNamesOfActors(t *testing.T) {
	l := open(t, newStore(t))
	long := strings.Repeat("🦉", 129)
	names := map[string]string{
		"": "", "Ada": "Ada", "田中 さくら": "田中 さくら", "Ada\nAdmin\u202e": "Ada?Admin?", "Ada\xff": "Ada\ufffd",
		long: strings.Repeat("🦉", 127) + "~", long[:512]: long[:512],
	}
	for name, want := range names {
		e := event(1)
		e.Actor = audit.Actor{Kind: audit.Person, ID: "p", Name: name}
		mustDo(t, l.Append(t.Context(), e))
		got := list(t, l.History, audit.Query{Limit: 1})[0]
		if got.Actor.Name != want {
			t.Errorf("the name %q comes back as %q", name, got.Actor.Name)
		}
		encoded := must[[]byte](t)(audit.EncodeEntry(got))
		format := byte(2)
		if name == "" {
			format = 1
		}
		if encoded[3] != format {
			t.Errorf("the entry with the name %q has format %d", name, encoded[3])
		}
		// An entry has one encoding: none with an empty name, and none with a name in the format without.
		encoded[3] = 3 - format
		if _, err := audit.DecodeEntry(encoded); err == nil {
			t.Errorf("the entry with the name %q is taken in the other format", name)
		}
	}
	if r, err := l.Verify(t.Context()); err != nil || r.Entries != uint64(len(names)) {
		t.Errorf("verify: %+v, %v", r, err)
	}
}

func TestEventsComeBackAsTheyWere(t *testing.T) {
	l := open(t, newStore(t))
	want := audit.Event{
		Time: time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC), Kind: audit.CustodyEnable, Outcome: audit.Refused,
		Actor:    audit.Actor{Kind: audit.Identity, ID: "6e0d1b3c-0000-4000-8000-000000000001"},
		Resource: visage.ResourceID{1, 2, 3}, KeyID: "https://v.vault.localhost/keys/k", KeyVersion: "0123",
		Code:      "KeyVaultAccessDenied",
		RequestID: "r-1", Details: map[audit.Detail]string{audit.DetailVault: "v", audit.DetailGeneration: "3"},
	}
	mustDo(t, l.Append(t.Context(), want))
	got := list(t, l.History, audit.Query{})
	if len(got) != 1 {
		t.Fatalf("%d entries, want 1", len(got))
	}
	if diff := cmp.Diff(want, got[0].Event); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	report := must[audit.Report](t)(l.Verify(t.Context()))
	if report.Entries != 1 || report.Unsigned != 1 || report.Checkpoints != 0 {
		t.Errorf("report %+v, want one entry and no checkpoint", report)
	}
}

func TestAnotherSetIsRefused(t *testing.T) {
	l := open(t, newStore(t))
	for name, e := range map[string]audit.Event{
		"kind":    {Kind: "person.greet", Outcome: audit.Done},
		"outcome": {Kind: audit.KeyWrap, Outcome: "well"},
		"actor":   {Kind: audit.KeyWrap, Outcome: audit.Done, Actor: audit.Actor{Kind: "ghost"}},
		"detail":  {Kind: audit.KeyWrap, Outcome: audit.Done, Details: map[audit.Detail]string{"userData": "x"}},
	} {
		if err := l.Append(t.Context(), e); err == nil || !strings.Contains(err.Error(), "is not known") {
			t.Errorf("append with another %s: %v, want that it is not known", name, err)
		}
		if err := l.Note(t.Context(), e); err == nil {
			t.Errorf("note with another %s: taken", name)
		}
	}
}

func TestHostileTextsAreCut(t *testing.T) {
	l := open(t, newStore(t))
	long := strings.Repeat("ü\n", 10_000)
	mustDo(t, l.Append(t.Context(), audit.Event{
		Kind: audit.AccessRefuse, Outcome: audit.Refused, KeyID: long, KeyVersion: long, Code: long, RequestID: long,
		Actor: audit.Actor{Kind: audit.Identity, ID: long}, Details: map[audit.Detail]string{audit.DetailReason: long},
	}))
	e := list(t, l.History, audit.Query{})[0]
	if len(e.KeyID) != 512 || len(e.RequestID) != 128 || !strings.HasSuffix(e.KeyID, "~") ||
		strings.ContainsAny(e.KeyID, "ü\n") {
		t.Errorf("key id of %d bytes, request id of %d: %.20q", len(e.KeyID), len(e.RequestID), e.KeyID)
	}
}

func TestEveryDetailFits(t *testing.T) {
	l := open(t, newStore(t))
	e := audit.Event{Kind: audit.OperatorAction, Outcome: audit.Done, Details: map[audit.Detail]string{}}
	for _, d := range audit.Details() {
		e.Details[d] = strings.Repeat("x", 10_000)
	}
	mustDo(t, l.Append(t.Context(), e))
}

func TestQueries(t *testing.T) {
	l := open(t, newStore(t))
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for n := range 10 {
		e := audit.Event{Kind: audit.KeyWrap, Outcome: audit.Done, Time: start.Add(time.Duration(n) * time.Hour)}
		if n%2 == 0 {
			e.Kind, e.Outcome = audit.KeyUnwrap, audit.Refused
		}
		if n >= 5 {
			e.Resource, e.KeyID, e.Actor = visage.ResourceID{7}, "https://v/keys/k",
				audit.Actor{Kind: audit.Identity, ID: "me"}
		}
		mustDo(t, l.Append(t.Context(), e))
	}
	for _, c := range []struct {
		name string
		q    audit.Query
		want []uint64
	}{
		{"all", audit.Query{}, []uint64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}},
		{"oldest first", audit.Query{Oldest: true, Limit: 3}, []uint64{1, 2, 3}},
		{"kind", audit.Query{Kinds: []audit.Kind{audit.KeyUnwrap}}, []uint64{9, 7, 5, 3, 1}},
		{"outcome", audit.Query{Outcome: audit.Refused, Oldest: true}, []uint64{1, 3, 5, 7, 9}},
		{"resource", audit.Query{Resource: visage.ResourceID{7}}, []uint64{10, 9, 8, 7, 6}},
		{"key", audit.Query{KeyID: "https://v/keys/k", Kinds: []audit.Kind{audit.KeyWrap, audit.KeyLoad}},
			[]uint64{10, 8, 6}},
		{"kinds", audit.Query{Kinds: []audit.Kind{audit.KeyWrap, audit.KeyUnwrap}, Limit: 2}, []uint64{10, 9}},
		{"actor", audit.Query{Actor: "me", Limit: 1}, []uint64{10}},
		{"time", audit.Query{From: start.Add(2 * time.Hour), To: start.Add(4 * time.Hour)}, []uint64{4, 3}},
		{"page", audit.Query{After: 4}, []uint64{3, 2, 1}},
		{"page, oldest first", audit.Query{After: 4, Oldest: true, Limit: 2}, []uint64{5, 6}},
		{"behind the end", audit.Query{After: 10, Oldest: true}, nil},
		{"far behind the end", audit.Query{After: 1 << 63, Oldest: true}, nil},
		{"none", audit.Query{Actor: "you"}, nil},
	} {
		if diff := cmp.Diff(c.want, sequences(list(t, l.History, c.q))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if c.q.Oldest {
			continue
		}
		page, _ := must2(t)(l.Page(t.Context(), c.q))
		if diff := cmp.Diff(c.want, sequences(page)); diff != "" {
			t.Errorf("page of %s (-want +got):\n%s", c.name, diff)
		}
	}
}

// must2 is must for the results of Page.
func must2(t testing.TB) func([]audit.Entry, uint64, error) ([]audit.Entry, uint64) {
	return func(page []audit.Entry, next uint64, err error) ([]audit.Entry, uint64) {
		t.Helper()
		mustDo(t, err)
		return page, next
	}
}

// TestPagesCoverTheLog checks that pages of any length add up to the listing, among the entries that are remembered and
// behind them, also while the log grows.
func TestPagesCoverTheLog(t *testing.T) {
	store := newStore(t)
	l := open(t, store)
	const entries = 15_000
	rare := visage.ResourceID{7}
	for n := 1; n <= entries; n++ {
		e := event(n)
		if n == 2 || n == 4_999 || n == 5_000 || n == 5_001 || n == 14_000 {
			e.Resource = rare
		}
		mustDo(t, l.Note(t.Context(), e))
	}
	mustDo(t, l.Sign(t.Context()))
	for _, q := range []audit.Query{
		{Resource: rare, Limit: 1}, {Resource: rare, Limit: 2}, {Resource: rare}, {Limit: 999}, {Limit: 1000},
		{Resource: visage.ResourceID{8}}, {After: 5_002, Resource: rare, Limit: 1}, {After: 3, Limit: 1}, {After: 1},
		{Oldest: true, Resource: rare, Limit: 1}, {Oldest: true, Resource: rare, Limit: 2},
		{Oldest: true, Resource: rare}, {Oldest: true, Limit: 999}, {Oldest: true, Resource: visage.ResourceID{8}},
		{Oldest: true, After: 4_998, Resource: rare, Limit: 1}, {Oldest: true, After: 14_999},
		{Oldest: true, After: 20_000},
	} {
		all := q
		all.Limit = 0
		want := sequences(list(t, l.History, all))
		for again := range 2 {
			var got []uint64
			pages := 0
			for q, next := q, uint64(1); next != 0; pages++ {
				var page []audit.Entry
				page, next = must2(t)(l.Page(t.Context(), q))
				got = append(got, sequences(page)...)
				q.After = next
				if q.Limit > 0 && len(page) > q.Limit {
					t.Errorf("%+v: a page of %d entries", q, len(page))
				}
				if again > 0 && q.Limit > 0 {
					mustDo(t, l.Append(t.Context(), event(0))) // it is newer than what the pages go through
				}
			}
			if !slices.Equal(got, want) && !(again > 0 && q.Resource == (visage.ResourceID{})) {
				t.Errorf("%+v: %d entries in %d pages, want %d", q, len(got), pages, len(want))
			}
		}
	}
	// another reader reads the newest 10,000 entries and 2,000 behind them
	page, next := must2(t)(audit.Read(store).Page(t.Context(), audit.Query{Resource: rare, Limit: 9}))
	if !slices.Equal(sequences(page), []uint64{14_000, 5_001, 5_000, 4_999}) || next < 1_000 || next > 4_000 {
		t.Errorf("the first page of another reader: %v, %d", sequences(page), next)
	}
}

// watched counts how often entries are read.
type watched struct {
	*sealed.Log
	reads int
}

func (w *watched) From(ctx context.Context, first uint64) iter.Seq2[sealed.Entry, error] {
	w.reads++
	return w.Log.From(ctx, first)
}

// TestPagesReadOnce checks that pages read entries once to search them, also those that are older than the newest
// 10,000.
func TestPagesReadOnce(t *testing.T) {
	store := newStore(t)
	entries := &watched{Log: store.Log("test/entries")}
	streams := audit.Streams{Entries: entries, Checkpoints: store.Log("test/checkpoints")}
	l := must[*audit.Log](t)(audit.OpenOn(t.Context(), audit.Config{Store: store}, streams))
	for n := range 14_500 {
		mustDo(t, l.Note(t.Context(), event(n)))
	}
	mustDo(t, l.Sign(t.Context()))
	reader := audit.ReadOn(audit.Config{Store: store}, streams)
	q := audit.Query{Actor: "nobody", Limit: 50}
	pages := 0
	for next := uint64(1); next != 0; pages++ {
		_, next = must2(t)(reader.Page(t.Context(), q))
		q.After = next
	}
	entries.reads = 0
	if page, next := must2(t)(reader.Page(t.Context(), q)); len(page) > 0 || next != 0 || entries.reads > 0 {
		t.Errorf("after %d pages to the end, another has %d entries, %d as its next, and reads %d times", pages,
			len(page), next, entries.reads)
	}
	q = audit.Query{Limit: 50}
	if page, _ := must2(t)(reader.Page(t.Context(), q)); len(page) != 50 || entries.reads != 1 {
		t.Errorf("a page of the newest %d entries reads %d times", len(page), entries.reads)
	}
}

func TestExportIsOneObjectALine(t *testing.T) {
	l := open(t, newStore(t))
	appendN(t, l, 1, 2500) // more than one view of the store
	var out bytes.Buffer
	n, err := l.Export(t.Context(), &out, audit.Query{Oldest: true})
	if err != nil || n != 2500 {
		t.Fatalf("exported %d, %v", n, err)
	}
	previous := ""
	for i, line := range slices.Collect(strings.Lines(out.String())) {
		var e struct {
			Sequence       int
			Previous, Hash string
		}
		mustDo(t, json.Unmarshal([]byte(line), &e))
		if e.Sequence != i+1 || previous != "" && e.Previous != previous {
			t.Fatalf("line %d has sequence %d and previous %s, want %s", i+1, e.Sequence, e.Previous, previous)
		}
		previous = e.Hash
	}
}

func TestRestartGoesOn(t *testing.T) {
	dir, keys, root := t.TempDir(), t.TempDir(), sourcetest.NewFake("root")
	for round := range 4 {
		store := must[*sealed.Store](t)(sealed.Open(t.Context(), sealed.Config{
			Engine: "pebble:" + dir, KeyDir: keys,
			Protectors: []sealed.Protector{{Name: "test", Kind: "fake", Source: root}},
		}))
		l := open(t, store)
		appendN(t, l, 1, 7)
		if round%2 == 0 { // else the process dies between an entry and its checkpoint
			mustDo(t, l.Sign(t.Context()))
		}
		report := must[audit.Report](t)(l.Verify(t.Context()))
		if want := uint64(round+1) * 7; report.Entries != want || report.Last.Size+report.Unsigned != want {
			t.Errorf("round %d: report %+v, want %d entries", round, report, want)
		}
		mustDo(t, store.Close())
	}
}

func TestAppendTogether(t *testing.T) {
	l := open(t, newStore(t))
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- l.Run(ctx) }()
	const writers, each = 16, 100
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for n := range each {
				var err error
				if e := event(w*each + n); n%3 == 0 {
					err = l.Note(ctx, e)
				} else {
					err = l.Append(ctx, e)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
		group.Go(func() {
			if _, err := l.Verify(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	stop()
	mustDo(t, <-ran)
	report := must[audit.Report](t)(l.Verify(t.Context()))
	if report.Entries != writers*each || report.Unsigned != 0 || report.Checkpoints == 0 {
		t.Errorf("report %+v, want %d entries, all signed", report, writers*each)
	}
	seen := map[string]int{}
	for _, e := range list(t, l.History, audit.Query{}) {
		seen[e.RequestID]++
	}
	if len(seen) != writers*each {
		t.Errorf("%d different entries, want %d", len(seen), writers*each)
	}
}
