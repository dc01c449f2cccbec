package armapi

import (
	"context"
	"net/http"

	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// Replicas tells which processes serve the instance.
type Replicas interface {
	// Replicas returns all of them, first the one that answers, and what they search together.
	Replicas(ctx context.Context) (armwire.ReplicaList, error)
}

// replicaRoutes are an extension, for operators only: the replicas serve every resource.
func (p *plane) replicaRoutes(route routeMaker) []api.Route {
	return []api.Route{
		route(http.MethodGet, operations+"/replicas", p.forOperator(func(r *api.Request) (any, error) {
			return p.Replicas.Replicas(r.Context())
		}), api.Doc{Summary: "List the processes that serve the instance", Answer: armwire.ReplicaList{}}),
	}
}
