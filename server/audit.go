package server

import (
	"context"
	"crypto/fips140"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// openAudit opens the audit log, and runs it until opened closes it. Its entries show when the instance started and
// stopped, and on which machine.
func (s *Server) openAudit(ctx context.Context, store *sealed.Store, opened *closers) (*audit.Log, error) {
	l, err := audit.Open(ctx, audit.Config{Store: store, Logger: s.log})
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx)) // it outlives everything that records events
	ended := make(chan error, 1)
	go func() { ended <- l.Run(running) }()
	s.audit.Store(l)
	opened.add("audit log", func() error {
		s.audit.Store(nil)
		stopped := instanceEvent(audit.InstanceStop)
		err := errors.Join(l.Settle(running), l.Append(running, stopped))
		stop()
		return errors.Join(err, <-ended)
	})
	started := instanceEvent(audit.InstanceStart)
	started.Set(audit.DetailBuild, build())
	started.Set(audit.DetailRuntime, runtime.Version())
	started.Set(audit.DetailFIPS, fipsMode())
	if err = l.Append(ctx, started); err == nil {
		err = auditMigrations(ctx, store, l)
	}
	return l, err
}

func instanceEvent(kind audit.Kind) audit.Event {
	e := audit.Event{Kind: kind, Outcome: audit.Done}
	if node, err := os.Hostname(); err == nil { // without a name, the entry is without a node
		e.Set(audit.DetailNode, node)
	}
	return e
}

// auditLateMigrations records migrations that end while the server runs, as those of a store that replicas share do,
// until ctx ends. What cannot be recorded now is recorded at the next start of a replica.
func (s *Server) auditLateMigrations(ctx context.Context, l *layers) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.migrated:
		}
		if err := auditMigrations(ctx, l.store, l.audit); err != nil && ctx.Err() == nil {
			s.log.Error("a migration of the store is not in the audit log yet; the next start records it", "err", err)
		}
	}
}

// auditMigrations records the migrations that brought the store to its format. Most ran before the log could open, in
// this program or in an offline command; the store keeps them until they are recorded.
func auditMigrations(ctx context.Context, store *sealed.Store, l *audit.Log) error {
	return store.Maintenance().TellMigrations(ctx, func(m sealed.Migration) error {
		return l.Append(
			ctx, audit.Event{Kind: audit.StoreMigrate, Outcome: audit.Done, Details: map[audit.Detail]string{
				audit.DetailOperation: m.Name,
				audit.DetailBefore:    strconv.FormatUint(uint64(m.Number-1), 10),
				audit.DetailAfter:     strconv.FormatUint(uint64(m.Number), 10),
			}})
	})
}

// build returns the revision that the program was built from.
func build() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return info.Main.Version
}

func fipsMode() string {
	switch {
	case fips140.Enforced():
		return "enforced"
	case fips140.Enabled():
		return "on"
	}
	return "off"
}

// auditStore records what the sealed store reports of its keys and of damage. It may be called within a transaction of
// the store, and so must not wait for one.
func (s *Server) auditStore(e sealed.Event) {
	l := s.audit.Load()
	if l == nil || e.Space == sealed.Operator {
		return // the operator's space is open as long as the instance runs
	}
	event := audit.Event{Kind: audit.StoreEvent, Outcome: audit.Done, Resource: visage.ResourceID(e.Space)}
	switch e.Kind {
	case sealed.SpaceOpened:
		event.Kind = audit.KeyLoad
	case sealed.SpaceWiped:
		event.Kind = audit.KeyWipe
	case sealed.Corrupt:
		event.Outcome = audit.Failed
		fallthrough
	default:
		event.Details = map[audit.Detail]string{audit.DetailOperation: strings.ReplaceAll(string(e.Kind), " ", "-")}
	}
	if err := l.Note(context.Background(), event); err != nil {
		s.log.Error("event of the store not recorded in the audit log", "kind", string(e.Kind), "err", err)
	}
}
