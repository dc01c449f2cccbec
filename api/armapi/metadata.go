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

// cloudName is the name of this instance among the clouds that a client knows.
const cloudName = "Visage"

// metadataRoutes describe the instance to clients that know only its address (az cloud register, Terraform's
// metadata_host). They need no token: clients learn here where to get one.
func (p *plane) metadataRoutes(routeMaker) []api.Route {
	return []api.Route{{
		Method: http.MethodGet, Pattern: "/metadata/endpoints", Allow: api.Anyone, Timeout: 10 * time.Second,
		Handle: p.metadata,
		Doc:    api.Doc{Summary: "Describe where the planes are, for clients that set themselves up", Answer: cloud{}},
	}}
}

// Versions in which the shape of the document changed.
const (
	firstWithTenant = "2018-01-01" // and with the locations
	firstAsList     = "2019-05-01" // of clouds
	firstAsOne      = "2022-09-01" // of that list
)

// yearAndMonth is a form of api-version that only this document accepts: one client sends "2022-06".
var yearAndMonth = regexp.MustCompile(`^20\d\d-\d\d$`)

// oldCloud describes the instance in versions before 2019-05-01. The optional fields are those of versions since 2018.
type oldCloud struct {
	Gallery        string              `json:"galleryEndpoint"`
	Graph          string              `json:"graphEndpoint"`
	Portal         string              `json:"portalEndpoint"`
	GraphAudience  string              `json:"graphAudience,omitempty"`
	Authentication cloudAuthentication `json:"authentication"`
	// Clouds are the clouds with their locations. The list is empty: Terraform refuses a location that is not listed,
	// and here every word is one.
	Clouds map[string]struct{} `json:"cloudEndpoint,omitzero"`
}

type cloudAuthentication struct {
	LoginEndpoint    string   `json:"loginEndpoint"`
	Audiences        []string `json:"audiences"`
	Tenant           string   `json:"tenant,omitempty"`
	IdentityProvider string   `json:"identityProvider,omitempty"`
}

// cloud describes the instance in versions since 2019-05-01. Services that do not exist here are left out.
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
	// Azure's command line verifies an authority with a service of Microsoft's, unless the address ends in "/adfs";
	// then it does not, and requests tokens below that path. It reads the versions up to the list. Terraform reads the
	// version with one cloud, and does not support an authority that ends in "/adfs".
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

// vaultSuffix is the part of a vault's host after its name, with the port if there is one: clients put "https://", a
// name and a dot before it.
func (p *plane) vaultSuffix() (string, error) {
	const some = "v"
	address, err := url.Parse(p.VaultAddress(some))
	if err != nil {
		return "", err
	}
	return strings.TrimPrefix(address.Host, some+"."), nil
}
