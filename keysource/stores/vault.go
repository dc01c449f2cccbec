package stores

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/azure"
)

// vault is a vault of Azure, to which identities log in by federated credentials of Entra. Vaults of Azure need no
// description if one application may use the keys of all resources.
var vault = kind{
	scheme:    "https",
	about:     "https://VAULT, for Azure Key Vault and the vaults of this instance",
	address:   azure.ParseAddress,
	parse:     azure.ParseKey,
	check:     checkVault,
	methods:   vaultMethods,
	may:       []string{"endpoint", "loginEndpoint", "caFile"},
	federates: []string{"federated"},
	// The assertions go to Entra, which belongs to Microsoft and not to the tenant.
	host:     func(s Store) string { return cmp.Or(s.LoginEndpoint, "Microsoft") },
	audience: func(Store) string { return azure.FederatedAudience },
	listener: vaultListener,
	remedy:   vaultRemedy,
	revoke:   vaultRevocation,
	connect:  connectVault,
}

var vaultMethods = []Method{{Name: "federated", Needs: []string{"tenant", "clientId"}, May: []string{"audience"}}}

func checkVault(s Store) error {
	for _, endpoint := range []string{s.Endpoint, s.LoginEndpoint} {
		u, err := url.Parse(endpoint)
		if endpoint != "" && (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil ||
			strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "") {
			return fmt.Errorf("endpoint and loginEndpoint are https://HOST[:PORT]; got %.200q", endpoint)
		}
	}
	if !azure.InAzure(visage.KeyRef{Vault: s.Address}) { // the server takes other addresses for earlier ones of its own
		return errors.New("only vaults of Azure, such as https://NAME.vault.azure.net, are described as a key store; " +
			"those of this instance need no description")
	}
	return s.Login.usesOf(vaultMethods)
}

// vaultListener is the host and port at which a vault is reached: those of Endpoint, or its own.
func vaultListener(s Store) string {
	u, err := url.Parse(cmp.Or(s.Endpoint, s.Address))
	if err != nil {
		return ""
	}
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443"))
}

// dialTime bounds a connection, which is made on when its caller has left.
const dialTime = 5 * time.Second

func connectVault(s Store, assert Assert) opener {
	cfg := azure.Config{Roots: s.roots}
	if s.Endpoint != "" {
		cfg.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTime}).DialContext(ctx, network, vaultListener(s))
		}
	}
	vaults := azure.NewVaults(cfg)
	logins := azure.LoginClient(s.roots)
	return func(key visage.KeyRef, as visage.PrincipalID) (keysource.Source, error) {
		return vaults.Open(key, azure.Federated{
			Authority: s.LoginEndpoint, Vault: s.Address, Tenant: s.Login.Tenant, ClientID: s.Login.ClientID,
			Client: logins, Assertion: func(ctx context.Context) (string, time.Time, error) {
				return assertion(ctx, assert, as, s.Login.Audience)
			},
		})
	}
}
