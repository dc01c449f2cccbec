package armapi

import (
	"net/http"
	"strings"

	"github.com/visage-face/visage/api"
)

// operationRoutes list the operations of each provider of the contract.
func (p *plane) operationRoutes(route routeMaker) []api.Route {
	var all []api.Route
	for _, namespace := range []string{"Microsoft.CognitiveServices", "Microsoft.KeyVault", "Microsoft.Authorization",
		"Microsoft.Resources"} {
		all = append(all, route(http.MethodGet, "/providers/"+namespace+"/operations", p.operations(namespace),
			api.Doc{Summary: "List the operations of the provider", Answer: operationList{}}))
	}
	return all
}

type operationList struct {
	Value []operationWire `json:"value"`
}

type operationWire struct {
	Name         string           `json:"name"`
	IsDataAction bool             `json:"isDataAction"`
	Display      operationDisplay `json:"display"`
}

type operationDisplay struct {
	Provider  string `json:"provider"`
	Resource  string `json:"resource"`
	Operation string `json:"operation"`
}

// operations lists the actions of a provider's routes in the notation of roles.
func (p *plane) operations(namespace string) handle {
	return func(*api.Request) (any, error) {
		answer := operationList{Value: []operationWire{}}
		seen := map[string]bool{}
		for _, r := range p.routes() {
			name := actionOf(r.Method, r.Pattern)
			rest, ours := strings.CutPrefix(name, namespace+"/")
			if !ours || seen[name] {
				continue
			}
			seen[name] = true
			kind, _, _ := strings.Cut(rest, "/")
			answer.Value = append(answer.Value,
				operationWire{Name: name, Display: operationDisplay{namespace, kind, r.Doc.Summary}})
		}
		return answer, nil
	}
}
