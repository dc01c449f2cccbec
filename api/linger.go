package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// body makes the body of a request. Nothing is read yet, so that a client that asks whether to send it gets no word.
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

// unread reports whether a part of the body is still on its way.
func (b *body) unread() bool { return b.declared != 0 && b.err == nil }

// withheld reports whether the client waits to be told to send its body, and was not.
func (x *exchange) withheld(r *http.Request) bool {
	return r.ProtoMajor == 1 && strings.EqualFold(r.Header.Get("Expect"), "100-continue") && x.body.begun.IsZero()
}

// readOn reads what is left of the body before the request is answered, within bounds. Many clients write all of a
// request before they read, and take an answer that comes earlier, and the end of the connection after it, for a broken
// connection.
func (h *Handler) readOn(x *exchange, r *http.Request) {
	b := x.body
	if !b.unread() || r.Context().Err() != nil || x.withheld(r) {
		return
	}
	if b.declared-b.n > drainMost {
		return // it is not worth it; see linger
	}
	b.discard(drainMost)
}

// linger reads on after the answer to a body that is too long, or too slow, to be waited for: what the client has
// written by now must not meet a closed connection, or its system throws the answer away (RFC 9112 §9.6).
func (h *Handler) linger(x *exchange, control *http.ResponseController) error {
	if err := control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("send the answer: %w", err)
	}
	if !x.body.discard(lastMost) {
		x.body.mu.Lock()
		defer x.body.mu.Unlock()
		x.body.set(time.Unix(1, 0)) // nor shall the server wait for more
	}
	return nil
}

// holderOf is whose share of the memory a body counts to.
func holderOf(r *Request) caller {
	switch r.route.Allow {
	case Anyone:
		return r.body.address
	case ResourceKey:
		return caller("resource " + string(r.Resource.ID[:]))
	}
	return caller("principal " + r.Principal.Tenant + "/" + r.Principal.ObjectID)
}

// addressOf is the address that a request comes from: of IPv6 the network, since a host has 2^64 addresses in it.
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
