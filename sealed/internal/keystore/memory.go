package keystore

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/visage-face/visage/sealed/internal/format"
)

// Memory keeps epoch keys for a store that forgets.
type Memory struct {
	mu   sync.Mutex
	keys map[format.ID]map[uint32][]byte
	mark []byte // nil: there is none
}

// Mark implements Marks.
func (m *Memory) Mark(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mark == nil {
		return nil, ErrNotFound
	}
	return m.mark, nil
}

// SetMark implements Marks.
func (m *Memory) SetMark(_ context.Context, from, to []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !bytes.Equal(m.mark, from) {
		return ErrChanged
	}
	m.mark = to
	return nil
}

// Put implements Store.
func (m *Memory) Put(_ context.Context, space format.ID, epoch uint32, sealed []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys == nil {
		m.keys = map[format.ID]map[uint32][]byte{}
	}
	if m.keys[space] == nil {
		m.keys[space] = map[uint32][]byte{}
	}
	if _, ok := m.keys[space][epoch]; ok {
		return fmt.Errorf("%w: %d of %s", ErrExists, epoch, space)
	}
	m.keys[space][epoch] = sealed
	return nil
}

// Get implements Store.
func (m *Memory) Get(_ context.Context, space format.ID, epoch uint32) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key, ok := m.keys[space][epoch]
	if !ok {
		return nil, ErrNotFound
	}
	return key, nil
}

// Replace implements Store.
func (m *Memory) Replace(_ context.Context, space format.ID, epoch uint32, from, to []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, ok := m.keys[space][epoch]
	switch {
	case !ok:
		return ErrNotFound
	case !bytes.Equal(now, from):
		return ErrChanged
	}
	m.keys[space][epoch] = to
	return nil
}

// Tidy implements Store.
func (m *Memory) Tidy(context.Context, format.ID) error { return nil }

// Destroy implements Store.
func (m *Memory) Destroy(_ context.Context, space format.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keys, space)
	return nil
}

// List implements Store.
func (m *Memory) List(_ context.Context, space format.ID) (epochs []uint32, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for epoch := range m.keys[space] {
		epochs = append(epochs, epoch)
	}
	return epochs, nil
}

// DestroyEpoch implements Store.
func (m *Memory) DestroyEpoch(_ context.Context, space format.ID, epoch uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keys[space], epoch)
	return nil
}

// Spaces implements Place.
func (m *Memory) Spaces(context.Context) ([]format.ID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.keys)), nil
}

// Grade implements Place.
func (m *Memory) Grade() (Grade, string) { return GradeStore, "" }

// GradeOf implements Place.
func (m *Memory) GradeOf(context.Context, format.ID, uint32) (Grade, error) { return GradeStore, nil }

// Name implements Place.
func (m *Memory) Name() string { return "memory" }

// Close implements Place.
func (m *Memory) Close() {}
