package api

import (
	"encoding"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// OpenAPI describes planes as an OpenAPI 3.0 document in JSON, generated from their route tables and from the Go types
// of requests and answers, so that the document cannot differ from the service. In those types, the tag
// `api:"required"` marks a field that a body must have, and `enum:"a b"` lists the values of one; fields of answers are
// required unless they may be omitted. A type with a method Schema describes itself.
func OpenAPI(title, version string, planes ...Plane) ([]byte, error) {
	d := &document{schemas: object{}}
	paths, security := object{}, object{}
	for _, p := range planes {
		if p.KeyHeader != "" {
			security[p.Name] = object{"type": "apiKey", "in": "header", "name": p.KeyHeader}
		}
		d.plane = p.Name
		problem := d.schema(reflect.TypeOf(p.Problem(http.Header{}, blank())), true)
		for i := range p.Routes {
			r := &p.Routes[i]
			item, ok := paths[r.Pattern].(object)
			if !ok {
				item = object{}
				paths[r.Pattern] = item
			}
			if r.Allow == BearerToken || r.Allow == PlaneToken {
				security[bearerScheme] = object{"type": "http", "scheme": "bearer"}
			}
			item[strings.ToLower(r.Method)] = d.operation(&p, r, problem)
		}
	}
	doc := object{
		"openapi":    "3.0.3",
		"info":       object{"title": title, "version": version},
		"paths":      paths,
		"components": object{"schemas": d.schemas, "securitySchemes": security},
	}
	data, err := encode(doc)
	if err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	return data, nil
}

// bearerScheme names the security scheme of bearer tokens in the document.
const bearerScheme = "bearer"

type object = map[string]any

// document collects the schemas of named types.
type document struct {
	plane   string
	schemas object
}

func (d *document) operation(p *Plane, r *Route, problem object) object {
	op := object{
		"operationId": operationID(r), "summary": r.Doc.Summary, "tags": []string{p.Name},
		"responses": object{
			strconv.Itoa(r.Doc.status()): d.success(r),
			"default": object{"description": "A refusal or failure",
				"content": jsonContent(problem)},
		},
	}
	if params := d.parameters(r); len(params) > 0 {
		op["parameters"] = params
	}
	if r.Doc.Body != nil {
		content := jsonContent(d.schema(reflect.TypeOf(r.Doc.Body), false))
		if r.Doc.Image {
			content["application/octet-stream"] = object{"schema": object{"type": "string", "format": "binary"}}
		}
		op["requestBody"] = object{"required": true, "content": content}
	}
	switch r.Allow {
	case ResourceKey:
		op["security"] = []object{{p.Name: []string{}}}
	case BearerToken, PlaneToken:
		op["security"] = []object{{bearerScheme: []string{}}}
	}
	return op
}

func (d *document) success(r *Route) object {
	response := object{"description": "Done"}
	if r.Doc.Answer != nil {
		response["content"] = jsonContent(d.schema(reflect.TypeOf(r.Doc.Answer), true))
	}
	headers := object{}
	for _, h := range r.Doc.Headers {
		headers[h.Name] = object{"description": h.Text, "schema": d.schema(reflect.TypeOf(h.Value), true)}
	}
	if len(headers) > 0 {
		response["headers"] = headers
	}
	return response
}

func (d *document) parameters(r *Route) []object {
	var params []object
	for segment := range strings.SplitSeq(r.Pattern, "/") {
		if name, ok := wildcard(segment); ok {
			params = append(params, object{
				"name": name, "in": "path", "required": true, "schema": object{"type": "string"},
			})
		}
	}
	for _, q := range r.Doc.Query {
		schema := enumerate(d.schema(reflect.TypeOf(q.Value), false), strings.Fields(q.Enum)...)
		params = append(params, object{"name": q.Name, "in": "query", "description": q.Text, "schema": schema})
	}
	return params
}

// enumerate adds the allowed values, if they are limited, to a schema.
func enumerate(schema object, values ...string) object {
	if len(values) > 0 {
		schema["enum"] = values
	}
	return schema
}

// operationID is the route's label with underscores for characters that an identifier cannot have.
func operationID(r *Route) string {
	id := strings.Map(func(c rune) rune {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			return c
		case c == '{' || c == '}':
			return -1
		}
		return '_'
	}, strings.ToLower(r.Method)+r.Pattern)
	return strings.Trim(id, "_")
}

func jsonContent(schema object) object { return object{"application/json": object{"schema": schema}} }

var textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()

// Member is a member of a JSON object that is not encoded field by field from a Go type.
type Member struct {
	Name     string
	Value    any      // what is written; in a description, any value of the type
	Enum     []string // the values there are; nil: not limited
	Optional bool     // it may be missing
}

// describer is a type of answers that describes itself: by its zero value, or, within another, by the value given.
type describer interface {
	// Schema returns the name of the object in the document and its members.
	Schema() (name string, members []Member)
}

// described describes a value by its members, if it has them, and else by its type.
func (d *document) described(value any) object {
	one, ok := value.(describer)
	if !ok {
		return d.schema(reflect.TypeOf(value), true)
	}
	name, members := one.Schema()
	return d.component(name, func(schema, properties object) (required []string) {
		for _, m := range members {
			properties[m.Name] = enumerate(d.described(m.Value), m.Enum...)
			if !m.Optional {
				required = append(required, m.Name)
			}
		}
		return required
	})
}

// schema describes a type. answer says whether values of it are sent or received.
func (d *document) schema(t reflect.Type, answer bool) object {
	switch {
	case t.Kind() == reflect.Pointer:
		return d.schema(t.Elem(), answer)
	case t.ConvertibleTo(reflect.TypeFor[time.Time]()) && t.Implements(textMarshaler):
		return object{"type": "string", "format": "date-time"}
	case t.Implements(textMarshaler):
		return object{"type": "string"}
	case t.Implements(reflect.TypeFor[describer]()):
		return d.described(reflect.Zero(t).Interface())
	}
	switch t.Kind() {
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int32, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice:
		return object{"type": "array", "items": d.schema(t.Elem(), answer)}
	case reflect.Struct:
		return d.named(t, answer)
	}
	return object{} // anything
}

// named describes a struct once and refers to it.
func (d *document) named(t reflect.Type, answer bool) object {
	return d.component(t.Name(), func(schema, properties object) (required []string) {
		d.fields(t, answer, properties, &required)
		if !answer {
			schema["additionalProperties"] = false
		}
		return required
	})
}

// component describes an object once and refers to it: generators of clients name their types after components. Its
// name starts with the plane's, since planes share a document but not their types.
func (d *document) component(name string, describe func(schema, properties object) (required []string)) object {
	name = d.plane + "." + name
	if _, done := d.schemas[name]; !done {
		d.schemas[name] = object{} // an object that holds itself ends here
		properties := object{}
		schema := object{"type": "object", "properties": properties}
		if required := describe(schema, properties); len(required) > 0 {
			schema["required"] = required
		}
		d.schemas[name] = schema
	}
	return object{"$ref": "#/components/schemas/" + name}
}

func (d *document) fields(t reflect.Type, answer bool, properties object, required *[]string) {
	for field := range t.Fields() {
		tag, _ := field.Tag.Lookup("json")
		name, options, _ := strings.Cut(tag, ",")
		if field.Anonymous && name == "" {
			d.fields(field.Type, answer, properties, required)
			continue
		}
		omitted := strings.Contains(options, "omitempty")
		schema := enumerate(d.schema(field.Type, answer), strings.Fields(field.Tag.Get("enum"))...)
		if field.Type.Kind() == reflect.Pointer && !omitted && schema["$ref"] == nil {
			schema["nullable"] = true
		}
		properties[name] = schema
		if answer && !omitted || field.Tag.Get("api") == "required" {
			*required = append(*required, name)
		}
	}
}
