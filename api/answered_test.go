package api_test

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
)

// TestAnswered tells of every answer once: with the resource when its key was right, and never with the path.
func TestAnswered(t *testing.T) {
	var mu sync.Mutex
	var all []api.Answered
	s := serve(t, api.Config{
		Planes: []api.Plane{plane(
			api.Route{Method: "GET", Pattern: "/t/of/{name}", Allow: api.ResourceKey,
				Handle: func(r *api.Request) (any, error) {
					if r.Path("name") == "nobody" {
						return nil, visage.Refuse(visage.NotFound, "PersonNotFound", "There is nobody.")
					}
					return "somebody", nil
				}},
			api.Route{Method: "POST", Pattern: "/t/panic", Handle: func(*api.Request) (any, error) { panic("!") }},
		)},
		Answered: func(a api.Answered) {
			mu.Lock()
			defer mu.Unlock()
			if a.Took <= 0 {
				t.Errorf("%s took %v", a.Route, a.Took)
			}
			a.Took = 0
			all = append(all, a)
		},
	})
	s.do(t, "GET", "/t/of/ada", "", "X-Key", "right")
	s.do(t, "GET", "/t/of/nobody", "", "X-Key", "right")
	s.do(t, "GET", "/t/of/ada", "", "X-Key", "wrong")
	s.do(t, "POST", "/t/panic", "")
	s.do(t, "GET", "/t/ada", "")
	s.do(t, "GET", "/ada", "")
	s.Close() // waits for the handlers
	const of, alone = "GET /t/of/{name}", "POST /t/panic"
	if diff := cmp.Diff([]api.Answered{
		{Plane: "test", Route: of, Resource: alice.ID, Status: 200},
		{Plane: "test", Route: of, Resource: alice.ID, Status: 404, Code: "PersonNotFound"},
		{Plane: "test", Route: of, Status: 401},
		{Plane: "test", Route: alone, Status: 500},
		{Plane: "test", Route: "none", Status: 404},
		{Plane: "none", Route: "none", Status: 404},
	}, all); diff != "" {
		t.Errorf("answers, want -, got +:\n%s", diff)
	}
}
