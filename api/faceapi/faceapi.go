// Package faceapi serves the wire contract of the Face API: it decodes the requests of Face clients, calls one method
// of the Face service for each, and encodes the answer as versions 1.0 and 1.2 of the contract define it.
package faceapi

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/face"
)

// Config is what the plane needs.
type Config struct {
	// Service does the work. Required.
	Service *face.Service
	// AllowPrivate lets image URLs lead to addresses that are not public: loopback, private networks, and the like.
	// Every caller of the API can then make this machine send requests to them. Default: such addresses are refused.
	AllowPrivate bool
}

// KeyHeader carries the key of a Face resource.
const KeyHeader = "Ocp-Apim-Subscription-Key"

// New checks cfg and makes the plane.
func New(cfg Config) (api.Plane, error) {
	if cfg.Service == nil {
		return api.Plane{}, errors.New("make face plane: Config.Service is required")
	}
	images := newFetcher(theInternet(), cfg.AllowPrivate)
	var routes []api.Route
	for _, d := range dialects {
		p := &plane{service: cfg.Service, images: images, dialect: d}
		routes = append(routes, p.routes()...)
	}
	return api.Plane{
		Name: "face", Prefix: "/face/", Routes: routes, KeyHeader: KeyHeader, Greet: greet, Problem: problem,
		Share: 12, // images are long; the bodies of the other planes are short
	}, nil
}

// plane serves one version of the contract.
type plane struct {
	service *face.Service
	images  *fetcher
	dialect
}

// dialect holds the differences between the versions of the contract.
type dialect struct {
	base       string // beginning of the paths
	candidates int    // Identify's default (contract §5.2)
	notStarted string // the status of a training that waits (contract §8)
	liveness   bool   // whether the version has liveness sessions (contract §10)
	capitals   bool   // whether values of glasses begin with a capital (contract §3.3)
}

var dialects = []dialect{
	{base: "/face/v1.0", candidates: 1, notStarted: "notstarted", capitals: true},
	{base: "/face/v1.2", candidates: 10, notStarted: string(face.NotStarted), liveness: true},
}

// greet sets the headers that every answer has (contract §1.2).
func greet(h http.Header, r *http.Request, requestID string) {
	h.Set("apim-request-id", requestID)
	api.EchoRequestID(h, r, "x-ms-client-request-id")
}

// errorAnswer is the error shape of the contract, §1.4.
type errorAnswer struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Code       string      `json:"code"`
	Message    string      `json:"message"`
	InnerError *innerError `json:"innererror,omitempty"`
}

type innerError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// problem returns an error in the form of the contract. No other function does.
func problem(h http.Header, p *api.Problem) any {
	d := errorDetail{Code: p.Code, Message: p.Message}
	if d.Code == "" {
		d.Code = codeOf(p.Status)
	}
	if p.InnerCode != "" {
		d.InnerError = &innerError{p.InnerCode, p.Message}
	}
	if p.Status == http.StatusInternalServerError {
		d.Message += " It is " + p.RequestID + "."
	}
	h.Set("x-ms-error-code", d.Code)
	return errorAnswer{d}
}

// codeOf returns the code of a refusal that was made before an operation was reached. Where the contract has no code,
// it is the status, as the contract has it for 401 and 429.
func codeOf(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "BadArgument"
	case http.StatusUnsupportedMediaType:
		return "UnsupportedMediaType"
	case http.StatusInternalServerError:
		return "InternalServerError"
	case http.StatusServiceUnavailable:
		return "ServiceUnavailable"
	}
	return strconv.Itoa(status)
}
