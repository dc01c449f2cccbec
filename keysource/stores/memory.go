package stores

import (
	"sync"

	"github.com/visage-face/visage/keysource/hashivault"
	"github.com/visage-face/visage/keysource/helper"
)

// Memory is what a process remembers of stores, by their addresses, whichever of its sets and connections has learned
// it: which secret a store has refused. Stores count refused logins and lock out those who make them, so the same
// secret is not sent again for each set. The zero value is empty. It is safe for concurrent use.
type Memory struct {
	mu  sync.Mutex
	all map[string]*remembered
}

// remembered is what is remembered of one store.
type remembered struct {
	helper   helper.Memory
	refusals hashivault.Refusals
}

// of returns what is remembered of the store at an address in its one spelling.
func (m *Memory) of(address string) *remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all == nil {
		m.all = map[string]*remembered{}
	}
	its := m.all[address]
	if its == nil {
		its = &remembered{}
		m.all[address] = its
	}
	return its
}
