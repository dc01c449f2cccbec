package prove_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/visage-face/visage/sealed"
)

// The store child writes to a sealed store until it is killed. On its standard output it announces each transaction and
// reports when it is durable, one line of JSON each, written by one write call: the kernel has either the whole line or
// nothing.

// note is such a line. A note without Done announces a transaction, one with Done says that it is durable.
type note struct {
	Writer int               `json:"w"`
	Done   bool              `json:"done,omitempty"`
	Put    map[string]string `json:"put,omitempty"`
	Delete []string          `json:"delete,omitempty"`
}

// thing is a record of the child. Text is derived from Token, so that a reader detects damage.
type thing struct {
	ID    string
	Token string
	Text  string
}

// The tables of the store child. Every transaction changes both in the same way, so that half a transaction is
// detected.
var (
	things = sealed.NewTable[thing]("prove/things", 1)
	twins  = sealed.NewTable[thing]("prove/twins", 1)
)

// proveSpace is the space the child writes to.
var proveSpace = sealed.SpaceID{'p', 'r', 'o', 'v', 'e'}

// writers is how many goroutines write at the same time, each to containers of its own.
const writers = 16

// storeChild runs with the arguments: directory, seed.
func storeChild(args []string) error {
	if len(args) != 2 {
		return errors.New("want the arguments: directory, seed")
	}
	seed, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return fmt.Errorf("read the seed: %w", err)
	}
	ctx := context.Background()
	store, err := openStore(ctx, args[0])
	if err != nil {
		return err
	}
	space, err := openSpace(ctx, store)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	failed := make(chan error, writers+1)
	wg.Go(func() { failed <- store.Run(ctx) }) // folds while the writers write
	for w := range writers {
		wg.Go(func() { failed <- writeUntilKilled(ctx, space, w, rand.New(rand.NewPCG(seed, uint64(w)))) })
	}
	return <-failed // a writer ends only with an error or by the kill
}

// writeUntilKilled makes transaction after transaction.
func writeUntilKilled(ctx context.Context, space *sealed.Space, w int, r *rand.Rand) error {
	state, err := readThings(ctx, space, w)
	if err != nil {
		return err
	}
	for serial := 0; ; serial++ {
		n := nextNote(state, w, serial, r)
		if err := tell(n); err != nil {
			return err
		}
		err := space.Update(ctx, func(tx sealed.Tx) error {
			for id, token := range n.Put {
				for _, table := range []sealed.Table[thing]{things, twins} {
					if err := table.In(container(w)).
						Put(tx, id, thing{ID: id, Token: token, Text: expand(token)}); err != nil {
						return err
					}
				}
			}
			for _, id := range n.Delete {
				for _, table := range []sealed.Table[thing]{things, twins} {
					if err := table.In(container(w)).Delete(tx, id); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("writer %d: %w", w, err)
		}
		if err := tell(note{Writer: w, Done: true}); err != nil {
			return err
		}
		n.applyTo(state)
	}
}

// nextNote draws a transaction: some new things, some changes, some deletions.
func nextNote(state map[string]string, w, serial int, r *rand.Rand) note {
	ids := sortedKeys(state)
	n := note{Writer: w, Put: make(map[string]string)}
	for range 1 + r.IntN(3) {
		id := fmt.Sprintf("thing-%08x", r.Uint32())
		if len(ids) > 0 && r.IntN(3) == 0 {
			id = ids[r.IntN(len(ids))]
		}
		n.Put[id] = fmt.Sprintf("canary-%d-%d-%08x", w, serial, r.Uint32())
	}
	if len(ids) > 0 && r.IntN(4) == 0 {
		if id := ids[r.IntN(len(ids))]; n.Put[id] == "" {
			n.Delete = append(n.Delete, id)
		}
	}
	return n
}

func (n note) applyTo(state map[string]string) {
	for id, token := range n.Put {
		state[id] = token
	}
	for _, id := range n.Delete {
		delete(state, id)
	}
}

func tell(n note) error {
	line, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("write a note: %w", err)
	}
	if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write a note: %w", err)
	}
	return nil
}

// expand derives a text from a token; its length, up to some kilobytes, depends on the token as well.
func expand(token string) string {
	last := token[len(token)-1]
	return strings.Repeat(token+" ", 1+int(last)%16*int(last)%97)
}

func container(w int) string { return "writer-" + strconv.Itoa(w) }

// readThings reads a writer's containers, by id and token, and checks that the two tables agree and that no thing is
// damaged.
func readThings(ctx context.Context, space *sealed.Space, w int) (map[string]string, error) {
	state := make(map[string]string)
	err := space.View(ctx, func(r sealed.Reader) error {
		clear(state) // a view may run twice
		for t, err := range things.In(container(w)).All(r) {
			if err != nil {
				return err
			}
			if t.Text != expand(t.Token) {
				return fmt.Errorf("thing %s is damaged", t.ID)
			}
			state[t.ID] = t.Token
		}
		seen := 0
		for t, err := range twins.In(container(w)).All(r) {
			if err != nil {
				return err
			}
			if state[t.ID] != t.Token || t.Text != expand(t.Token) {
				return fmt.Errorf("the twin of thing %s is another: half a transaction", t.ID)
			}
			seen++
		}
		if seen != len(state) {
			return fmt.Errorf("%d things have %d twins: half a transaction", len(state), seen)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what writer %d wrote: %w", w, err)
	}
	return state, nil
}
