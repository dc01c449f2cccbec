package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/sealed"
)

// rootKeys manages the root key of the running server, and records what is done with it.
type rootKeys struct {
	store   *sealed.Store
	cfg     Config
	audit   audit.Recorder
	custody *custody.Custody
}

// RootKey implements armapi.RootKeys.
func (k rootKeys) RootKey(ctx context.Context) (armwire.RootKey, error) {
	state, err := k.store.RootKey().State(ctx)
	if err != nil {
		return armwire.RootKey{}, err
	}
	answer := armwire.RootKey{Version: state.Version, Made: moment(state.Made), Exposed: state.Exposed,
		Protectors: []armwire.RootProtector{}, Ignored: state.Ignored, Instance: k.store.Instance(),
		Kit: moment(state.Kit), Proved: moment(state.Proved)}
	for _, p := range state.Protectors {
		answer.Protectors = append(answer.Protectors, armwire.RootProtector{
			Name: p.Name, Kind: p.Kind, Entry: p.Entry, Exposed: p.Exposed, Configured: p.Attached, Opened: p.Opened,
			Added: moment(p.Added), Tested: moment(p.Tested),
		})
	}
	if r := state.Rotation; r.Running {
		answer.Rotation = &armwire.RootRotation{Step: r.Step, Done: r.Done, Total: r.Total}
		if r.Err != nil {
			answer.Rotation.Error = "it does not go on, and is tried again every minute; the log of the server says why"
		}
	}
	return answer, nil
}

// moment is a time for the wire; nil: not known.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// AddProtector implements armapi.RootKeys. Of a key file that does not exist, it makes a new one.
func (k rootKeys) AddProtector(
	ctx context.Context, by visage.Caller, want armwire.RootProtectorRequest,
) (armwire.RootKey, error) {
	entry := want.Entry
	e := k.event(audit.RootProtect, by)
	e.KeyID = k.cfg.spelled(entry)
	err := func() error {
		local, err := k.cfg.isLocal(want.Local, armwire.RootProtectorRequest{Entry: entry})
		if err != nil {
			return err
		}
		p, err := k.cfg.protector(entry)
		if err != nil {
			return visage.Refuse(visage.Invalid, "InvalidRootProtector", "The protector cannot be used: %v.", err)
		}
		if !local && p.secret {
			return visage.Refuse(visage.Denied, "RootProtectorNotLocal", "The protector %s is not added: the sender "+
				"of this request may know its secret, which would open the root key even when their credentials are "+
				"withdrawn. Run \"visage root add\" on the machine of the service, as its user, or name the "+
				"protector in the setting root-key.", entry)
		}
		if key, err := stores.ParseKey(entry, "", ""); err == nil && len(k.custody.Uses(key)) > 0 {
			return visage.Refuse(visage.Conflict, "RootProtectorInUse", "The key %s cannot protect the root key, "+
				"since it protects a resource: use another key.", key)
		}
		source, err := p.open(true)
		if err != nil {
			return visage.Refuse(visage.Invalid, "InvalidRootProtector", "The protector cannot be used: %v.", err)
		}
		name, err := k.store.RootKey().Add(ctx,
			sealed.Protector{Name: p.kind, Kind: p.kind, Entry: cmp.Or(p.spelled, entry), Exposed: p.exposed,
				Fingerprint: p.spelled == "", Source: source})
		e.Set(audit.DetailSubject, name)
		if err != nil {
			k.cfg.rootStores.forget(source)
		}
		return refuseRoot(err, entry)
	}()
	if err := audit.Answer(ctx, k.audit, err, e.Ended(err)); err != nil {
		return armwire.RootKey{}, err
	}
	return k.RootKey(ctx)
}

// RemoveProtector implements armapi.RootKeys.
func (k rootKeys) RemoveProtector(ctx context.Context, by visage.Caller, name string) error {
	e := k.event(audit.RootUnprotect, by)
	e.Set(audit.DetailSubject, name)
	entry := k.entryOf(ctx, name)
	err := refuseRoot(k.store.RootKey().Remove(ctx, name), name)
	if err == nil && entry != "" {
		k.cfg.rootStores.removed(entry)
	}
	return audit.Answer(ctx, k.audit, err, e.Ended(err))
}

// protectorOpens is the answer of a protector that opens the root key, to a test.
const protectorOpens = "opens"

// entryOf returns how the settings named a protector when it was added; empty: it is not known.
func (k rootKeys) entryOf(ctx context.Context, name string) string {
	state, err := k.store.RootKey().State(ctx)
	if err != nil {
		return ""
	}
	for _, p := range state.Protectors {
		if p.Name == name {
			return p.Entry
		}
	}
	return ""
}

// TestProtectors implements armapi.RootKeys.
func (k rootKeys) TestProtectors(ctx context.Context, by visage.Caller) (armwire.RootKey, error) {
	said, err := k.store.RootKey().Test(ctx)
	e := k.event(audit.RootTest, by)
	opened := 0
	for _, err := range said {
		if err == nil {
			opened++
		}
	}
	e.Set(audit.DetailCount, fmt.Sprintf("%d of %d", opened, len(said)))
	if err := audit.Answer(ctx, k.audit, err, e.Ended(err)); err != nil {
		return armwire.RootKey{}, err
	}
	answer, err := k.RootKey(ctx)
	for i := range answer.Protectors {
		p := &answer.Protectors[i]
		switch err, asked := said[p.Name]; {
		case !asked:
		case err == nil:
			p.Answer = protectorOpens
		default:
			p.Answer = err.Error()
		}
	}
	return answer, err
}

// RotateRootKey implements armapi.RootKeys.
func (k rootKeys) RotateRootKey(ctx context.Context, by visage.Caller) (armwire.RootKey, error) {
	err := refuseRoot(k.store.RootKey().Rotate(ctx), "")
	answer, stateErr := k.RootKey(ctx)
	e := k.event(audit.RootRotate, by)
	e.Set(audit.DetailGeneration, strconv.FormatUint(uint64(answer.Version), 10))
	if err := audit.Answer(ctx, k.audit, err, e.Ended(err)); err != nil {
		return armwire.RootKey{}, err
	}
	return answer, stateErr
}

func (k rootKeys) event(kind audit.Kind, by visage.Caller) audit.Event {
	return audit.Event{Kind: kind, Actor: audit.ActorOf(by), RequestID: by.RequestID}
}

// refuseRoot puts the refusals of the root key into words. about is a protector's name or entry.
func refuseRoot(err error, about string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sealed.ErrNoProtector):
		return visage.Refuse(visage.NotFound, "RootProtectorNotFound",
			"No protector of the root key has the name %q.", about)
	case errors.Is(err, sealed.ErrProtected):
		return visage.Refuse(visage.Conflict, "RootProtectorExists", "The root key has the protector %s already.",
			about)
	case errors.Is(err, sealed.ErrLastProtector):
		return visage.Refuse(visage.Conflict, "LastRootProtector",
			"The protector %q cannot be removed: no other protector opens the root key now.%s", about, saying(err))
	case errors.Is(err, sealed.ErrRotating):
		return visage.Refuse(visage.Conflict, "RootKeyRotating", "The rotation before is not finished.")
	case errors.Is(err, sealed.ErrLastVersion):
		return visage.Refuse(visage.Conflict, "RootKeyVersionsUsed",
			"The root key has had all the versions that it can have.")
	case errors.Is(err, sealed.ErrDetached), errors.Is(err, keysource.ErrDenied), errors.Is(err, keysource.ErrWrong),
		errors.Is(err, keysource.ErrUnknown), errors.Is(err, keysource.ErrExpired):
		return visage.Refuse(visage.Conflict, "RootProtectorUnavailable",
			"A protector does not open the root key, so nothing was changed: %v.", errors.Unwrap(err))
	}
	return err
}

// saying is what the other protectors said, as a further sentence; empty when there is none.
func saying(err error) string {
	_, others, found := strings.Cut(err.Error(), "\n")
	if !found {
		return ""
	}
	return " The others say: " + strings.ReplaceAll(others, "\n", "; ") + "."
}

// rootMetrics exports how the root key stands.
type rootMetrics struct{ store *sealed.Store }

var (
	rootExposed = prometheus.NewDesc("visage_sealed_root_exposed",
		"Whether a copy of the machine's disks may open the data: an exposed protector wraps the root key, or has "+
			"wrapped its current version.", nil, nil)
	rootVersion = prometheus.NewDesc("visage_sealed_root_version",
		"The version of the root key; it grows with every rotation.", nil, nil)
	rootRotating = prometheus.NewDesc("visage_sealed_root_rotating",
		"Whether what earlier versions of the root key sealed is still being sealed anew.", nil, nil)
	rootProved = prometheus.NewDesc("visage_sealed_root_recovery_proved_timestamp_seconds",
		"When a recovery kit was proved to open the current version of the root key; 0: never.", nil, nil)
	rootTested = prometheus.NewDesc("visage_sealed_root_protector_tested_timestamp_seconds",
		"When a protector last opened the root key, by its name; 0: not known.", []string{"protector"}, nil)
)

// Describe implements prometheus.Collector.
func (m rootMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{rootExposed, rootVersion, rootRotating, rootTested, rootProved} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m rootMetrics) Collect(to chan<- prometheus.Metric) {
	state, err := m.store.RootKey().State(context.Background())
	if err != nil {
		return // the store is closing
	}
	number := func(on bool) float64 {
		if on {
			return 1
		}
		return 0
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(rootExposed, number(state.Exposed))
	gauge(rootVersion, float64(state.Version))
	gauge(rootRotating, number(state.Rotation.Running))
	seconds := func(t time.Time) float64 {
		if t.IsZero() {
			return 0
		}
		return float64(t.Unix())
	}
	gauge(rootProved, seconds(state.Proved))
	for _, p := range state.Protectors {
		gauge(rootTested, seconds(p.Tested), p.Name)
	}
}
