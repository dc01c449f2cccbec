package server

import (
	"context"

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
