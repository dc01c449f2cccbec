package audit_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/audit"
)

// TestRunsAreCounted: the first of many alike is told at once, and the others by their number, however many come and
// from however many places.
func TestRunsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		log, err := audit.Open(t.Context(), audit.Config{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- log.Run(ctx) }()
		refuse := func(from string) {
			t.Helper()
			err := log.Tally(
				ctx, audit.Event{Kind: audit.AccessRefuse, Outcome: audit.Refused, Code: "No",
					Actor:     audit.Actor{Kind: audit.Anonymous},
					RequestID: time.Now().String(), Details: map[audit.Detail]string{audit.DetailAddress: from}})
			if err != nil {
				t.Fatal(err)
			}
		}
		// One place, a refusal a second, for two hours.
		for range 7200 {
			refuse("a")
			time.Sleep(time.Second)
		}
		time.Sleep(3 * time.Hour)
		refuse("a") // a run of its own, after the other has ended
		// A thousand places at once.
		for i := range 1000 {
			refuse(fmt.Sprint(i))
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		var a []string
		places, others, total := 0, 0, 0
		for e, err := range audit.Read(store).Entries(t.Context(), audit.Query{Oldest: true}) {
			if err != nil {
				t.Fatal(err)
			}
			n := 1
			if c := e.Details[audit.DetailCount]; c != "" {
				fmt.Sscan(c, &n)
				if e.RequestID != "" || e.Details[audit.DetailSince] == "" {
					t.Errorf("a number is told as %+v", e.Event)
				}
			}
			total += n
			switch {
			case e.Details[audit.DetailAddress] == "a":
				a = append(a, e.Details[audit.DetailCount])
			case e.Details[audit.DetailOperation] == "others":
				others += n
			default:
				places++
			}
		}
		if len(a) < 6 || len(a) > 10 || a[0] != "" || a[1] == "" || slices.Contains(a[1:len(a)-1], "") {
			t.Errorf("one place is told of as %q", a)
		}
		if total != 7200+1+1000 || places > 40 || others < 900 {
			t.Errorf("%d events were told of; of a thousand places %d by themselves and %d as others", total, places,
				others)
		}
	})
}

// TestRunsOutliveAFullDisk: nobody is kept from signing in by it, and everything is told when it is over.
func TestRunsOutliveAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTapedLog(t)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.log.Run(ctx) }()
		r.entries.breakWith(errDisk, nil)
		const each = 60
		for range each {
			for _, app := range []string{"a", "b"} {
				mustDo(t, r.log.Tally(ctx, audit.Event{
					Kind: audit.IdentityToken, Outcome: audit.Done, Actor: audit.Actor{Kind: audit.Identity, ID: app},
				}))
			}
			time.Sleep(3 * time.Second)
		}
		mustDo(
			t, r.log.Tally(
				ctx, audit.Event{Kind: audit.IdentityToken, Outcome: audit.Done,
					Actor: audit.Actor{Kind: audit.Identity, ID: "late"}},
			),
		)
		r.entries.breakWith(nil, nil)
		time.Sleep(time.Hour)
		stop()
		mustDo(t, <-ended)
		told := map[string]int{}
		for _, e := range list(t, r.log.History, audit.Query{Oldest: true}) {
			n := 1
			if c := e.Details[audit.DetailCount]; c != "" {
				fmt.Sscan(c, &n)
			}
			told[e.Actor.ID] += n
		}
		if told["a"] != each || told["b"] != each || told["late"] != 1 {
			t.Errorf("told of %v", told)
		}
	})
}

// TestStrangersHideNoIdentity: attempts on identities that exist are counted apart from those on names that anybody can
// make up, so that the latter cannot push the former into "others".
func TestStrangersHideNoIdentity(t *testing.T) {
	log, err := audit.Open(t.Context(), audit.Config{Store: newStore(t)})
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(d audit.Detail, value string) {
		t.Helper()
		err := log.Tally(t.Context(), audit.Event{Kind: audit.IdentityToken, Outcome: audit.Refused,
			Actor: audit.Actor{Kind: audit.Anonymous}, Details: map[audit.Detail]string{d: value}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1000 {
		refuse(audit.DetailClient, fmt.Sprint(i))
	}
	refuse(audit.DetailSubject, "attacked")
	ended, stop := context.WithCancel(t.Context())
	stop()
	if err := log.Run(ended); err != nil {
		t.Fatal(err)
	}
	found := 0
	for e, err := range log.Entries(t.Context(), audit.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Details[audit.DetailSubject] == "attacked" {
			found++
		}
	}
	if found != 1 {
		t.Errorf("%d entries of the identity that was attacked", found)
	}
}
