package lease

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// MemberStatus is how a process stands that has the store open, or had it a minute ago and did not close it.
type MemberStatus struct {
	Member
	Silent  time.Duration // for how long this process has seen no sign of life of it
	Expired bool          // it was silent for so long that it does not count any more, and what it claimed is free
	Claims  []string      // the names of what it has claimed, in their order
}

// Survey reads how all members stand, this process first. It is the only one if the engine is not shared.
func (l *Leases) Survey(ctx context.Context) (all []MemberStatus, err error) {
	if !l.shared {
		return []MemberStatus{l.alone()}, nil
	}
	defer l.root.Hold()()
	err = l.engine.View(ctx, func(r engine.Reader) error {
		all = nil
		at := map[format.ID]int{}
		err := l.each(r, rowkey.Member, func(key []byte, f found) error {
			at[f.doc.Holder] = len(all)
			m := MemberStatus{Expired: l.expired(key, f)}
			m.Member = f.member()
			m.Self = f.doc.Holder == l.self
			if !m.Self {
				m.Silent = l.silent(key)
			}
			all = append(all, m)
			return nil
		})
		if err != nil {
			return err
		}
		return l.each(r, rowkey.Lease, func(key []byte, f found) error {
			if i, ok := at[f.doc.Holder]; ok && f.doc.Name != "" && !l.expired(key, f) {
				all[i].Claims = append(all[i].Claims, f.doc.Name)
			}
			return nil
		})
	})
	for _, m := range all {
		slices.Sort(m.Claims)
	}
	slices.SortStableFunc(all, func(a, b MemberStatus) int {
		switch {
		case a.Self == b.Self:
			return bytes.Compare(a.ID[:], b.ID[:])
		case a.Self:
			return -1
		}
		return 1
	})
	return all, err
}

func (l *Leases) alone() MemberStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := MemberStatus{Member: Member{ID: l.self, Self: true, Note: l.note, Knows: l.knows}}
	for name := range l.held {
		m.Claims = append(m.Claims, name)
	}
	slices.Sort(m.Claims)
	return m
}

// silent returns how long ago this process has seen a row change.
func (l *Leases) silent(key []byte) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.seen[string(key)].since)
}
