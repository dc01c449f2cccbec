package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// body makes the body of a request. Nothing is read yet, so a client that waits for "100 Continue" does not get it.
func (h *Handler) body(x *exchange, r *http.Request, control *http.ResponseController) *body {
	b := &body{
		from: r.Body, control: control, declared: r.ContentLength, pending: h.pending, address: addressOf(r),
		least: leastRate{grace: h.cfg.BodyGrace, perSecond: h.cfg.BodyRate, whole: h.cfg.BodyTimeout},
	}
	b.holder = b.address
	if x.route != nil {
		b.most, b.memory = x.route.MaxBody, x.plane.memory
	}
	return b
}

// unread reports whether a part of the body has not been read.
func (b *body) unread() bool { return b.declared != 0 && b.err == nil }

// withheld reports whether the client waits for a "100 Continue" that it has not got.
func (x *exchange) withheld(r *http.Request) bool {
	return r.ProtoMajor == 1 && strings.EqualFold(r.Header.Get("Expect"), "100-continue") && x.body.begun.IsZero()
}

// readOn reads the rest of the body before the request is answered, within limits. Many clients write the whole request
// before they read; to them an earlier answer and the end of the connection look like a failure.
func (h *Handler) readOn(x *exchange, r *http.Request) {
	b := x.body
	if !b.unread() || r.Context().Err() != nil || x.withheld(r) {
		return
	}
	if b.declared-b.n > drainMost {
		return // too long; see linger
	}
	b.discard(drainMost)
}

// linger reads on after the answer, for a body that is too long or too slow to wait for: if the connection closed on
// data that the client has already sent, the client's system would discard the answer (RFC 9112 §9.6).
func (h *Handler) linger(x *exchange, control *http.ResponseController) error {
	if err := control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("send the answer: %w", err)
	}
	if !x.body.discard(lastMost) {
		x.body.mu.Lock()
		defer x.body.mu.Unlock()
		x.body.set(time.Unix(1, 0)) // so that the server does not wait for more either
	}
	return nil
}

// holderOf returns the caller whose share of the memory a body uses.
func holderOf(r *Request) caller {
	switch r.route.Allow {
	case Anyone:
		return r.body.address
	case ResourceKey:
		return caller("resource " + string(r.Resource.ID[:]))
	}
	return caller("principal " + r.Principal.Tenant + "/" + r.Principal.ObjectID)
}

// addressOf returns the address of a request's client; for IPv6 the /64 network, since one host has all of its
// addresses.
func addressOf(r *http.Request) caller {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return caller("address " + r.RemoteAddr)
	}
	address := from.Addr().Unmap().WithZone("")
	if address.Is6() && !address.IsLoopback() {
		if network, err := address.Prefix(64); err == nil {
			address = network.Addr()
		}
	}
	return caller("address " + address.String())
}
