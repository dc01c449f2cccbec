package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/visage-face/visage/server"
)

func envCommand() command {
	c := command{
		name:    "env",
		summary: "Print the environment in which official clients reach the server as its operator, secret included.",
		example: `eval "$(visage env)"`,
	}
	c.define = func(set *flag.FlagSet) func(context.Context, streams, []string) error {
		dir := defineDir(set)
		managed := set.Bool("managed-identity", false,
			"how to reach the managed identity endpoint, in place of the operator's secret")
		return func(_ context.Context, s streams, args []string) error {
			if len(args) > 0 {
				return usage(&c, "takes no arguments, and was given %q", args[0])
			}
			at, err := dir()
			if err != nil {
				return err
			}
			client, err := dial(at)
			if err != nil {
				return err
			}
			all, err := environment(client.operator, *managed)
			if err != nil {
				return err
			}
			if *managed {
				endpoint, err := identityEndpoint(at)
				if err != nil {
					return err
				}
				all = append(all, endpoint...)
			}
			for _, v := range all {
				if v.value != "" {
					fmt.Fprintf(s.out, "export %s='%s'\n", v.name, strings.ReplaceAll(v.value, "'", `'\''`))
				}
			}
			return nil
		}
	}
	return c
}

type variable struct{ name, value string }

// environment is what clients read: where the planes are, what they trust, and as whom they sign in. Names that begin
// with AZURE_ are those of the official identity clients, ARM_ those of Terraform. Without a secret it says nothing of
// whom.
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
		{"REQUESTS_CA_BUNDLE", o.CAFile},  // Python, and with it az
		{"NODE_EXTRA_CA_CERTS", o.CAFile}, // besides Node's own
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

// identityEndpoint reads how programs reach the managed identity endpoint of the server in dir.
func identityEndpoint(dir string) (all []variable, err error) {
	b, err := os.ReadFile(filepath.Join(dir, server.IdentityEndpointFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hinted(err, "start the server with --identity-endpoint and --identity-endpoint-for")
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
