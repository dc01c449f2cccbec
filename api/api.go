// Package api handles the requests of every plane: it finds the route, authenticates the caller, enforces limits, runs
// the handler, and writes the answer, the log line and the metrics. Each plane has its own routes and its own dialect.
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

// Keys authenticates API keys.
type Keys interface {
	// Resource returns the Face resource that key opens when it is presented to host (the request's Host header, maybe
	// with a port), and which of the resource's keys it is. An unknown key, a rotated key, and a key of another
	// resource than the one at host give the same *visage.Refusal of kind Unauthenticated; a resource that accepts no
	// keys gives one of kind Denied.
	//
	// Its duration must not depend on how much of a key is right. It is called concurrently, once for each request.
	Resource(ctx context.Context, key, host string) (visage.Resource, visage.Principal, error)
}

// Tokens authenticates bearer tokens.
type Tokens interface {
	// Principal returns the principal of bearer. An invalid token gives a *visage.Refusal of kind Unauthenticated. Its
	// duration must not depend on how much of a token is right. It is called concurrently, once for each request.
	Principal(ctx context.Context, bearer string) (visage.Principal, error)
}

// Holders finds the Face resource that a bearer token gives access to.
type Holders interface {
	// Resource returns the Face resource at host (the request's Host header, maybe with a port), and the principal of
	// bearer, if that principal may use the resource. Everything else gives a *visage.Refusal of kind Unauthenticated.
	// It is called concurrently, once for each request with a bearer token.
	Resource(ctx context.Context, bearer, host string) (visage.Resource, visage.Principal, error)
}

// Plane is a set of routes with one dialect.
type Plane struct {
	// Name is the plane's name in logs and metrics, for example "face". Required.
	Name string
	// Prefix is the beginning of the plane's paths in lower case, for example "/face/": it selects the dialect in which
	// an unknown path is refused. Required; "/" matches every path that no other plane has.
	Prefix string
	// Paths reports whether a path without a route, which no plane's Prefix matches, belongs to the plane. The path is
	// in lower case, with a slash at both ends. Default: none does.
	Paths func(path string) bool
	// Hosts reports whether a Host header names a host of the plane: requests to it without a route are refused in the
	// plane's dialect, whatever the path. It is called for each request. Default: the plane has no hosts.
	Hosts func(host string) bool
	// Alone means that no other plane answers at Hosts, and that Admit authenticates the caller before a path is
	// reported as unknown.
	Alone bool
	// Unknown is the message for a path without a route. Default: one that fits all planes.
	Unknown string
	// Routes are the plane's operations. Required.
	Routes []Route
	// KeyHeader is the header that carries an API key. Required when a route allows ResourceKey.
	KeyHeader string
	// Admit authenticates the caller of a route that allows PlaneToken, before the body is read. Required when there is
	// such a route.
	Admit func(*Request) (visage.Principal, error)
	// Greet sets the headers of every answer of the plane. Optional.
	Greet func(h http.Header, r *http.Request, requestID string)
	// Problem writes an error in the plane's dialect: it returns the body, which is encoded as JSON, and may set
	// headers. Required without Page.
	Problem func(h http.Header, p *Problem) any
	// Page writes an error as a document for people instead: it returns the body, and sets at least its Content-Type.
	Page func(h http.Header, r *http.Request, p *Problem) []byte
	// Share is the plane's part of Config.BodyBytes, in relation to those of the others. Default 1.
	Share int
	// CallerRate limits the requests of each principal with a bearer token, AddressRate those from each address;
	// requests with a resource's key have the rate of its tier instead. Default: no limit.
	CallerRate, AddressRate Rate

	memory *memory
}

// Config configures a Handler.
type Config struct {
	// Planes are the planes to serve. Required.
	Planes []Plane
	// Keys authenticates API keys. Required when a route allows ResourceKey.
	Keys Keys
	// Tokens authenticates bearer tokens. Required when a route allows BearerToken.
	Tokens Tokens
	// Holders authenticates bearer tokens on routes that take API keys. When a request has both, the token counts.
	// Default: no token gives access to a resource.
	Holders Holders
	// Current is called before the sender of a request is authenticated, and fails when what is known of keys, roles
	// and resources may be outdated. Its error is the answer. Optional.
	Current func(context.Context) error
	// Openness restricts the addresses and origins from which the data of resources may be used. Default: every
	// address, and no page of another origin in a browser.
	Openness Openness
	// Origin is the origin at which clients reach the planes, for addresses in answers. Default: such addresses are
	// paths.
	Origin visage.Origin
	// Rate returns how many requests a second a resource may make on average, and how many at once. Default: the limits
	// of its tier. A rate below 0 means no limit.
	Rate func(visage.Resource) (perSecond float64, burst int)
	// Replicas returns how many processes serve the same clients: each allows its share of every rate, since clients
	// spread over them. It is called for each request. Default: this is the only one.
	Replicas func() int
	// Refused is called for every request that is answered with 401, 403 or 429, with the plane and the request, whose
	// Principal is set if it was authenticated. It must return at once. Optional.
	Refused func(plane string, r *Request, p *Problem)
	// Answered is called for every request when its answer is written. It must return at once. Optional.
	Answered func(Answered)
	// BodyBytes limits the memory for bodies, in bytes. Every plane has a share of it for itself. One resource or
	// principal has at most a quarter of that share; one address, on routes without a credential, a sixteenth. Bodies
	// beyond that wait. Memory is counted as bytes arrive, except for the first 4 KiB of a body. Default 512 MiB.
	BodyBytes int64
	// BodyTimeout limits the time in which a client must send a body. Default 60 s.
	BodyTimeout time.Duration
	// BodyGrace and BodyRate are the minimal rate of bodies: after BodyGrace, at least BodyRate bytes a second must
	// have arrived on average. Defaults 5 s and 4096.
	BodyGrace time.Duration
	BodyRate  int64
	// WriteTimeout limits the time in which a client must receive an answer. Default 60 s.
	WriteTimeout time.Duration
	// Proved is called when the sender of a request is authenticated, with the request's context, which http.Server's
	// ConnContext can connect with the connection. It must return at once. Optional.
	Proved func(context.Context)
	// Inner means that the process sends the requests to itself, over connections that nobody else can open: the rates
	// do not apply, the metrics have names of their own, and Request.Inner is true. Such a Handler shares no memory
	// limits with the public one, so that foreign requests cannot block it. Default: false.
	Inner bool
	// Beside is another handler of the same process, whose metrics count the requests of this one too. Optional.
	Beside *Handler
	// Logger gets one line a request, and the text of internal errors. Default: discard.
	Logger *slog.Logger
}

// Answered is a request that was answered.
type Answered struct {
	Plane    string            // the plane's name; "none": the path belongs to no plane
	Route    string            // the route's label, or "none": never the path
	Resource visage.ResourceID // whose data the request was for, if its sender was authenticated; else zero
	Status   int
	Code     string        // of the error; empty: there was none, or the plane's name for the status
	Took     time.Duration // from the request's header to the end of its answer
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

// defaultBodyBytes is enough for 85 of the largest images at a time, far more than a machine analyses at once.
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
	if cfg.Current == nil {
		cfg.Current = func(context.Context) error { return nil }
	}
	if cfg.Proved == nil {
		cfg.Proved = func(context.Context) {}
	}
	if cfg.Answered == nil {
		cfg.Answered = func(Answered) {}
	}
	setDefault(&cfg.WriteTimeout, time.Minute)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Replicas == nil {
		cfg.Replicas = func() int { return 1 }
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

// add registers the routes of a plane. memory is the plane's limit for bodies, in bytes.
func (h *Handler) add(p *Plane, memory int64) error {
	if p.Name == "" || p.Prefix == "" || p.Problem == nil && p.Page == nil {
		return errors.New("name, prefix and problem or page are required")
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
