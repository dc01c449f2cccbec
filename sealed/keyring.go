package sealed

import (
	"encoding/binary"
	"sync"

	"github.com/visage-face/visage/internal/arena"
	"github.com/visage-face/visage/sealed/internal/format"
)

// keyring holds the keys of an open space, in memory that is wiped: a page key for each pair of generation and epoch that is alive, the
// hedging key, and the blinding key. Data keys and epoch keys are not kept: what follows from them is enough.
type keyring struct {
	memory  *arena.Buffer
	pairs   []format.Pair // pairs[i]'s page key is slot 2+i of memory
	current format.Pair   // what is written now

	naming     sync.Mutex // guards containers
	containers map[string]format.ID

	// guarded by the space's mu
	users   int           // transactions that use it
	retired bool          // nobody new may use it; it is freed when the last user has left
	left    chan struct{} // closed when it is freed
}

func newKeyring(pairs int) (*keyring, error) {
	memory, err := arena.New((2 + pairs) * format.KeySize)
	if err != nil {
		return nil, err
	}
	return &keyring{memory: memory, containers: map[string]format.ID{}, left: make(chan struct{})}, nil
}

// rememberedContainers bounds the blinded ids of containers that are kept instead of being derived anew for each record.
const rememberedContainers = 256

// container returns the blinded id of a container.
func (k *keyring) container(table string, parents []string) format.ID {
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
	id = format.BlindContainer(k.blind(), table, parents)
	k.naming.Lock()
	defer k.naming.Unlock()
	if len(k.containers) >= rememberedContainers {
		clear(k.containers)
	}
	k.containers[string(key)] = id
	return id
}

func (k *keyring) slot(i int) []byte { return k.memory.Bytes()[i*format.KeySize:][:format.KeySize] }

func (k *keyring) hedge() []byte { return k.slot(0) }
func (k *keyring) blind() []byte { return k.slot(1) }

// setHedge, setBlind and add take a key over: they wipe what they are given.
func (k *keyring) setHedge(key []byte) { copy(k.slot(0), key); clear(key) }
func (k *keyring) setBlind(key []byte) { copy(k.slot(1), key); clear(key) }
func (k *keyring) add(pair format.Pair, key []byte) {
	k.pairs = append(k.pairs, pair)
	copy(k.slot(1+len(k.pairs)), key)
	clear(key)
}

// pageKey returns the page key of a pair, nil when it is not alive.
func (k *keyring) pageKey(pair format.Pair) []byte {
	for i, p := range k.pairs {
		if p == pair {
			return k.slot(2 + i)
		}
	}
	return nil
}

func (k *keyring) free() {
	k.memory.Free()
	k.naming.Lock()
	defer k.naming.Unlock()
	clear(k.containers)
}
