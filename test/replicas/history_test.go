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

	discard verb = "discard" // deletes a resource, which can be recovered
	restore verb = "restore" // recovers it
	erase   verb = "erase"   // destroys it for good
	serve   verb = "serve"   // says whether its data is served

	rotate verb = "rotate" // makes a newer version of a key
	show   verb = "show"   // says which version is in use
)

// input is an operation on a register: a face, a person, the lock of a resource, a resource, or the version of a key.
type input struct {
	register string
	verb     verb
	version  string // that was made, or is in use; empty: not known
}

// output is the answer. Of an operation that was not answered it is not known what became of it: it may take effect at
// any later time, or never.
type output struct{ unknown, yes bool }

// model is what the history of each register must agree with, whichever replicas were asked: faces, persons and
// resources are absent until they are enrolled and after they were removed, resources are open until they are locked,
// those that were erased never come back, and no replica returns to a version of a key that another one has left.
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
	Init: func() any { return state{} },
	Step: func(before, in, out any) (bool, any) {
		i, o, s := in.(input), out.(output), before.(state)
		if i.verb == rotate || i.verb == show {
			return s.version(i, o)
		}
		if s.life == initial {
			s.life = no
			if strings.HasPrefix(i.register, "lock") {
				s.life = yes
			}
		}
		next := func(of life) state { return state{life: of} }
		switch i.verb {
		case enrol, unlock:
			return true, next(yes)
		case remove:
			return o.unknown || o.yes == (s.life == yes), next(no)
		case lock:
			return true, next(no)
		case find, serve:
			return o.yes == (s.life == yes), s
		case use:
			return s.life == yes, s
		case discard:
			return s.become(yes, discarded, o)
		case restore:
			return s.become(discarded, yes, o)
		case erase:
			return s.become(discarded, erased, o)
		}
		panic("unknown verb " + string(i.verb))
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%s: %+v", in.(input).verb, out) },
}

// life is what became of something.
type life byte

const (
	initial life = iota
	no
	yes
	discarded
	erased
)

// state is that of a register.
type state struct {
	life life

	current    string // version of a key in use
	made, left string // the versions before it was made, and those that were in use before, each with a space before it
	unknown    bool   // further versions may have been made
}

// become takes a resource from one state to another. An answer of no says that it was not in the first one.
func (s state) become(from, to life, o output) (bool, state) {
	if s.life != from {
		return o.unknown || !o.yes, s
	}
	return o.unknown || o.yes, state{life: to}
}

// version makes a version of a key, or takes note of the one in use.
func (s state) version(i input, o output) (bool, state) {
	has := func(versions string) bool { return strings.Contains(versions+" ", " "+i.version+" ") }
	switch {
	case i.verb == rotate && o.unknown:
		s.unknown = true
	case i.verb == rotate:
		s.made += " " + i.version
	case i.version == s.current:
	case has(s.left), !has(s.made) && !s.unknown:
		return false, s
	default:
		s.left += " " + s.current
		s.current = i.version
	}
	return true, s
}

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

// lag is how old what a replica knows of resources and keys may be, as docs/operations/cluster.md promises: an answer
// may be that of any moment from so long before its question.
const lag = time.Second

// did adds an operation that began at call.
func (h *history) did(client int, register string, v verb, call int64, out output) {
	h.didTo(client, input{register: register, verb: v}, call, out)
}

func (h *history) didTo(client int, in input, call int64, out output) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := in.verb
	if v == serve || v == show {
		call -= int64(lag)
	}
	op := porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: h.now()}
	if out.unknown {
		h.unknown[v]++
		if v == find || v == use || v == serve || v == show {
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
		in := op.Input.(input)
		fmt.Fprintf(&b, "  %.3fs to %s: client %d: %s %s: %v\n", time.Duration(op.Call).Seconds(), until, op.ClientId,
			in.verb, in.version, op.Output.(output).yes)
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
	version := func(v verb, call int64, of string) step { return step{v + " " + verb(of), call, output{yes: true}} }
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
		"recovered": {"resource", []step{{enrol, 1, known}, {discard, 2, known}, {serve, 3, output{}},
			{restore, 4, known}, {serve, 5, known}}, 0},
		"served while deleted": {"resource", []step{{enrol, 1, known}, {discard, 2, known}, {serve, 3, known}}, 1},
		"not served after it was recovered": {"resource", []step{{enrol, 1, known}, {discard, 2, known},
			{restore, 3, known}, {serve, 4, output{}}}, 1},
		"recovered after it was erased": {"resource", []step{{enrol, 1, known}, {discard, 2, known},
			{erase, 3, known}, {restore, 4, known}}, 1},
		"served after it was erased": {"resource", []step{{enrol, 1, known}, {discard, 2, known}, {erase, 3, known},
			{restore, 4, silent}, {serve, 5, known}}, 1},
		"recovered unless it was erased": {"resource", []step{{enrol, 1, known}, {discard, 2, known},
			{erase, 3, silent}, {restore, 4, silent}, {serve, 5, known}, {serve, 6, known}}, 0},
		"a key that is followed": {"key", []step{version(rotate, 1, "1"), version(show, 2, "1"),
			version(rotate, 3, "2"), version(show, 4, "1"), version(rotate, 5, "3"),
			version(show, 6, "3"), version(show, 7, "3")}, 0},
		"a key that goes back": {"key", []step{version(rotate, 1, "1"), version(show, 2, "1"), version(rotate, 3, "2"),
			version(show, 4, "2"), version(show, 5, "1")}, 1},
		"a version that nobody made": {"key", []step{version(rotate, 1, "1"), version(show, 2, "2")}, 1},
		"a version that somebody may have made": {"key", []step{version(rotate, 1, "1"), {rotate, 2, silent},
			version(show, 3, "2")}, 0},
	} {
		h := newHistory()
		for _, s := range c.steps {
			v, of, _ := strings.Cut(string(s.v), " ")
			op := porcupine.Operation{Input: input{c.register, verb(v), of}, Call: 2 * s.call, Output: s.out}
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
