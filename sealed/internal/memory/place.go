package memory

import (
	"sync"

	"github.com/visage-face/visage/sealed/internal/keystore"
)

// places are the rows that engines of this process share, by name: what a database server would keep for several
// processes. It is the one thing in this package that outlives an engine.
var places struct {
	mu     sync.Mutex
	byName map[string]*place
}

type place struct {
	rows   *rows
	epochs *keystore.Memory
	users  int
}

// Open returns an engine of the rows and epoch keys that all engines of this process share which were opened with the
// same name. They are forgotten when the last of these engines is closed.
func Open(name string) *Engine {
	places.mu.Lock()
	defer places.mu.Unlock()
	p := places.byName[name]
	if p == nil {
		p = &place{rows: newRows(), epochs: &keystore.Memory{}}
		if places.byName == nil {
			places.byName = map[string]*place{}
		}
		places.byName[name] = p
	}
	p.users++
	return &Engine{shared: true, rows: p.rows, epochs: p.epochs, closed: func() {
		places.mu.Lock()
		defer places.mu.Unlock()
		if p.users--; p.users == 0 {
			delete(places.byName, name)
		}
	}}
}
