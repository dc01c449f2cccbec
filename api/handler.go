package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/visage-face/visage"
)

// exchange is the state of one request.
type exchange struct {
	id       string
	plane    *Plane // nil for a path of no plane
	route    *Route // nil for a path or method without a route
	resource visage.Resource
	body     *body
}

// answer is the answer to a request.
type answer struct {
	status int
	code   string // of an error; may be empty
	header http.Header
	body   []byte // nil: none
	stream func(context.Context, io.Writer) error
}

// ServeHTTP handles a request from its header to its log line.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	x := &exchange{id: visage.NewUUID().String()}
	segments, fine := segmentsOf(r.URL)
	var found *node
	var values []string
	if fine {
		found, values = h.root.find(segments)
	}
	home := h.homeOf(r.Host)
	if found != nil {
		x.plane, x.route = found.end(r.Method)
	}
	if home != nil && home.Alone && x.plane != home {
		found, x.route = nil, nil
	}
	if found == nil {
		x.plane = h.planeOf(home, r.URL.Path)
	}
	done := h.metrics.begin(x)
	control := http.NewResponseController(w)
	x.body = h.body(x, r, control)
	defer x.body.close()

	a := h.answer(x, r, home, found, values)

	h.readOn(x, r)
	unread := r.ProtoMajor < 2 && x.body.unread()
	if unread {
		w.Header().Set("Connection", "close")
		if !x.withheld(r) {
			// Lets the client continue to send while it is answered.
			h.deadline(control.EnableFullDuplex())
		}
	}
	h.deadline(control.SetWriteDeadline(time.Now().Add(h.cfg.WriteTimeout)))
	written, err := h.write(w, r, x, a)
	if err == nil && unread && !x.withheld(r) {
		err = h.linger(x, control)
	}
	took := time.Since(begin)
	done(a.status, took)
	h.cfg.Answered(Answered{x.planeName(), x.label(), x.resource.ID, a.status, a.code, took})
	attrs := []any{
		"request_id", x.id, "plane", x.planeName(), "route", x.label(), "status", a.status, "took", took,
		"bytes_in", x.body.n, "bytes_out", written,
	}
	if x.resource.ID != (visage.ResourceID{}) {
		attrs = append(attrs, "resource", x.resource.ID.String())
	}
	if err != nil {
		attrs = append(attrs, "write_err", err.Error())
	}
	h.log.Info("request", attrs...)
	if err != nil && a.stream != nil {
		panic(http.ErrAbortHandler) // the client must notice that its answer is incomplete
	}
	if err == nil && r.ProtoMajor < 2 {
		giveWay(control)
	}
}

// giveWay sends the answer and yields to the requests of other connections. The server reads the next request of an
// HTTP/1 connection in the same goroutine, and a fast client has often sent it by then: such a connection would keep
// its processor until the runtime preempts it after 10 ms, which is enough for 30 requests of 0.3 ms.
func giveWay(control *http.ResponseController) {
	// An error ends the connection, which the server notices itself.
	_ = control.Flush()
	runtime.Gosched()
}

// deadline logs a deadline that could not be set. Writers of tests have no connection and support none.
func (h *Handler) deadline(err error) {
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		h.log.Warn("deadline not set", "err", err)
	}
}

// answer makes the answer to a request.
func (h *Handler) answer(
	x *exchange, r *http.Request, home *Plane, found *node, values []string,
) answer {
	var names []string
	if found != nil {
		names = found.names
	}
	if x.route == nil {
		if found != nil {
			if a, ok := h.preflight(x, r, found); ok {
				return a
			}
		}
		refusal := x.unknown(found)
		if home == nil || !home.Alone || home.Admit == nil {
			return h.refuse(x, r, refusal)
		}
		x.route = nowhere(r.Method, refusal)
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), x.route.Timeout, errTooLong)
	defer cancel()
	req := &Request{
		ID: x.id, http: r.WithContext(ctx), route: x.route, path: values, names: names, body: x.body,
		handler: h, x: x,
	}
	result, err := h.run(x, req)
	if err != nil {
		p, internal := ProblemOf(ctx, err)
		if internal {
			h.log.Error("request failed", "request_id", x.id, "route", x.label(), "err", err)
		}
		if h.cfg.Refused != nil && turnsAway(p.Status) {
			h.cfg.Refused(x.plane.Name, req, p)
		}
		return h.refuse(x, r, p)
	}
	a, err := spell(result)
	if err != nil {
		h.log.Error("request failed", "request_id", x.id, "route", x.label(), "err", err)
		return h.refuse(x, r, blank())
	}
	return a
}

// turnsAway reports whether a status refuses access.
func turnsAway(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusTooManyRequests
}

// run authenticates and admits the request, and calls its handler. A panic becomes an internal error with the stack in
// its text.
func (h *Handler) run(x *exchange, req *Request) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			result, err = nil, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	defer x.plane.memory.release(x.body) // the body counts until the handler returns
	if err := h.cfg.Current(req.Context()); err != nil {
		return nil, err
	}
	if err := h.prove(x, req); err != nil {
		return nil, h.turnedAway(x, req, err)
	}
	if x.route.Allow != Anyone {
		h.cfg.Proved(req.Context())
	}
	if err := h.admit(x, req); err != nil {
		return nil, err
	}
	req.http = req.http.WithContext(visage.WithCaller(req.Context(), req.Caller()))
	x.body.holder, x.body.proved = holderOf(req), x.route.Allow != Anyone
	result, err = x.route.Handle(req)
	if over := h.countRest(x, req); over != nil {
		return nil, over
	}
	return result, err
}

// prove authenticates the caller.
func (h *Handler) prove(x *exchange, req *Request) (err error) {
	switch x.route.Allow {
	case Anyone:
	case BearerToken:
		err = h.admitBearer(req)
	case PlaneToken:
		req.Principal, err = x.plane.Admit(req)
	case ResourceKey:
		req.Resource, req.Principal, err = h.holder(x, req)
		x.resource = req.Resource
	}
	return err
}

// admit refuses requests from addresses that a resource excludes, and those above their rate.
func (h *Handler) admit(x *exchange, req *Request) error {
	if h.cfg.Inner {
		return nil
	}
	if x.route.Allow == ResourceKey && h.cfg.Openness != nil {
		if err := h.cfg.Openness.AdmitAddress(req.Resource, req.ClientAddress()); err != nil {
			return err
		}
	}
	return h.count(x, req)
}

// holder authenticates the resource of a request by a bearer token or a key.
func (h *Handler) holder(x *exchange, req *Request) (visage.Resource, visage.Principal, error) {
	if bearer := req.Bearer(); bearer != "" && h.cfg.Holders != nil {
		resource, principal, err := h.cfg.Holders.Resource(req.Context(), bearer, req.http.Host)
		if err != nil {
			err = fmt.Errorf("look for the resource of a token: %w", err)
		}
		return resource, principal, err
	}
	key := req.http.Header.Get(x.plane.KeyHeader)
	if key == "" {
		return visage.Resource{}, visage.Principal{}, visage.Refuse(visage.Unauthenticated, "",
			"The request has no key: send one in the header %s.", x.plane.KeyHeader)
	}
	resource, principal, err := h.cfg.Keys.Resource(req.Context(), key, req.http.Host)
	if err != nil {
		err = fmt.Errorf("look for the holder of a key: %w", err)
	}
	return resource, principal, err
}

// admitBearer authenticates a bearer token. The rates of tiers do not apply: they are for the data of resources, not
// for their management.
func (h *Handler) admitBearer(req *Request) error {
	token := req.Bearer()
	if token == "" {
		return visage.Refuse(visage.Unauthenticated, "AuthenticationFailed",
			"The request has no bearer token: send one in the header Authorization.")
	}
	principal, err := h.cfg.Tokens.Principal(req.Context(), token)
	if err != nil {
		return fmt.Errorf("look for the holder of a token: %w", err)
	}
	req.Principal = principal
	return nil
}

// spell encodes a handler's result as an answer.
func spell(result any) (answer, error) {
	reply, ok := result.(Reply)
	if !ok {
		reply = Reply{Status: http.StatusOK, Body: result}
	}
	a := answer{status: reply.Status, header: reply.Header, stream: reply.Stream}
	if reply.Raw != nil {
		a.body = reply.Raw
		return a, nil
	}
	if reply.Body == nil {
		return a, nil
	}
	var err error
	if a.body, err = encode(reply.Body); err != nil {
		return answer{}, fmt.Errorf("write answer: %w", err)
	}
	return a, nil
}

// refuse writes a problem in the dialect of the plane.
func (h *Handler) refuse(x *exchange, r *http.Request, p *Problem) answer {
	p.RequestID = x.id
	if x.plane != nil && x.plane.Page != nil {
		a := p.bare()
		a.body = x.plane.Page(a.header, r, p)
		return a
	}
	dialect := plain
	if x.plane != nil {
		dialect = x.plane.Problem
	}
	a, err := p.answer(dialect)
	if err != nil {
		h.log.Error("error answer not encoded", "request_id", x.id, "err", err)
	}
	return a
}

// seconds rounds a wait up to whole seconds, at least one: an earlier retry would be refused again.
func seconds(d time.Duration) int64 { return max(1, int64(math.Ceil(d.Seconds()))) }

// encode encodes JSON as the contracts do: without escapes for HTML.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// write sends the answer. An error means that the client disconnected or read too slowly.
func (h *Handler) write(w http.ResponseWriter, r *http.Request, x *exchange, a answer) (int, error) {
	header := w.Header()
	if x.plane != nil && x.plane.Greet != nil {
		x.plane.Greet(header, r, x.id)
	}
	h.allowOrigin(header, x, r)
	if a.stream == nil {
		return a.send(w, r.Method)
	}
	a.setHeaders(header)
	setUnlessSet(header, "Content-Type", "application/octet-stream")
	w.WriteHeader(a.status)
	out := &patientWriter{to: w, control: http.NewResponseController(w), handler: h}
	err := a.stream(r.Context(), out)
	return out.n, err
}

// send sends an answer that has no stream.
func (a answer) send(w http.ResponseWriter, method string) (int, error) {
	header := w.Header()
	a.setHeaders(header)
	if a.body != nil {
		setUnlessSet(header, "Content-Type", "application/json; charset=utf-8")
	}
	if a.status != http.StatusNoContent {
		header.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	w.WriteHeader(a.status)
	if method == http.MethodHead {
		return 0, nil
	}
	return w.Write(a.body)
}

func (a answer) setHeaders(header http.Header) {
	for name, values := range a.header {
		header[http.CanonicalHeaderKey(name)] = values
	}
	header.Set("X-Content-Type-Options", "nosniff")
	setUnlessSet(header, "Cache-Control", "no-store")
}

func setUnlessSet(header http.Header, name, value string) {
	if header.Get(name) == "" {
		header.Set(name, value)
	}
}

// patientWriter gives the client WriteTimeout for each piece of a stream.
type patientWriter struct {
	to      io.Writer
	control *http.ResponseController
	handler *Handler
	n       int
}

// Write implements io.Writer.
func (w *patientWriter) Write(b []byte) (int, error) {
	w.handler.deadline(w.control.SetWriteDeadline(time.Now().Add(w.handler.cfg.WriteTimeout)))
	n, err := w.to.Write(b)
	w.n += n
	return n, err
}

func (x *exchange) planeName() string {
	if x.plane == nil {
		return none
	}
	return x.plane.Name
}

// label is the route's label, or none: never the path, which may contain names of people.
func (x *exchange) label() string {
	if x.route == nil || x.route.Pattern == "" {
		return none
	}
	return x.route.Label()
}

// none is the label of requests without a plane or route.
const none = "none"
