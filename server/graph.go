package server

import (
	"context"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/graphapi"
)

// graphAudience is the audience of tokens for the directory in clients that do not know this instance's address.
const graphAudience = "https://graph.microsoft.com"

// readDirectory is the action that allows reading the directory; Owner, Contributor and Reader have it.
const readDirectory = "Visage.Identity/servicePrincipals/read"

// graphPlane makes the directory plane.
func (s *Server) graphPlane(l *layers) (api.Plane, error) {
	proving := tokens{l.identities, l.instance, []string{graphAudience, s.Endpoint()}}
	return graphapi.New(graphapi.Config{
		Identities: l.identities, Tenant: l.instance.TenantID, Origin: s.Endpoint(),
		Principal: func(ctx context.Context, bearer string) (visage.Principal, error) {
			return proving.Principal(ctx, bearer)
		},
		MayRead: func(who visage.Principal) bool {
			return l.identities.May(who, readDirectory, "/subscriptions/"+l.instance.SubscriptionID)
		},
	})
}
