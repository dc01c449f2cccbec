package prove_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// childEnv makes the test binary run as the named child, which is to be killed.
const childEnv = "VISAGE_PROVE_CHILD"

func TestMain(m *testing.M) {
	switch child := os.Getenv(childEnv); child {
	case "":
		os.Exit(run(m))
	case "store":
		if err := storeChild(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "store child:", err)
			os.Exit(1)
		}
	case "serve":
		if err := serveChild(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "serve child:", err)
			os.Exit(1)
		}
	default:
		fmt.Fprintf(os.Stderr, "%s=%s is not a child\n", childEnv, child)
		os.Exit(2)
	}
}

// scratch is the folder in which the program is built, for all tests of a run.
var scratch string

func run(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "visage-prove-"); err != nil {
		fmt.Fprintln(os.Stderr, "create a build folder:", err)
		return 1
	}
	defer os.RemoveAll(scratch)
	return m.Run()
}

// rounds is how often to kill: a few times in a plain run, else VISAGE_ROUNDS.
func rounds(t *testing.T, plain int) int {
	t.Helper()
	s := os.Getenv("VISAGE_ROUNDS")
	if s == "" {
		return plain
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("VISAGE_ROUNDS=%q is not a number of rounds", s)
	}
	return n
}

// chance returns the run's source of random choices and logs how to repeat them.
func chance(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("VISAGE_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("VISAGE_SEED=%q is not a seed", s)
		}
		seed = n
	}
	t.Logf("repeat with: VISAGE_SEED=%d go test ./test/prove -run '^%s$'", seed, t.Name())
	return rand.New(rand.NewPCG(seed, 0))
}

// source returns the source of random choices of one actor.
func source(seed [2]uint64) *rand.Rand { return rand.New(rand.NewPCG(seed[0], seed[1])) }

// sortedKeys returns the keys of a map in order, so that choices do not depend on the order of the map.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
