package armapi

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
)

// cloudName is how this instance is called where clients know several clouds by name.
const cloudName = "Visage"

// metadataRoutes describe the instance to clients that know nothing but its address (az cloud register, Terraform's
// metadata_host). Nobody has a token before they have read it, so it needs none.
func (p *plane) metadataRoutes(routeMaker) []api.Route {
	return []api.Route{{
		Method: http.MethodGet, Pattern: "/metadata/endpoints", Allow: api.Anyone, Timeout: 10 * time.Second,
		Handle: p.metadata,
		Doc:    api.Doc{Summary: "Describe where the planes are, for clients that set themselves up", Answer: cloud{}},
	}}
}

// The documents are answered in the shape of the version that is asked for.
const (
	firstWithTenant = "2018-01-01" // and with the locations
	firstAsList     = "2019-05-01" // of clouds
	firstAsOne      = "2022-09-01" // of that list
)

// yearAndMonth is a version of this document alone: one client sends "2022-06".
var yearAndMonth = regexp.MustCompile(`^20\d\d-\d\d$`)

// oldCloud is the instance as versions before 2019-05-01 describe one. Those since 2018 have what may be left out.
type oldCloud struct {
	Gallery        string              `json:"galleryEndpoint"`
	Graph          string              `json:"graphEndpoint"`
	Portal         string              `json:"portalEndpoint"`
	GraphAudience  string              `json:"graphAudience,omitempty"`
	Authentication cloudAuthentication `json:"authentication"`
	// Clouds are clouds with their locations. None is told: Terraform refuses a location that is not listed, and here
	// any word is one.
	Clouds map[string]struct{} `json:"cloudEndpoint,omitzero"`
}

type cloudAuthentication struct {
	LoginEndpoint    string   `json:"loginEndpoint"`
	Audiences        []string `json:"audiences"`
	Tenant           string   `json:"tenant,omitempty"`
	IdentityProvider string   `json:"identityProvider,omitempty"`
}

// cloud is the instance as versions since 2019-05-01 describe one. Services that are not here are left out.
type cloud struct {
	Name            string              `json:"name"`
	Portal          string              `json:"portal"`
	Authentication  cloudAuthentication `json:"authentication"`
	GraphAudience   string              `json:"graphAudience"`
	Graph           string              `json:"graph"`
	Suffixes        map[string]string   `json:"suffixes"`
	ResourceManager string              `json:"resourceManager"`
	MicrosoftGraph  string              `json:"microsoftGraphResourceId"`
	Gallery         string              `json:"gallery"`
}

func (p *plane) metadata(r *api.Request) (any, error) {
	version, given, err := r.Query("api-version")
	if err != nil {
		return nil, err
	}
	if !given || version == "" {
		return nil, visage.Refuse(visage.Invalid, "MissingApiVersionParameter",
			"The query parameter api-version is missing: give a date such as %s.", firstAsOne)
	}
	if !api.ValidVersion(version) && !yearAndMonth.MatchString(version) {
		return nil, visage.Refuse(visage.Invalid, "InvalidApiVersionParameter",
			"The api-version %.64q is not valid: give a date such as %s.", version, firstAsOne)
	}
	origin := strings.TrimSuffix(p.Endpoint(""), "/")
	// The command line of Azure asks a service of its maker whether an authority is one, unless the address ends in
	// "/adfs"; then it asks nobody, and asks for tokens below that path. It reads the versions up to the list.
	// Terraform reads the one cloud, and takes such an authority for another product.
	login := cloudAuthentication{
		LoginEndpoint: origin + "/adfs",
		Audiences:     []string{origin + "/", "https://management.azure.com/", "https://management.core.windows.net/"},
	}
	if version < firstWithTenant {
		return oldCloud{Gallery: origin + "/", Graph: origin + "/", Portal: origin + "/", Authentication: login}, nil
	}
	login.Tenant, login.IdentityProvider = "common", "AAD"
	if version < firstAsList {
		return oldCloud{
			Gallery: origin + "/", Graph: origin + "/", Portal: origin + "/", GraphAudience: origin + "/",
			Authentication: login, Clouds: map[string]struct{}{},
		}, nil
	}
	vaults, err := p.vaultSuffix()
	if err != nil {
		return nil, err
	}
	c := cloud{
		Name: cloudName, Portal: origin, Authentication: login, GraphAudience: origin + "/", Graph: origin + "/",
		Suffixes: map[string]string{"keyVaultDns": vaults}, ResourceManager: origin + "/", MicrosoftGraph: origin + "/",
		Gallery: origin + "/",
	}
	if version < firstAsOne {
		return []cloud{c}, nil
	}
	c.Authentication.LoginEndpoint = origin
	return c, nil
}

// vaultSuffix is what follows the name of a vault in the host of its address, with the port where there is one: clients
// put "https://", a name and a dot before it.
func (p *plane) vaultSuffix() (string, error) {
	const some = "v"
	address, err := url.Parse(p.VaultAddress(some))
	if err != nil {
		return "", err
	}
	return strings.TrimPrefix(address.Host, some+"."), nil
}
