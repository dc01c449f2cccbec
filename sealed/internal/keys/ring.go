package keys

import (
	"bytes"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/sealed/internal/format"
)

// Ring holds the keys of an open space, in memory that is wiped: the data key and what follows from it, and the root
// key of each pair of generation and epoch that the head of the root container may be sealed under. The keys of pages
// are in pages; those of upper ones are kept here.
type Ring struct {
	memory *arena.Buffer

	naming     sync.Mutex // guards containers
	containers map[string]format.ID

	keys  sync.RWMutex // guards the slots of root keys and what is in pairs
	pairs [rootKeys]format.Pair

	caching sync.Mutex // guards all up to the next blank line
	pages   map[pageKey]*format.Page
	heads   map[format.ID]openHead

	turns atomic.Uint64 // root keys that were taken out

	changing   sync.Mutex           // held while root keys or the data key are changed
	generation uint32               // of the data key; only changes of keys use it
	seen       atomic.Pointer[seen] // the bundle that the ring was last held against; see Bundles.Compare
}

// seen is a bundle that a ring was held against.
type seen struct {
	row             []byte
	sequence, fence uint64
	made            []byte
}

// The slots of a keyring's memory. There are two root keys while an epoch turns.
const (
	slotHedge = iota
	slotBlind
	slotSet
	slotData
	slotRoots
	rootKeys = 2
)

// pageKey names the content of a page: a key never seals two versions of one.
type pageKey struct {
	key     [format.KeySize]byte
	version uint64
}

// openHead is a head as it was last seen: the same row opens to the same head.
type openHead struct {
	row  []byte
	head *format.Head
}

// cachedHeads bounds the heads that are kept open.
const cachedHeads = 256

// cachedPages bounds the upper pages that are kept open, 14 KiB each at most.
const cachedPages = 128

// NewRing returns a keyring without keys, in memory of a slab.
func NewRing(memories *arena.Slab) (*Ring, error) {
	memory, err := memories.New((slotRoots + rootKeys) * format.KeySize)
	if err != nil {
		return nil, err
	}
	return &Ring{memory: memory, containers: map[string]format.ID{}, pages: map[pageKey]*format.Page{},
		heads: map[format.ID]openHead{}}, nil
}

// rememberedContainers bounds the blinded ids of containers that are kept instead of being derived again for each
// record.
const rememberedContainers = 256

// Container returns the blinded id of a container.
func (k *Ring) Container(table string, parents []string) format.ID {
	var name [128]byte
	key := append(binary.AppendUvarint(name[:0], uint64(len(table))), table...)
	for _, p := range parents {
		key = append(binary.AppendUvarint(key, uint64(len(p))), p...)
	}
	k.naming.Lock()
	id, ok := k.containers[string(key)]
	k.naming.Unlock()
	if ok {
		return id
	}
	id = format.BlindContainer(k.Blind(), table, parents)
	k.naming.Lock()
	defer k.naming.Unlock()
	if len(k.containers) >= rememberedContainers {
		clear(k.containers)
	}
	k.containers[string(key)] = id
	return id
}

func (k *Ring) slot(i int) []byte { return k.memory.Bytes()[i*format.KeySize:][:format.KeySize] }

// Hedge returns the key that salts are hedged with. Callers neither keep nor change it.
func (k *Ring) Hedge() []byte { return k.slot(slotHedge) }

// Blind returns the key that ids are blinded with. Callers neither keep nor change it.
func (k *Ring) Blind() []byte { return k.slot(slotBlind) }

// Set returns the key of the sums in heads. Callers neither keep nor change it.
func (k *Ring) Set() []byte { return k.slot(slotSet) }

func (k *Ring) data() []byte { return k.slot(slotData) }

// copyData copies the data key to dst if it is of a generation, and reports whether it is.
func (k *Ring) copyData(dst []byte, generation uint32) bool {
	k.changing.Lock()
	defer k.changing.Unlock()
	if k.generation != generation {
		return false
	}
	copy(dst, k.data())
	return true
}

// take copies a key into a slot and wipes what it is given.
func (k *Ring) take(slot int, key []byte) { copy(k.slot(slot), key); clear(key) }

// addRoot takes over the root key of a pair; it wipes what it is given.
func (k *Ring) addRoot(pair format.Pair, key []byte) {
	k.keys.Lock()
	defer k.keys.Unlock()
	for i, p := range k.pairs {
		if p == (format.Pair{}) || p == pair {
			k.pairs[i] = pair
			k.take(slotRoots+i, key)
			return
		}
	}
	panic("keys: more root keys than a turn needs")
}

// onlyRoot wipes the root keys of all pairs but one.
func (k *Ring) onlyRoot(pair format.Pair) {
	k.keys.Lock()
	defer k.keys.Unlock()
	k.turns.Add(1)
	for i, p := range k.pairs {
		if p != pair {
			k.pairs[i] = format.Pair{}
			clear(k.slot(slotRoots + i))
		}
	}
}

// WithRoot calls fn with the root key of a pair, and reports whether it is here.
func (k *Ring) WithRoot(pair format.Pair, fn func(key []byte)) bool {
	k.keys.RLock()
	defer k.keys.RUnlock()
	for i, p := range k.pairs {
		if p == pair && pair != (format.Pair{}) {
			fn(k.slot(slotRoots + i))
			return true
		}
	}
	return false
}

// has reports whether the root key of a pair is here.
func (k *Ring) has(pair format.Pair) bool { return k.WithRoot(pair, func([]byte) {}) }

// Turns counts the root keys that were taken out.
func (k *Ring) Turns() uint64 { return k.turns.Load() }

// SetBlind takes over the blinding key; it wipes what it is given.
func (k *Ring) SetBlind(key []byte) {
	k.take(slotBlind, key)
	k.take(slotSet, format.SetKey(k.Blind()))
}

// Head returns a copy of a container's head, if it was last seen as this row.
func (k *Ring) Head(container format.ID, row []byte) *format.Head {
	k.caching.Lock()
	defer k.caching.Unlock()
	o, ok := k.heads[container]
	if !ok || !bytes.Equal(o.row, row) {
		return nil
	}
	return cloneHead(o.head)
}

// KeepHead keeps a copy of a head open. The row must not change any more.
func (k *Ring) KeepHead(container format.ID, row []byte, head *format.Head) {
	k.caching.Lock()
	defer k.caching.Unlock()
	if len(k.heads) >= cachedHeads {
		for _, o := range k.heads {
			clear(o.head.Root.Key)
		}
		clear(k.heads)
	} else if o, ok := k.heads[container]; ok {
		clear(o.head.Root.Key)
	}
	k.heads[container] = openHead{row, cloneHead(head)}
}

func cloneHead(h *format.Head) *format.Head {
	c := *h
	c.Root = h.Root.Clone()
	return &c
}

// Page returns an upper page that is kept open; callers must not change it.
func (k *Ring) Page(secret format.Secret) *format.Page {
	k.caching.Lock()
	defer k.caching.Unlock()
	return k.pages[pageKey{[format.KeySize]byte(secret.Key), secret.Version}]
}

// Keep keeps an upper page open. The one that has to make room is left to the garbage collector: somebody may be
// reading it.
func (k *Ring) Keep(secret format.Secret, page *format.Page) {
	k.caching.Lock()
	defer k.caching.Unlock()
	for old := range k.pages {
		if len(k.pages) < cachedPages {
			break
		}
		delete(k.pages, old)
	}
	k.pages[pageKey{[format.KeySize]byte(secret.Key), secret.Version}] = page
}

// Free wipes all of it. The keyring must not be in use any more.
func (k *Ring) Free() {
	k.memory.Free()
	k.naming.Lock()
	clear(k.containers)
	k.naming.Unlock()
	k.caching.Lock()
	defer k.caching.Unlock()
	for _, page := range k.pages {
		page.Wipe()
	}
	clear(k.pages)
	for _, o := range k.heads {
		clear(o.head.Root.Key)
	}
	clear(k.heads)
}
