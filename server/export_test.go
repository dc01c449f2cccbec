package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/sealed"
)

// Custody returns the room that holds the keys. After Ready.
func (s *Server) Custody() *custody.Custody { return s.custody.Load() }

// Identify gives the resource called name a managed identity, and returns the resource's space and who it is.
func (s *Server) Identify(ctx context.Context, name string) (sealed.SpaceID, visage.PrincipalID, error) {
	a, err := s.accounts.Get(ctx, name)
	if err != nil {
		return sealed.SpaceID{}, "", err
	}
	path := instanceRecord{SubscriptionID: s.operator.SubscriptionID}.accountPath(a)
	p, err := s.identities.EnsureManaged(ctx, s.operator.TenantID, path, identity.SystemAssigned)
	return sealed.SpaceID(a.ID), visage.PrincipalID(p.ID), err
}

// Directory returns the room that knows who is who. After Ready.
func (s *Server) Directory() *identity.Directory { return s.identities }

// Behind sends a request from peer through the handler that stands before all planes, and returns the status and what the
// planes are told of the request.
func Behind(trusted []string, origin, peer, host string, header http.Header) (status int, from netip.Addr, called string, err error) {
	all, err := parseProxies(trusted)
	if err != nil {
		return 0, netip.Addr{}, "", err
	}
	o, err := visage.ParseOrigin(origin)
	if err != nil {
		return 0, netip.Addr{}, "", err
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr, r.Host, r.Header = peer, host, header
	w := httptest.NewRecorder()
	all.before(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		at, parseErr := netip.ParseAddrPort(r.RemoteAddr)
		from, called, err = at.Addr().Unmap(), r.Host, parseErr
	}), o).ServeHTTP(w, r)
	return w.Code, from, called, err
}
