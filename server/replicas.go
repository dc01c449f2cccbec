package server

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/sealed"
)

// introduction is what a replica tells others of itself for people.
type introduction struct {
	Host    string    `json:"host,omitempty"`
	Listen  string    `json:"listen"`
	Version string    `json:"version,omitempty"`
	Packs   string    `json:"packs,omitempty"`
	Started time.Time `json:"started"`
	// Galleries are those that it has in memory, of its budget.
	Galleries galleriesNote `json:"galleries,omitzero"`
}

// galleriesNote is face.GalleryUse as others are told of it.
type galleriesNote struct {
	Bytes   int64 `json:"bytes,omitempty"`
	Parts   int   `json:"parts,omitempty"`
	Loading int   `json:"loading,omitempty"`
	Awaited int   `json:"awaited,omitempty"`
}

// noteFor is what other replicas are told of this one. It completes the note of l.parts, which searches read from the
// moment at which the server listens.
func (s *Server) noteFor(l *layers) replicaNote {
	host, err := os.Hostname()
	if err != nil {
		host = "" // its address tells which one it is
	}
	note := replicaNote{introduction: introduction{Host: host, Listen: l.forOperator.Listen, Version: s.cfg.Version,
		Packs: l.packs.choice.String(), Started: time.Now().UTC()}, Budget: s.cfg.GalleryBytes}
	if l.parts != nil {
		note.Peer = l.parts.note.Peer
		l.parts.note = note
	}
	return note
}

// announcer tells other replicas of this one.
type announcer struct {
	store *sealed.Store
	use   func() face.GalleryUse
	said  sync.Mutex // held while the others are told, so that what is older does not replace what is newer
	note  replicaNote
}

// announce tells others what it knows of this replica now, changed by change, which may be nil.
func (a *announcer) announce(ctx context.Context, change func(*replicaNote)) error {
	a.said.Lock()
	defer a.said.Unlock()
	if change != nil {
		change(&a.note)
	}
	a.note.Galleries = a.used()
	raw, err := json.Marshal(a.note)
	if err != nil {
		return fmt.Errorf("encode the note of a replica: %w", err)
	}
	return a.store.Announce(ctx, raw)
}

func (a *announcer) used() galleriesNote {
	use := a.use()
	return galleriesNote{Bytes: use.Bytes, Parts: use.Parts, Loading: use.Loading, Awaited: use.Awaited}
}

// tellEvery is how old what others are told of the galleries may be.
const tellEvery = 3 * time.Second

// run tells others of the galleries whenever they have changed, until ctx ends.
func (a *announcer) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(tellEvery):
		}
		a.said.Lock()
		told := a.note.Galleries
		a.said.Unlock()
		if a.used() == told {
			continue
		}
		// When it fails, the note is written with the next sign of life.
		ctx, cancel := context.WithTimeout(ctx, tellEvery)
		_ = a.announce(ctx, nil)
		cancel()
	}
}

// leaveTime bounds how long telling the others may take; they find out by themselves.
const leaveTime = 2 * time.Second

// leave tells other replicas that this one is about to stop.
func (a *announcer) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	return a.announce(ctx, func(n *replicaNote) { n.Leaving = true })
}

// replicas tells the operator which processes serve the instance, and what they search together.
type replicas struct {
	store    *sealed.Store
	parts    *partitions // nil: this one searches alone
	use      func() face.GalleryUse
	budget   int64 // of the galleries of this replica
	accounts *account.Accounts
	path     func(account.Account) string
}

// Replicas implements armapi.Replicas.
func (r replicas) Replicas(ctx context.Context) (armwire.ReplicaList, error) {
	members, err := r.store.Survey(ctx)
	if err != nil {
		return armwire.ReplicaList{}, err
	}
	all := armwire.ReplicaList{Value: make([]armwire.Replica, len(members))}
	for i, m := range members {
		all.Value[i] = replicaOf(m)
		if m.Self {
			use := r.use()
			all.Value[i].Galleries = &armwire.Galleries{Budget: r.budget, Bytes: use.Bytes, Partitions: use.Parts,
				Loading: use.Loading, Awaited: use.Awaited}
		}
	}
	all.Collections, err = r.collections()
	return all, err
}

const (
	mostPlaced = 100       // collections that are listed
	placedFor  = time.Hour // for which one is listed after its last search: it may have been deleted
)

// collections lists the largest collections that were searched together lately.
func (r replicas) collections() ([]armwire.PartitionedCollection, error) {
	all := []armwire.PartitionedCollection{}
	if r.parts == nil {
		return all, nil
	}
	placed, err := r.parts.scatter.Placed()
	if err != nil {
		return nil, err
	}
	for _, p := range placed {
		id, kind, err := face.PartOf(p.Collection)
		of, found := r.accounts.LookupID(id)
		if err != nil || !found || time.Since(p.Searched) > placedFor {
			continue
		}
		one := armwire.PartitionedCollection{ResourceID: r.path(of), Kind: kindName(kind), Bytes: p.Bytes,
			Searched: p.Searched.UTC(), Partitions: [][]string{}}
		for _, names := range p.Partitions {
			ids := make([]string, len(names))
			for i, name := range names {
				ids[i] = name[1:] // see peerName
			}
			one.Partitions = append(one.Partitions, ids)
		}
		all = append(all, one)
	}
	slices.SortStableFunc(all, func(a, b armwire.PartitionedCollection) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return all[:min(len(all), mostPlaced)], nil
}

func replicaOf(m sealed.MemberStatus) armwire.Replica {
	var told replicaNote
	if json.Unmarshal(m.Note, &told) != nil {
		told = replicaNote{} // nothing yet, or it is of another version
	}
	one := armwire.Replica{ID: hex.EncodeToString(m.ID[:]), State: "serving", Answers: m.Self,
		Host: told.Host, Listen: told.Listen,
		Version: told.Version, Packs: told.Packs, Started: told.Started, Seen: time.Now().Add(-m.Silent).UTC(),
		Claims: m.Claims}
	switch {
	case m.Expired:
		one.State = "ended"
	case told.Leaving:
		one.State = "stopping"
	case m.Note == nil && !m.Self:
		one.State = "starting"
	}
	if one.Claims == nil {
		one.Claims = []string{}
	}
	if g := told.Galleries; told.Budget > 0 {
		one.Galleries = &armwire.Galleries{Budget: told.Budget, Bytes: g.Bytes, Partitions: g.Parts,
			Loading: g.Loading, Awaited: g.Awaited}
	}
	return one
}

// replicaMetrics count the replicas. There are none when the store is not shared.
type replicaMetrics struct{ store *sealed.Store }

var replicasDesc = prometheus.NewDesc("visage_replicas",
	"Processes that have the store open, this one among them; those that ended without stopping count for 15 s.",
	nil, nil)

// Describe implements prometheus.Collector.
func (replicaMetrics) Describe(out chan<- *prometheus.Desc) { out <- replicasDesc }

// Collect implements prometheus.Collector.
func (m replicaMetrics) Collect(out chan<- prometheus.Metric) {
	if m.store.Shared() {
		out <- prometheus.MustNewConstMetric(replicasDesc, prometheus.GaugeValue, float64(m.store.Replicas()))
	}
}
