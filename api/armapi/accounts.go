package armapi

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
)

// resource is an account as it is answered (contract §3).
type resource struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	ETag       string            `json:"etag"`
	Location   string            `json:"location"`
	Kind       string            `json:"kind"`
	SKU        sku               `json:"sku"`
	Tags       map[string]string `json:"tags"`
	Properties properties        `json:"properties"`
}

type sku struct {
	Name string `json:"name"`
	Tier string `json:"tier,omitempty"`
}

type properties struct {
	Endpoint            string            `json:"endpoint"`
	Endpoints           map[string]string `json:"endpoints"`
	InternalID          string            `json:"internalId"`
	DateCreated         string            `json:"dateCreated"`
	IsMigrated          bool              `json:"isMigrated"`
	CustomSubDomainName string            `json:"customSubDomainName"`
	PublicNetworkAccess string            `json:"publicNetworkAccess"`
	DisableLocalAuth    bool              `json:"disableLocalAuth"`
	PrivateEndpoints    []struct{}        `json:"privateEndpointConnections"`
	Capabilities        []struct{}        `json:"capabilities"`
	ProvisioningState   string            `json:"provisioningState"`
}

type list struct {
	Value []resource `json:"value"`
}

// request is an account as it is sent. What it lacks is left as it is, or gets its default.
type request struct {
	Kind     string            `json:"kind"`
	Location string            `json:"location"`
	SKU      *sku              `json:"sku"`
	Tags     map[string]string `json:"tags"`
}

type keys struct {
	Key1 string `json:"key1"`
	Key2 string `json:"key2"`
}

type regeneration struct {
	KeyName string `json:"keyName"`
}

const kindFace = "Face"

// tierNames are the words for the tiers (contract §3).
var tierNames = map[visage.Tier]string{visage.F0: "Free", visage.S0: "Standard", visage.E0: "Enterprise"}

func (p *plane) resource(a account.Account) resource {
	endpoint := p.Endpoint(a.Name)
	tags := a.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	return resource{
		ID: "/subscriptions/" + p.Subscription + "/resourceGroups/" + a.Group +
			"/providers/Microsoft.CognitiveServices/accounts/" +
			a.Name,
		Name: a.Name, Type: "Microsoft.CognitiveServices/accounts", ETag: etag(a), Location: a.Location, Kind: kindFace,
		SKU: sku{string(a.Tier), tierNames[a.Tier]}, Tags: tags,
		Properties: properties{
			Endpoint: endpoint, Endpoints: map[string]string{kindFace: endpoint},
			InternalID:  strings.ReplaceAll(a.ID.String(), "-", ""),
			DateCreated: a.Created.UTC().Format("2006-01-02T15:04:05.0000000Z"), CustomSubDomainName: strings.ToLower(a.Name),
			PublicNetworkAccess: "Enabled", PrivateEndpoints: []struct{}{}, Capabilities: []struct{}{},
			ProvisioningState: "Succeeded",
		},
	}
}

// etag changes with every change, and is another when a name is used again.
func etag(a account.Account) string {
	return strconv.Quote(a.ID.String()[:8] + "-" + strconv.FormatInt(a.Revision, 10))
}

// reply answers with an account and its ETag.
func (p *plane) reply(status int, a account.Account) api.Reply {
	return api.Reply{Status: status, Header: http.Header{"Etag": {etag(a)}}, Body: p.resource(a)}
}

func (p *plane) list(r *api.Request) (any, error) {
	all, err := p.Accounts.List(r.Context())
	if err != nil {
		return nil, err
	}
	answer := list{Value: []resource{}}
	for _, a := range all {
		answer.Value = append(answer.Value, p.resource(a))
	}
	return answer, nil
}

func (p *plane) get(r *api.Request) (any, error) {
	a, err := p.Accounts.Get(r.Context(), r.Path("account"))
	if err != nil {
		return nil, err
	}
	return p.reply(http.StatusOK, a), nil
}

func (p *plane) put(r *api.Request) (any, error) {
	var want request
	if err := read(r, &want); err != nil {
		return nil, err
	}
	if !strings.EqualFold(want.Kind, kindFace) {
		return nil, visage.Refuse(visage.Invalid, "InvalidKind", "The kind %q is not Face.", want.Kind)
	}
	name := r.Path("account")
	if _, err := p.Accounts.Get(r.Context(), name); !isUnknown(err) {
		if err != nil {
			return nil, err
		}
		return p.change(r, want, true)
	}
	if want.Location == "" {
		return nil, visage.Refuse(visage.Invalid, "LocationRequired", "The property location is required.")
	}
	if want.SKU == nil {
		return nil, visage.Refuse(visage.Invalid, "InvalidSkuId", "The property sku.name is required: F0, S0 or E0.")
	}
	a, err := p.Accounts.Create(r.Context(), by(r), account.Creation{
		Name: name, Group: p.Group, Location: want.Location, Tier: visage.Tier(want.SKU.Name), Tags: want.Tags,
	})
	if err != nil {
		return nil, err
	}
	return p.reply(http.StatusCreated, a), nil
}

func (p *plane) patch(r *api.Request) (any, error) {
	var want request
	if err := read(r, &want); err != nil {
		return nil, err
	}
	return p.change(r, want, false)
}

// change puts what is given into an account that exists. whole: what is not given is taken away, as PUT has it.
func (p *plane) change(r *api.Request, want request, whole bool) (any, error) {
	a, err := p.Accounts.Update(r.Context(), by(r), r.Path("account"), func(a account.Account) (account.Account, error) {
		if want.Location != "" && place(want.Location) != place(a.Location) {
			return a, visage.Refuse(visage.Conflict, "InvalidResourceLocation",
				"Resource %q is in location %q, and that cannot be changed.", a.Name, a.Location)
		}
		if want.SKU != nil {
			a.Tier = visage.Tier(want.SKU.Name)
		}
		if want.Tags != nil || whole {
			a.Tags = want.Tags
		}
		return a, nil
	})
	if err != nil {
		return nil, err
	}
	return p.reply(http.StatusOK, a), nil
}

// place brings the spellings of a location together: "West US 2" is "westus2".
func place(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }

func (p *plane) remove(r *api.Request) (any, error) {
	err := p.Accounts.Delete(r.Context(), by(r), r.Path("account"))
	if isUnknown(err) {
		return api.Reply{Status: http.StatusNoContent}, nil
	}
	return nil, err
}

func (p *plane) keys(r *api.Request) (any, error) {
	k, err := p.Accounts.Keys(r.Context(), r.Path("account"))
	if err != nil {
		return nil, err
	}
	return keys(k), nil
}

func (p *plane) regenerate(r *api.Request) (any, error) {
	var want regeneration
	if err := read(r, &want); err != nil {
		return nil, err
	}
	name, err := account.ParseKeyName(want.KeyName)
	if err != nil {
		return nil, err
	}
	k, err := p.Accounts.Regenerate(r.Context(), by(r), r.Path("account"), name)
	if err != nil {
		return nil, err
	}
	return keys(k), nil
}

// by is who asks, as the audit is told.
func by(r *api.Request) account.Caller {
	return account.Caller{Principal: r.Principal, RequestID: r.ID}
}

// isUnknown tells a resource that does not exist from all else.
func isUnknown(err error) bool {
	refusal, ok := errors.AsType[*visage.Refusal](err)
	return ok && refusal.Kind == visage.NotFound
}
