// Package environment implements "visage env", which prints the environment variables of clients.
package environment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/server"
)

// Command is "visage env".
func Command() *cobra.Command {
	c := command.New("env", "Print the environment with which official clients reach the server",
		`eval "$(visage env)"`)
	c.Long = "Print the environment with which official clients reach the server as its operator. It contains the " +
		"operator's secret."
	settings.Define(c.Flags(), "dir")
	managed := c.Flags().Bool("managed-identity", false,
		"print the address of the managed identity endpoint instead of the operator's secret")
	return command.Run(c, func(_ context.Context, s command.Streams, _ []string) error {
		dir, err := settings.Dir(c.Flags())
		if err != nil {
			return err
		}
		client, err := operator.Dial(dir)
		if err != nil {
			return err
		}
		all, err := environment(client.Operator, *managed)
		if err != nil {
			return err
		}
		if *managed {
			endpoint, err := identityEndpoint(dir)
			if err != nil {
				return err
			}
			all = append(all, endpoint...)
		}
		for _, v := range all {
			if v.value != "" {
				fmt.Fprintf(s.Out, "export %s='%s'\n", v.name, strings.ReplaceAll(v.value, "'", `'\''`))
			}
		}
		return nil
	})
}

type variable struct{ name, value string }

// environment is the variables that clients read: the addresses of the planes, the certificates they trust, and the
// identity they sign in with, which without omits. Names that begin with AZURE_ are those of the official identity
// clients, ARM_ those of Terraform.
func environment(o server.Operator, without bool) ([]variable, error) {
	endpoint, err := url.Parse(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("read the endpoint of %s: %w", server.OperatorFile, err)
	}
	all := []variable{
		{"ENDPOINT", o.Endpoint},
		{"DOMAIN", endpoint.Host},
		{"VAULT_DOMAIN", "vault." + endpoint.Host},
		{"SSL_CERT_FILE", o.CAFile}, // OpenSSL and Go
		{"CURL_CA_BUNDLE", o.CAFile},
		{"REQUESTS_CA_BUNDLE", o.CAFile},  // Python, including az
		{"NODE_EXTRA_CA_CERTS", o.CAFile}, // in addition to Node's own
		{"AZURE_SUBSCRIPTION_ID", o.SubscriptionID},
	}
	if without {
		return all, nil
	}
	return append(all, []variable{
		{"AZURE_AUTHORITY_HOST", o.Endpoint},
		{"AZURE_TENANT_ID", o.TenantID},
		{"AZURE_CLIENT_ID", o.ClientID},
		{"AZURE_CLIENT_SECRET", o.ClientSecret},
		{"ARM_METADATA_HOSTNAME", endpoint.Host},
		{"ARM_TENANT_ID", o.TenantID},
		{"ARM_CLIENT_ID", o.ClientID},
		{"ARM_CLIENT_SECRET", o.ClientSecret},
		{"ARM_SUBSCRIPTION_ID", o.SubscriptionID},
	}...), nil
}

// identityEndpoint reads the variables for the managed identity endpoint of the server in dir.
func identityEndpoint(dir string) (all []variable, err error) {
	b, err := os.ReadFile(filepath.Join(dir, server.IdentityEndpointFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, command.Hinted(err, "start the server with --identity-endpoint and --identity-endpoint-for")
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			all = append(all, variable{name, value})
		}
	}
	return all, nil
}
