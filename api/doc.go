package api

import "net/http"

// Doc describes a route in the OpenAPI document. Method, path, path parameters and security come from the Route.
type Doc struct {
	Summary string  // one line
	Query   []Param // the query parameters
	Body    any     // a value of the type that the JSON body is decoded into; nil: no JSON body
	Image   bool    // the body may be the bytes of an image instead
	Answer  any     // a value of the answer's type; nil: no body
	Headers []Param // of the answer, besides those of every answer
	Status  int     // the status of success; 0: 200
}

func (d Doc) status() int {
	if d.Status == 0 {
		return http.StatusOK
	}
	return d.Status
}

// Param is a query parameter, or a header of an answer.
type Param struct {
	Name  string
	Text  string // its meaning, in one sentence
	Value any    // a value of its type: string, bool, int
	Enum  string // the values there are, separated by spaces; empty: any
}
