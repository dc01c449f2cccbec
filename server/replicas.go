package server

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/sealed"
)

// introduction is what a replica tells others of itself for people.
type introduction struct {
	Host    string    `json:"host,omitempty"`
	Listen  string    `json:"listen"`
	Version string    `json:"version,omitempty"`
	Packs   string    `json:"packs,omitempty"`
	Started time.Time `json:"started"`
}

// noteFor is what other replicas are told of this one. It completes the note of l.parts, which searches read from the
// moment at which the server listens.
func (s *Server) noteFor(l *layers) replicaNote {
	host, err := os.Hostname()
	if err != nil {
		host = "" // its address tells which one it is
	}
	note := replicaNote{introduction: introduction{Host: host, Listen: l.forOperator.Listen, Version: s.cfg.Version,
		Packs: l.packs.choice.String(), Started: time.Now().UTC()}}
	if l.parts != nil {
		note.Peer, note.Budget = l.parts.note.Peer, l.parts.note.Budget
		l.parts.note = note
	}
	return note
}

// announce tells other replicas of this one.
func announce(ctx context.Context, store *sealed.Store, note replicaNote) error {
	if !store.Shared() {
		return nil
	}
	raw, err := json.Marshal(note)
	if err != nil {
		return fmt.Errorf("encode the note of a replica: %w", err)
	}
	return store.Announce(ctx, raw)
}

// leaveTime bounds how long telling the others may take; they find out by themselves.
const leaveTime = 2 * time.Second

// leave tells other replicas that this one is about to stop.
func (s *Server) leave(ctx context.Context, store *sealed.Store, note replicaNote) {
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	note.Leaving = true
	if err := announce(ctx, store, note); err != nil {
		s.log.Warn("other replicas do not know that this one stops", "err", err)
	}
}

// replicas tells the operator which processes serve the instance.
type replicas struct{ store *sealed.Store }

// Replicas implements armapi.Replicas.
func (r replicas) Replicas(ctx context.Context) ([]armwire.Replica, error) {
	members, err := r.store.Survey(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]armwire.Replica, len(members))
	for i, m := range members {
		all[i] = replicaOf(m)
	}
	return all, nil
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
