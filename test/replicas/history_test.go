//go:build linux

package replicas_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// verb is what a client does to a register.
type verb string

const (
	enrol  verb = "enrol"  // makes a face or person present
	remove verb = "remove" // and absent
	find   verb = "find"   // says which
	lock   verb = "lock"   // closes the data of a resource, by its owner
	unlock verb = "unlock" // and opens it
	use    verb = "use"    // the data was served
)

// input is an operation on a register: a face, a person, or the lock of a resource.
type input struct {
	register string
	verb     verb
}

// output is the answer. Of an operation that was not answered it is not known what became of it: it may take effect at
// any later time, or never.
type output struct{ unknown, yes bool }

// model is what the history of each register must agree with, whichever replicas were asked: faces and persons are
// absent until they are enrolled and after they were removed, resources are open until they are locked.
var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		at := map[string]int{}
		for _, op := range history {
			name := op.Input.(input).register
			i, ok := at[name]
			if !ok {
				i = len(parts)
				at[name], parts = i, append(parts, nil)
			}
			parts[i] = append(parts[i], op)
		}
		return parts
	},
	Init: func() any { return initial },
	Step: func(state, in, out any) (bool, any) {
		i, o, s := in.(input), out.(output), state.(registerState)
		if s == initial {
			s = no
			if strings.HasPrefix(i.register, "lock") {
				s = yes
			}
		}
		switch i.verb {
		case enrol, unlock:
			return true, yes
		case remove:
			return o.unknown || o.yes == (s == yes), no
		case lock:
			return true, no
		case find:
			return o.yes == (s == yes), s
		case use:
			return s == yes, s
		}
		panic("unknown verb " + string(i.verb))
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%s: %+v", in.(input).verb, out) },
}

type registerState byte

const (
	initial registerState = iota
	no
	yes
)

// history is what clients did. It is safe for concurrent use.
type history struct {
	begun time.Time

	mu       sync.Mutex
	ops      []porcupine.Operation
	answered map[verb]int
	unknown  map[verb]int
	wrong    []string // answers that no history explains
}

func newHistory() *history {
	return &history{begun: time.Now(), answered: map[verb]int{}, unknown: map[verb]int{}}
}

// now is the time since the beginning, in nanoseconds of the monotonic clock, which no attack changes.
func (h *history) now() int64 { return int64(time.Since(h.begun)) }

// did adds an operation that began at call.
func (h *history) did(client int, register string, v verb, call int64, out output) {
	h.mu.Lock()
	defer h.mu.Unlock()
	op := porcupine.Operation{ClientId: client, Input: input{register, v}, Call: call, Output: out, Return: h.now()}
	if out.unknown {
		h.unknown[v]++
		if v == find || v == use {
			return // what was not said needs no explanation
		}
		op.Return = math.MaxInt64
	} else {
		h.answered[v]++
	}
	h.ops = append(h.ops, op)
}

// say adds an answer that must not be.
func (h *history) say(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrong = append(h.wrong, fmt.Sprintf("%8.3fs ", time.Since(h.begun).Seconds())+fmt.Sprintf(format, args...))
}

// check compares each register with the model, and returns the histories that no order of the operations explains.
func (h *history) check() (registers int, bad []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	parts := model.Partition(h.ops)
	for _, part := range parts {
		switch porcupine.CheckOperationsTimeout(model, part, time.Minute) {
		case porcupine.Illegal:
			bad = append(bad, describe(part))
		case porcupine.Unknown:
			bad = append(bad, "not decided within a minute: "+describe(part))
		}
	}
	return len(parts), bad
}

// describe writes the history of a register, in the order in which its operations began.
func describe(part []porcupine.Operation) string {
	part = slices.SortedFunc(slices.Values(part), func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var b strings.Builder
	fmt.Fprintln(&b, part[0].Input.(input).register)
	for _, op := range part {
		until := "never answered"
		if op.Return != math.MaxInt64 {
			until = fmt.Sprintf("%.3fs", time.Duration(op.Return).Seconds())
		}
		fmt.Fprintf(&b, "  %.3fs to %s: client %d: %s: %v\n", time.Duration(op.Call).Seconds(), until, op.ClientId,
			op.Input.(input).verb, op.Output.(output).yes)
	}
	return b.String()
}

// TestHistoriesAreJudged shows the model what it must accept and what it must refuse.
func TestHistoriesAreJudged(t *testing.T) {
	type step struct {
		v    verb
		call int64 // in steps; each takes half of one
		out  output
	}
	known, silent := output{yes: true}, output{unknown: true}
	for name, c := range map[string]struct {
		register string
		steps    []step
		bad      int
	}{
		"found between": {"face-1",
			[]step{{enrol, 1, known}, {find, 2, known}, {remove, 3, known}, {find, 4, output{}}}, 0},
		"a lost enrolment":       {"face-1", []step{{enrol, 1, known}, {find, 2, output{}}}, 1},
		"found after removal":    {"face-1", []step{{enrol, 1, known}, {remove, 2, known}, {find, 3, known}}, 1},
		"removed twice":          {"face-1", []step{{enrol, 1, known}, {remove, 2, known}, {remove, 3, known}}, 1},
		"an enrolment that came": {"face-1", []step{{enrol, 1, silent}, {find, 2, known}}, 0},
		"one that never came":    {"face-1", []step{{enrol, 1, silent}, {find, 2, output{}}}, 0},
		"one that came and went": {"face-1", []step{{enrol, 1, silent}, {find, 2, known}, {find, 3, output{}}}, 1},
		"served before the lock": {"lock",
			[]step{{use, 1, known}, {lock, 2, known}, {unlock, 3, known}, {use, 4, known}}, 0},
		"served after the lock": {"lock", []step{{lock, 1, known}, {use, 2, known}}, 1},
		"served while it locks": {"lock", []step{{lock, 1, silent}, {use, 2, known}}, 0},
	} {
		h := newHistory()
		for _, s := range c.steps {
			op := porcupine.Operation{Input: input{c.register, s.v}, Call: 2 * s.call, Output: s.out}
			op.Return = op.Call + 1
			if s.out.unknown {
				op.Return = math.MaxInt64
			}
			h.ops = append(h.ops, op)
		}
		if _, bad := h.check(); len(bad) != c.bad {
			t.Errorf("%s: %d histories are refused, want %d: %v", name, len(bad), c.bad, bad)
		}
	}
}
