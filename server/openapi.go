package server

import (
	"net/http"

	"github.com/visage-face/visage/api"
)

// describe returns the page that describes the planes as an OpenAPI document, made from their route tables.
func describe(planes []api.Plane) (http.HandlerFunc, error) {
	document, err := api.OpenAPI("Visage", "1", planes...)
	if err != nil {
		return nil, err
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write(document) // an error means that the client has disconnected
	}, nil
}
