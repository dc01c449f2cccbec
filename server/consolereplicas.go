package server

import (
	"context"
	"path"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/console"
)

// consoleReplicas implements console.Replicas.
type consoleReplicas struct{ replicas }

// Replicas implements console.Replicas.
func (c consoleReplicas) Replicas(ctx context.Context) ([]console.Replica, []console.SharedCollection, error) {
	told, err := c.replicas.Replicas(ctx)
	if err != nil {
		return nil, nil, err
	}
	var all []console.Replica
	for _, r := range told.Value {
		all = append(all, console.Replica{ID: r.ID, State: r.State, Answers: r.Answers, Host: r.Host, Listen: r.Listen,
			Version: r.Version, Started: r.Started, Seen: r.Seen, Claims: r.Claims, Galleries: consoleGalleries(r)})
	}
	var shared []console.SharedCollection
	for _, s := range told.Collections {
		one := console.SharedCollection{Resource: path.Base(s.ResourceID), Kind: s.Kind, Bytes: s.Bytes,
			Partitions: len(s.Partitions), Searched: s.Searched, At: map[string]int{}}
		for _, ids := range s.Partitions {
			for _, id := range ids {
				one.At[id]++
			}
		}
		shared = append(shared, one)
	}
	return all, shared, nil
}

func consoleGalleries(r armwire.Replica) *console.Galleries {
	g := r.Galleries
	if g == nil {
		return nil
	}
	return &console.Galleries{Budget: g.Budget, Bytes: g.Bytes, Partitions: g.Partitions, Loading: g.Loading,
		Awaited: g.Awaited}
}
