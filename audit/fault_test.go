package audit_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/audit"
)

var errDisk = errors.New("the disk is on fire")

// TestAppendFailsWithTheDisk: an operation on a key is not done without its entry, and one entry is not written twice.
func TestAppendFailsWithTheDisk(t *testing.T) {
	for _, done := range []bool{false, true} {
		r := newTapedLog(t)
		appendN(t, r.log, 1, 3)
		mustDo(t, r.log.Note(t.Context(), event(4)))
		want := uint64(5) // 1, 2, 3, the noted one, the last one
		if done {
			r.entries.breakWith(nil, errDisk)
			want = 6 // the one that failed is there too
		} else {
			r.entries.breakWith(errDisk, nil)
		}
		if err := r.log.Append(t.Context(), event(5)); !errors.Is(err, errDisk) {
			t.Fatalf("append: %v, want the disk's error", err)
		}
		r.entries.breakWith(nil, nil)
		appendN(t, r.log, 6, 6)
		mustDo(t, r.log.Sign(t.Context()))
		report := must[audit.Report](t)(r.log.Verify(t.Context()))
		if report.Entries != want || report.Unsigned != 0 {
			t.Errorf("failed and done %t: %d entries, %d unsigned, want %d and 0", done, report.Entries,
				report.Unsigned, want)
		}
		if _, err := r.open(t); err != nil {
			t.Errorf("failed and done %t: open again: %v", done, err)
		}
	}
}

// TestASecondWriterIsNoticed: two logs on one store would fork the chain.
func TestASecondWriterIsNoticed(t *testing.T) {
	r := newTapedLog(t)
	other := must[*audit.Log](t)(r.open(t))
	appendN(t, r.log, 1, 1)
	if err := other.Append(t.Context(), event(2)); err == nil || !strings.Contains(err.Error(), "did not write") {
		t.Errorf("append by a second writer: %v", err)
	}
	appendN(t, r.log, 3, 3)
	if got := must[audit.Report](t)(r.log.Verify(t.Context())).Entries; got != 2 {
		t.Errorf("%d entries, want 2", got)
	}
}

func TestAnEndedContextWritesNothing(t *testing.T) {
	r := newTapedLog(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.log.Append(ctx, event(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v", err)
	}
	if err := r.log.Note(ctx, event(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("note: %v", err)
	}
	mustDo(t, r.log.Sign(t.Context()))
	if len(r.entries.data) != 0 {
		t.Errorf("%d entries were written", len(r.entries.data))
	}
}

// TestRunSigns: a checkpoint each second while something happens, none while nothing does, and one at the end.
func TestRunSigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTapedLog(t)
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error)
		l := r.log
		go func() { ran <- l.Run(ctx) }()
		wait := func(d time.Duration) {
			time.Sleep(d) // of the bubble
			synctest.Wait()
		}
		wait(1500 * time.Millisecond)
		appendN(t, l, 1, 5)
		wait(10 * time.Second)
		if got := len(r.checkpoints.data); got != 1 {
			t.Errorf("%d checkpoints after ten seconds in which something happened once, want 1", got)
		}
		for n := range 2100 { // within one instant
			mustDo(t, l.Note(ctx, event(n)))
		}
		synctest.Wait()
		if got := len(r.checkpoints.data); got < 2 {
			t.Errorf("%d checkpoints after 2100 entries, want one of them without waiting for the second", got)
		}
		mustDo(t, l.Note(ctx, event(9999)))
		stop()
		mustDo(t, <-ran)
		report := must[audit.Report](t)(l.Verify(t.Context()))
		if report.Entries != 2106 || report.Unsigned != 0 {
			t.Errorf("%d entries, %d unsigned, want 2106 and 0", report.Entries, report.Unsigned)
		}
	})
}

// TestNoteRunsAheadForAMinute: data operations go on for 60 s without a disk, then they fail, and go on when it is
// back, with nothing lost of what they were told was taken.
func TestNoteRunsAheadForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTapedLog(t)
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error)
		l := r.log
		go func() { ran <- l.Run(ctx) }()
		r.entries.breakWith(errDisk, nil)
		start := time.Now()
		taken := 0
		for time.Since(start) < 2*time.Minute {
			err := l.Note(ctx, event(taken))
			if late := time.Since(start) > time.Minute; late != errors.Is(err, audit.ErrBehind) {
				t.Fatalf("note after %v: %v", time.Since(start), err)
			}
			if err == nil {
				taken++
			}
			time.Sleep(500 * time.Millisecond) // of the bubble
		}
		if err := l.Append(ctx, event(-1)); !errors.Is(err, errDisk) {
			t.Errorf("append without a disk: %v", err)
		}
		r.entries.breakWith(nil, nil)
		time.Sleep(2 * time.Second)
		mustDo(t, l.Note(ctx, event(taken)))
		stop()
		mustDo(t, <-ran)
		all := list(t, l.History, audit.Query{Oldest: true})
		if len(all) != taken+1 {
			t.Fatalf("%d entries, want the %d that were taken and one more", len(all), taken)
		}
		for n, e := range all {
			if e.RequestID != event(n).RequestID {
				t.Fatalf("entry %d is of %s", e.Sequence, e.RequestID)
			}
		}
	})
}

// TestNoteHoldsNoMoreThanItsBuffer: 64 MiB, then nothing more is taken, and all of it is written when the disk is back.
func TestNoteHoldsNoMoreThanItsBuffer(t *testing.T) {
	r := newTapedLog(t)
	r.entries.breakWith(errDisk, nil)
	e := event(1)
	e.Details = map[audit.Detail]string{}
	for _, d := range audit.Details() {
		e.Details[d] = strings.Repeat("x", 256)
	}
	taken := 0
	for r.log.Note(t.Context(), e) == nil {
		taken++
	}
	if err := r.log.Note(t.Context(), e); !errors.Is(err, audit.ErrBehind) {
		t.Fatalf("note: %v", err)
	}
	r.entries.breakWith(nil, nil)
	mustDo(t, r.log.Sign(t.Context()))
	size := 0
	for _, b := range r.entries.data {
		size += len(b) - 44 // the header is made when it is written
	}
	if len(r.entries.data) != taken || size > 64<<20 || size < 63<<20 {
		t.Errorf("%d entries of %d bytes, want the %d taken in 64 MiB", len(r.entries.data), size, taken)
	}
	mustDo(t, r.log.Note(t.Context(), e))
}
