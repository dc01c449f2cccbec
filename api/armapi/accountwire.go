package armapi

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/identity"
)

type list struct{ armwire.Page[armwire.Account] }

const (
	kindFace    = "Face"
	accountType = "Microsoft.CognitiveServices/accounts"
)

// tierNames are the names of the tiers (contract §3).
var tierNames = map[visage.Tier]string{visage.F0: "Free", visage.S0: "Standard", visage.E0: "Enterprise"}

// stamp formats a time as this provider does.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

func (p *plane) accountID(a account.Account) string {
	return "/subscriptions/" + p.Subscription + "/resourceGroups/" + a.Group + "/providers/" + accountType + "/" +
		a.Name
}

// The provisioning states of accounts that are used here.
const (
	stateSucceeded = "Succeeded"
	stateAccepted  = "Accepted" // a change of the encryption key is under way
)

func (p *plane) resource(ctx context.Context, a account.Account) (armwire.Account, error) {
	host := a.Host()
	endpoint := p.Endpoint(host)
	tags := a.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	answer := armwire.Account{
		ID: p.accountID(a), Name: a.Name, Type: accountType, ETag: etag(a), Location: a.Location, Kind: kindFace,
		SKU: armwire.SKU{Name: string(a.Tier), Tier: tierNames[a.Tier]}, Tags: tags, Identity: identityOf(a.Identity),
		SystemData: armwire.SystemData{
			CreatedBy: a.CreatedBy, CreatedByType: typeOf(a.CreatedBy), CreatedAt: stamp(a.Created),
			LastModifiedBy: a.ChangedBy, LastModifiedByType: typeOf(a.ChangedBy), LastModifiedAt: stamp(a.Changed),
		},
		Properties: armwire.AccountProperties{
			Endpoint: endpoint, Endpoints: map[string]string{kindFace: endpoint},
			InternalID:  strings.ReplaceAll(a.ID.String(), "-", ""),
			DateCreated: stamp(a.Created), CustomSubDomainName: host, DisableLocalAuth: a.LocalAuthDisabled,
			PublicNetworkAccess: publicAccess(a.Network), PrivateEndpoints: []struct{}{},
			Capabilities:      []armwire.Capability{},
			CallRateLimit:     armwire.CallRateLimit{Rules: []armwire.RateRule{p.rateRule(a)}},
			ProvisioningState: stateSucceeded,
		},
	}
	if a.Network.Set {
		answer.Properties.NetworkACLs = networkOf(a.Network)
	}
	if len(a.Origins) > 0 {
		answer.Properties.CORS = &armwire.CORS{AllowedOrigins: a.Origins}
	}
	if a.Tier == visage.E0 {
		answer.Properties.Capabilities = append(answer.Properties.Capabilities,
			armwire.Capability{Name: "CustomerManagedKey"})
	}
	if !a.Deleted.IsZero() {
		answer.ID = p.deletedID(a)
		answer.Properties.DeletionDate, answer.Properties.ScheduledPurgeDate = stamp(a.Deleted), stamp(a.PurgeAt)
	}
	e, err := p.Accounts.Encryption(ctx, a)
	if err != nil {
		return armwire.Account{}, err
	}
	answer.Properties.Encryption = encryptionOf(e)
	if e.Pending() {
		answer.Properties.ProvisioningState = stateAccepted
	}
	return answer, nil
}

// rateRule is the rate of the account, written as its burst in the time in which the burst is refilled.
func (p *plane) rateRule(a account.Account) armwire.RateRule {
	perSecond, burst := p.Rate(a.Resource)
	return armwire.RateRule{
		Key: "face", RenewalPeriod: float64(burst) / perSecond, Count: float64(burst),
		Patterns: []armwire.RatePattern{{Path: "face/*", Method: "*"}},
	}
}

// typeOf is the contract's type of principals that authenticate with a secret.
func typeOf(principal string) string {
	if principal == "" {
		return ""
	}
	return "Application"
}

func identityOf(i account.Identity) *armwire.Identity {
	if i.Type() == "None" {
		return nil
	}
	w := &armwire.Identity{Type: i.Type(), PrincipalID: i.System.PrincipalID, TenantID: i.System.Tenant}
	for path, user := range i.Users {
		if w.Users == nil {
			w.Users = map[string]armwire.UserIdentity{}
		}
		w.Users[path] = armwire.UserIdentity{PrincipalID: user.PrincipalID, ClientID: user.ClientID}
	}
	return w
}

// identitySpec is identitySpecOf for the caller of a request, who needs the right to assign a user-assigned identity
// before an account can use it, as in Azure.
func (p *plane) identitySpec(
	r *api.Request, q *armwire.IdentityRequest, now account.Identity,
) (account.IdentitySpec, error) {
	w, err := identitySpecOf(q, now)
	if err != nil {
		return w, err
	}
	for _, path := range w.Users {
		if _, has := now.Users[path]; has {
			continue
		}
		named := func(one identity.Principal) bool {
			return one.Resource != "" &&
				strings.EqualFold(one.Resource, path)
		}
		if !slices.ContainsFunc(p.Identities.Principals(), named) {
			continue // which is refused elsewhere
		}
		const assign = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
		if !p.May(r.Principal, assign, path) {
			return w, visage.Refuse(visage.Denied, "LinkedAuthorizationFailed",
				"The client %q with object id %q may change the account, but has no role that allows the action "+
					"%q on %q.",
				r.Principal.AppID, r.Principal.ObjectID, assign, path)
		}
	}
	return w, nil
}

// identitySpecOf reads the identities that an account is to have; the present ones are needed where single ones are
// removed.
func identitySpecOf(q *armwire.IdentityRequest, now account.Identity) (account.IdentitySpec, error) {
	var w account.IdentitySpec
	user := false
	for kind := range strings.SplitSeq(q.Type, ",") {
		switch kind = strings.TrimSpace(kind); {
		case strings.EqualFold(kind, "None"):
		case strings.EqualFold(kind, "SystemAssigned"):
			w.System = true
		case strings.EqualFold(kind, "UserAssigned"):
			user = true
		default:
			return account.IdentitySpec{}, visage.Refuse(visage.Invalid, "InvalidRequestContent",
				"The identity type must be None, SystemAssigned, UserAssigned or the last two joined by a comma; "+
					"got %q.", q.Type)
		}
	}
	if !user {
		return w, nil
	}
	kept := map[string]string{} // in the given spelling, by lower case
	for path := range now.Users {
		kept[strings.ToLower(path)] = path
	}
	for path, given := range q.Users {
		if given == nil {
			delete(kept, strings.ToLower(path))
		} else if _, there := kept[strings.ToLower(path)]; !there {
			kept[strings.ToLower(path)] = path
		}
	}
	if len(kept) == 0 {
		return account.IdentitySpec{}, visage.Refuse(visage.Invalid, "InvalidRequestContent",
			"The identity type is UserAssigned, but identity.userAssignedIdentities is empty: name at least one.")
	}
	for _, path := range kept {
		w.Users = append(w.Users, path)
	}
	return w, nil
}

// checkProperties refuses properties that would have no effect: a setting that is not enforced must not be accepted.
func checkProperties(w armwire.AccountRequestProperties) error {
	refuse := func(sentence string) error {
		return visage.Refuse(visage.Invalid, "FeatureNotSupported", "%s", sentence)
	}
	switch {
	case w.RestrictOutbound:
		return refuse(
			"Outbound access cannot be restricted per resource: leave restrictOutboundNetworkAccess out, and " +
				"restrict the network of the instance.",
		)
	case len(w.UserOwnedStorage) > 0:
		return refuse("Customer-owned storage is not supported: leave userOwnedStorage out.")
	}
	return nil
}

// etag differs after every change, and when a name is reused.
func etag(a account.Account) string {
	return strconv.Quote(a.ID.String()[:8] + "-" + strconv.FormatInt(a.Revision, 10))
}

// reply answers with an account and its ETag and, while a change of its encryption key is under way, with the address
// of the operation's status.
func (p *plane) reply(r *api.Request, status int, a account.Account) (any, error) {
	answer, err := p.resource(r.Context(), a)
	if err != nil {
		return nil, err
	}
	reply := api.Reply{Status: status, Header: http.Header{"Etag": {etag(a)}}, Body: answer}
	if answer.Properties.ProvisioningState == stateAccepted && r.Route().Method != http.MethodGet {
		if reply.Status == http.StatusOK {
			reply.Status = http.StatusAccepted
		}
		p.follow(r, reply.Header, a, answer.Properties.Encryption.Status.Operation)
	}
	return reply, nil
}
