// Package custody decides who holds the key of a resource's data: the service or its customer, and whether the customer
// still lets it be used.
package custody

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// Auditor keeps what happened to keys. *audit.Log is one.
type Auditor interface {
	// Append returns when the event is on disk; what was about to happen does not when it fails.
	Append(ctx context.Context, e audit.Event) error
}

// Config is what a Custody is made of.
type Config struct {
	Store *sealed.Store // required
	// Open returns a source over a key as one principal sees it. Every call gets a source of its own, with a new
	// connection and a new token: that is how a refusal is confirmed. A *visage.Refusal says that the key can never be
	// opened, such as one in a vault that this instance does not speak to. Required.
	Open func(ctx context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error)
	// Watch opens a source over a key that is asked after for as long as a resource is under it. It has a token of its
	// own, and may use connections that others use. Default: Open.
	Watch func(ctx context.Context, key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error)
	// Today returns a key as it is addressed now. The vaults of an instance move with its public address, and what is
	// stored of a key names the address of the day: two references that are the same today are the same key. Default: a
	// key's address never changes.
	Today  func(visage.KeyRef) visage.KeyRef
	Audit  Auditor      // required
	Policy Policy       // what holds for resources without a policy of their own
	Logger *slog.Logger // default: discard
}

// Policy is what happens to a resource when its key does not simply say yes.
type Policy struct {
	// how long a vault may give no answer; 1 min to 24 h; default 60 min
	Grace         time.Duration `json:"grace,omitempty"`
	LockOnExpiry  bool          `json:"lockOnExpiry,omitempty"`  // an expired key locks, though it still unwraps
	ManualRestore bool          `json:"manualRestore,omitempty"` // access that returns opens only by Unlock
}

// The bounds of Policy.Grace, its default, and the value for who wants a revocation to come through an outage soon.
const (
	MinGrace     = time.Minute
	MaxGrace     = 24 * time.Hour
	DefaultGrace = time.Hour
	StrictGrace  = 5 * time.Minute
)

func (p Policy) valid() error {
	if p.Grace < MinGrace || p.Grace > MaxGrace {
		return fmt.Errorf("a grace of %v is not between %v and %v", p.Grace, MinGrace, MaxGrace)
	}
	return nil
}

// Custody holds the keys of all resources of a store. It is safe for concurrent use.
type Custody struct {
	cfg   Config
	log   *slog.Logger
	calls calls
	wake  chan struct{}            // Run has something to start
	dues  chan *watch              // whose time has come
	fault func(point string) error // tests fail here; nil otherwise
	polls *prometheus.CounterVec
	opens sync.WaitGroup // openings under way, and followings

	mu      sync.Mutex // guards both maps and what watches say it guards; taken before a space's mu
	spaces  map[sealed.SpaceID]*space
	watches map[watchKey]*watch
}

// record writes an event about a resource.
func (c *Custody) record(ctx context.Context, sp *space, kind audit.Kind, outcome audit.Outcome, key *binding,
	version string,
	details map[audit.Detail]string) error {
	e := audit.Event{Kind: kind, Outcome: outcome, Resource: visage.ResourceID(sp.id), Details: details}
	if key != nil {
		e.KeyID, e.KeyVersion = c.cfg.Today(key.Key).Unversioned(), version
	}
	if err := c.cfg.Audit.Append(ctx, e); err != nil {
		return fmt.Errorf("audit %s: %w", kind, err)
	}
	return nil
}

// tell is record for what has happened already: a failure is the log's.
func (c *Custody) tell(
	ctx context.Context, sp *space, kind audit.Kind, outcome audit.Outcome, details map[audit.Detail]string,
) {
	key, version := sp.inUse()
	if err := c.record(context.WithoutCancel(ctx), sp, kind, outcome, key, version, details); err != nil {
		c.log.ErrorContext(ctx, "not audited", "resource", sp.id.String(), "err", err)
	}
}

// sameKey reports whether a reference that is kept is of the key that somebody names: as it was addressed when it was
// kept, or as it is today.
func (c *Custody) sameKey(kept, named visage.KeyRef) bool {
	return kept.SameKey(named) || c.cfg.Today(kept).SameKey(named)
}
