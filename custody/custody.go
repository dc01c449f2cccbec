// Package custody decides whether the service or the customer holds the key of a resource's data, and whether that key
// may be used now.
package custody

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/sealed/follow"
)

// Config configures a Custody.
type Config struct {
	Store *sealed.Store // required
	// Open returns a key source that authenticates as one principal. Every call returns a source with a new connection
	// and a new token, because a refusal is confirmed with both. A *visage.Refusal says that the key can never be
	// opened, for example because this instance cannot use its vault. Open makes no call to the vault. Required.
	Open func(ctx context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error)
	// Watch opens the key source of a poll, which lives as long as a resource depends on the key. It has its own token
	// and may share connections. Default: Open.
	Watch func(ctx context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error)
	// Kept returns what refuses, as a transaction sees it, a key whose store was removed since Open, or which the
	// principal's resource may not use any more. It is asked once a change to the key is stored. Optional.
	Kept func(key visage.KeyRef, as visage.PrincipalID) (refuse func(sealed.Reader) error)
	// Today returns the present address of a key. The vaults of an instance move with its public address, and a stored
	// reference has the address of its time: two references with the same present address name the same key. Default:
	// addresses never change.
	Today func(visage.KeyRef) visage.KeyRef
	// Polled is called when a key has been polled, with the answer and the resources that depend on the key. It must
	// return at once. Optional.
	Polled func(answer audit.Outcome, dependents []visage.ResourceID)
	Audit  audit.Recorder // required
	Policy Policy         // of resources without their own
	Logger *slog.Logger   // default: discard
}

// Policy says how a resource behaves when its key gives no answer, has expired, or answers again after a refusal.
type Policy struct {
	// how long data is served while the vault gives no answer; 1 min to 24 h; default 60 min
	Grace         time.Duration `json:"grace,omitempty"`
	LockOnExpiry  bool          `json:"lockOnExpiry,omitempty"`  // an expired key locks, though it still unwraps
	ManualRestore bool          `json:"manualRestore,omitempty"` // after a refusal, only Unlock opens the data again
}

// The bounds and the default of Policy.Grace. StrictGrace limits to 5 minutes how long an attacker can delay a
// revocation by cutting the network.
const (
	MinGrace     = time.Minute
	MaxGrace     = 24 * time.Hour
	DefaultGrace = time.Hour
	StrictGrace  = 5 * time.Minute
)

func (p Policy) valid() error {
	if p.Grace < MinGrace || p.Grace > MaxGrace {
		return fmt.Errorf("the grace must be between %v and %v; got %v", MinGrace, MaxGrace, p.Grace)
	}
	return nil
}

// Custody manages the keys of all resources of a store. It is safe for concurrent use.
type Custody struct {
	cfg        Config
	log        *slog.Logger
	wake       chan struct{}            // wakes Run, which starts polls and resumes changes
	due        chan *watch              // to be polled now
	fault      func(point string) error // injects failures in tests; else nil
	polls      *prometheus.CounterVec
	background sync.WaitGroup // loading of keys, and moves to newer versions

	shared  bool // other processes have the store open
	changes *follow.Value[map[sealed.SpaceID]uint64]

	mu      sync.Mutex // guards both maps and the fields of watches that say so; taken before a space's mu
	spaces  map[sealed.SpaceID]*space
	watches map[watchKey]*watch

	pendingMu sync.Mutex                // guards both maps; no other lock is taken with it, as sealed calls for it
	counts    map[sealed.SpaceID]uint64 // of changes of notes, as they were seen last
	pending   map[sealed.SpaceID]bool   // resources to be looked at, and whether the store refuses their data
}

// record audits an event of a resource.
func (c *Custody) record(ctx context.Context, sp *space, kind audit.Kind, outcome audit.Outcome, key *binding,
	version string,
	details map[audit.Detail]string) error {
	e := audit.Event{Kind: kind, Outcome: outcome, Resource: visage.ResourceID(sp.id), Details: details}
	if key != nil {
		e.KeyID, e.KeyVersion = c.cfg.Today(key.Key).Unversioned(), version
	}
	switch kind {
	case audit.KeyWrap, audit.KeyUnwrap, audit.KeyProbe:
		e.Details = maps.Clone(details)
		e.Set(audit.DetailProviderRequest, keysource.TraceOf(ctx).RequestID())
	}
	if err := c.cfg.Audit.Append(ctx, e); err != nil {
		return fmt.Errorf("audit %s: %w", kind, err)
	}
	return nil
}

// recordOrLog audits an event of a store's key that can no longer be stopped: if auditing fails, the failure is logged.
func (c *Custody) recordOrLog(
	ctx context.Context, sp *space, store int, kind audit.Kind, outcome audit.Outcome, details map[audit.Detail]string,
) {
	key, version := sp.keyOf(store)
	if err := c.record(context.WithoutCancel(ctx), sp, kind, outcome, key, version, details); err != nil {
		c.log.ErrorContext(ctx, "not audited", "resource", sp.id.String(), "err", err)
	}
}

// sameKey reports whether a stored reference and a given one name the same key, by the stored or the present address.
func (c *Custody) sameKey(stored, given visage.KeyRef) bool {
	return stored.SameKey(given) || c.cfg.Today(stored).SameKey(given)
}
