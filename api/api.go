// Package api is the life of a request on every plane: it finds the route, proves who calls, keeps the limits, runs the
// handler, and writes the one answer, the log line and the metrics. What a plane says, and how it spells it, is the
// plane's own.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
)

// Keys knows who holds an API key.
type Keys interface {
	// Resource returns the Face resource that key opens when it is presented to host (the request's Host header, maybe
	// with a port), and which of the resource's keys it is. A key that nobody holds, one that was rotated away, and one
	// of another resource than host names are all the same *visage.Refusal of kind Unauthenticated; a resource that
	// takes no keys is one of kind Denied.
	//
	// How long it takes must not depend on how much of a key was right. It is called concurrently, once for each
	// request.
	Resource(ctx context.Context, key, host string) (visage.Resource, visage.Principal, error)
}

// Tokens knows whose a bearer token is.
type Tokens interface {
	// Principal returns who sends bearer. A token that proves nobody is a *visage.Refusal of kind Unauthenticated. How
	// long it takes must not depend on how much of a token was right. It is called concurrently, once for each request.
	Principal(ctx context.Context, bearer string) (visage.Principal, error)
}

// Holders knows which Face resource a bearer token opens.
type Holders interface {
	// Resource returns the Face resource that is called at host (the request's Host header, maybe with a port), and who
	// sends bearer, when that is somebody who may use it. Everything else is a *visage.Refusal of kind Unauthenticated.
	// It is called concurrently, once for each request with a bearer token.
	Resource(ctx context.Context, bearer, host string) (visage.Resource, visage.Principal, error)
}

// Plane is a family of routes that answer in one dialect.
type Plane struct {
	// Name is the plane's name in logs and metrics, for example "face". Required.
	Name string
	// Prefix is what the paths of the plane begin with, for example "/face/", in lower case: it decides in which
	// dialect an unknown path is refused. Required; one "/" matches all that no other plane has.
	Prefix string
	// Paths reports whether a path is the plane's too, where it has no route and no plane's Prefix fits. The path is in
	// lower case, with a slash at both ends. Default: none is.
	Paths func(path string) bool
	// Hosts reports whether a Host header names a host of the plane: what has no route there is refused in its dialect,
	// whatever the path is. It is called for each request. Default: the plane has none.
	Hosts func(host string) bool
	// Alone: at Hosts no other plane answers, and Admit proves who calls before anybody is told what paths there are.
	Alone bool
	// Unknown is the sentence for a path that has no route. Default: one that fits all planes.
	Unknown string
	// Routes are the plane's operations. Required.
	Routes []Route
	// KeyHeader is the header that carries an API key. Required when a route allows ResourceKey.
	KeyHeader string
	// Admit proves who calls a route that allows PlaneToken, before anything of the body is read. Required when there
	// is one.
	Admit func(*Request) (visage.Principal, error)
	// Greet sets the headers that every answer of the plane carries. Optional.
	Greet func(h http.Header, r *http.Request, requestID string)
	// Problem spells an error answer: it returns the body, to be written as JSON, and may set headers. Required.
	Problem func(h http.Header, p *Problem) any
	// Share is the plane's part of Config.BodyBytes, in relation to those of the others. Default 1.
	Share int
	// CallerRate bounds the requests of each identity that has shown a bearer token, AddressRate those from each
	// address; requests with the key of a resource have the rate of its tier instead. Default: no limit.
	CallerRate, AddressRate Rate

	memory *memory
}

// Config is what a Handler is made of.
type Config struct {
	// Planes are what is served. Required.
	Planes []Plane
	// Keys proves API keys. Required when a route allows ResourceKey.
	Keys Keys
	// Tokens proves bearer tokens. Required when a route allows BearerToken.
	Tokens Tokens
	// Holders proves bearer tokens where API keys are asked for. Where a request has both, the token counts. Default:
	// nobody's token opens a resource.
	Holders Holders
	// Openness says from where the data of resources may be used. Default: from everywhere, and by no page of another
	// origin in a browser.
	Openness Openness
	// Origin is where clients reach the planes, for addresses in answers. Default: such addresses have a path alone.
	Origin visage.Origin
	// Rate says how many requests a second a resource may make on average, and how many at once. Default: what its tier
	// says. A rate below 0 is no limit.
	Rate func(visage.Resource) (perSecond float64, burst int)
	// Refused is told of every request that is answered with 401, 403 or 429: the plane, and who asked, as far as it
	// was proved. It must return at once. Optional.
	Refused func(plane string, r *Request, p *Problem)
	// BodyBytes bounds the memory for bodies, in bytes. Every plane has a share of it that no other takes, and one
	// caller at most a quarter of that: a resource, an identity, or, where no credential is needed, a sixteenth an
	// address. What is beyond it waits. Memory counts as bytes come, the first 4 KiB of a body never. Default 512 MiB.
	BodyBytes int64
	// BodyTimeout bounds the time a client may take to send a body. Default 60 s.
	BodyTimeout time.Duration
	// BodyGrace and BodyRate are the least rate of bodies: after so long a time, so many bytes a second must have come
	// on average. Defaults 5 s and 4096.
	BodyGrace time.Duration
	BodyRate  int64
	// WriteTimeout bounds the time a client may take to receive an answer. Default 60 s.
	WriteTimeout time.Duration
	// Proved is called when the sender of a request has proved who they are, with the request's context: http.Server's
	// ConnContext tells whose connection that is. It must return at once. Optional.
	Proved func(context.Context)
	// Inner says that the requests are those of the process to itself, over connections that nobody else can open: the
	// rates do not bind them, their metrics have names of their own, and Request.Inner tells the planes. Such a Handler
	// shares no pool with the one for everybody, so that what strangers fill does not stop it. Default: false.
	Inner bool
	// Beside is another handler of the same process, whose metrics count the requests of this one too. Optional.
	Beside *Handler
	// Logger gets one line a request, and the text of internal errors. Default: discard.
	Logger *slog.Logger
}

// Handler serves planes. It is safe for concurrent use. The http.Server around it needs a ReadHeaderTimeout and an
// IdleTimeout, and neither a ReadTimeout nor a WriteTimeout, since those would also count the time a handler works.
type Handler struct {
	cfg     Config
	planes  []*Plane
	root    *node
	rates   *rates
	pending *pending
	signIns *signIns
	metrics *metrics
	log     *slog.Logger
}

// defaultBodyBytes is enough for 85 of the largest images at a time, far more than a machine recognises at a time.
const defaultBodyBytes = 512 << 20

// New checks cfg and makes a Handler.
func New(cfg Config) (*Handler, error) {
	if len(cfg.Planes) == 0 {
		return nil, errors.New("make api handler: no planes")
	}
	setDefault(&cfg.BodyTimeout, defaultBodyTimeout)
	setDefault(&cfg.BodyGrace, defaultBodyGrace)
	setDefault(&cfg.BodyRate, defaultBodyRate)
	setDefault(&cfg.BodyBytes, defaultBodyBytes)
	if cfg.Proved == nil {
		cfg.Proved = func(context.Context) {}
	}
	setDefault(&cfg.WriteTimeout, time.Minute)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Rate == nil {
		cfg.Rate = rateOfTier
	}
	h := &Handler{cfg: cfg, root: newNode(), rates: newRates(), pending: newPending(), signIns: newSignIns(),
		metrics: newMetrics(cfg.Inner), log: cfg.Logger}
	if cfg.Beside != nil {
		h.metrics = cfg.Beside.metrics
	}
	shares := 0
	for i := range cfg.Planes {
		setDefault(&cfg.Planes[i].Share, 1)
		shares += cfg.Planes[i].Share
	}
	for i := range cfg.Planes {
		p := &cfg.Planes[i]
		if err := h.add(p, cfg.BodyBytes/int64(shares)*int64(p.Share)); err != nil {
			return nil, fmt.Errorf("make api handler: plane %q: %w", p.Name, err)
		}
		h.planes = append(h.planes, p)
	}
	return h, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// add makes the routes of a plane known. memory is the plane's for bodies, in bytes.
func (h *Handler) add(p *Plane, memory int64) error {
	if p.Name == "" || p.Prefix == "" || p.Problem == nil {
		return errors.New("name, prefix and problem are required")
	}
	longest := int64(0)
	for i := range p.Routes {
		r := &p.Routes[i]
		if r.Allow == ResourceKey && (h.cfg.Keys == nil || p.KeyHeader == "") {
			return fmt.Errorf("route %s needs keys and a key header", r.Label())
		}
		if r.Allow == BearerToken && h.cfg.Tokens == nil {
			return fmt.Errorf("route %s needs tokens", r.Label())
		}
		if r.Allow == PlaneToken && p.Admit == nil {
			return fmt.Errorf("route %s needs the plane's admit", r.Label())
		}
		if longest = max(longest, r.MaxBody); longest > memory {
			return fmt.Errorf("route %s takes bodies of %d bytes, and all of the plane together may have %d", r.Label(),
				r.MaxBody, memory)
		}
		if err := h.root.add(p, r); err != nil {
			return err
		}
		h.metrics.know(p.Name)
	}
	p.memory = newMemory(memory, longest)
	return nil
}

// Collectors returns the metrics, to be registered once.
func (h *Handler) Collectors() []prometheus.Collector { return h.metrics.collectors() }
