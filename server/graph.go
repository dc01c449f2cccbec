package server

import (
	"context"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/graphapi"
)

// graphAudience is what clients ask tokens for the directory for, where they are not told an address of ours.
const graphAudience = "https://graph.microsoft.com"

// readDirectory is the action of roles that reads who there is; Owner, Contributor and Reader have it.
const readDirectory = "Visage.Identity/servicePrincipals/read"

// graphPlane makes the plane that tells who there is.
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
