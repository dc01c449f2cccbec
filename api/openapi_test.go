package api_test

import (
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/visage-face/visage/api"
)

type mark time.Time

func (m mark) MarshalText() ([]byte, error) { return time.Time(m).AppendFormat(nil, time.RFC3339), nil }

type described struct {
	Name string      `json:"name" api:"required" enum:"a b"`
	Note *string     `json:"note"`
	When *mark       `json:"when,omitempty"`
	Many []described `json:"many,omitempty"`
	inner
}

type inner struct {
	Share float64 `json:"share"`
}

func TestOpenAPI(t *testing.T) {
	p := plane(
		api.Route{Method: "PUT", Pattern: "/t/things/{id}", Allow: api.ResourceKey, Handle: whoAmI, Doc: api.Doc{
			Summary: "Make a thing", Body: described{}, Answer: []described{}, Status: 202,
			Query:   []api.Param{{Name: "top", Text: "How many.", Value: 0}},
			Headers: []api.Param{{Name: "Operation-Location", Text: "Where.", Value: ""}},
		}},
		api.Route{Method: "GET", Pattern: "/t/things/{id}", Allow: api.BearerToken, Handle: whoAmI},
		api.Route{Method: "POST", Pattern: "/t/photo", Handle: whoAmI, Doc: api.Doc{Body: inner{}, Image: true}},
	)
	data, err := api.OpenAPI("Test", "1", p)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	for _, r := range p.Routes {
		if item := doc.Paths.Find(r.Pattern); item == nil || item.GetOperation(r.Method) == nil {
			t.Errorf("%s is not in the document", r.Label())
		}
	}
	schema := doc.Components.Schemas["test.described"]
	if schema == nil {
		t.Fatalf("no schema test.described in %s", data)
	}
	value := schema.Value
	for _, want := range []string{"name", "note", "when", "many", "share"} {
		if value.Properties[want] == nil {
			t.Errorf("the schema lacks %s", want)
		}
	}
	if !value.Properties["note"].Value.Nullable || value.Properties["when"].Value.Format != "date-time" {
		t.Errorf("note must be nullable and when a time: %s", data)
	}
	if got := value.Properties["name"].Value.Enum; len(got) != 2 || got[1] != "b" {
		t.Errorf("name: got values %v, want a and b", got)
	}
	op := doc.Paths.Find("/t/things/{id}").Put
	if op.Responses.Value("202") == nil || op.Security == nil || op.RequestBody == nil || len(op.Parameters) != 2 {
		t.Errorf("PUT is described incompletely: %s", data)
	}
}
