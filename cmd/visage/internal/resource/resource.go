// Package resource implements "visage resource", the commands for Face resources.
package resource

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
)

// Command is "visage resource".
func Command() *cobra.Command {
	return command.Noun("resource", "Create, change and delete Face resources, and show their access keys",
		create(), list(), show(), update(), keys(), regenerate(), identity(), remove(), restore(), purge())
}

// parseTags reads name=value,name=value.
func parseTags(s string) (map[string]string, error) {
	tags := map[string]string{}
	for pair := range strings.SplitSeq(s, ",") {
		name, value, found := strings.Cut(pair, "=")
		if !found || name == "" {
			return nil, command.Misuse("--tags must be NAME=VALUE pairs with commas between them; got %q", pair)
		}
		tags[name] = value
	}
	return tags, nil
}

func create() *cobra.Command {
	var opts struct {
		sku, location, tags, subdomain string
		identity, noKeys               bool
	}
	c := command.New("create NAME", "Create a Face resource with two access keys",
		"visage resource create shop --sku S0")
	f := c.Flags()
	f.StringVar(&opts.sku, "sku", "S0", "pricing `TIER`: F0, S0 or E0")
	command.CompleteWords(c, "sku", "F0", "S0", "E0")
	f.StringVar(&opts.location, "location", "local", "location `NAME`, which answers repeat")
	f.StringVar(&opts.tags, "tags", "", "`TAGS`: NAME=VALUE pairs with commas between them")
	f.StringVar(&opts.subdomain, "custom-domain", "",
		"first `LABEL` of the resource's own host name (default: the resource's name)")
	f.BoolVar(&opts.identity, "assign-identity", false, "assign a system-assigned managed identity")
	f.BoolVar(&opts.noKeys, "disable-keys", false, "accept bearer tokens only; access keys are refused")
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]armwire.Account, error) {
		body := armwire.AccountRequest{
			Kind: "Face", Location: opts.location, SKU: &armwire.SKU{Name: opts.sku},
			Properties: armwire.AccountRequestProperties{DisableLocalAuth: &opts.noKeys},
		}
		if opts.subdomain != "" {
			body.Properties.CustomSubDomainName = &opts.subdomain
		}
		if opts.tags != "" {
			tags, err := parseTags(opts.tags)
			if err != nil {
				return nil, err
			}
			body.Tags = tags
		}
		if opts.identity {
			body.Identity = &armwire.IdentityRequest{Type: "SystemAssigned"}
		}
		// PUT also changes an existing resource; "create" must not.
		there, err := one(ctx, o, args[0])
		if err == nil {
			return nil, command.Hinted(fmt.Errorf("resource %q already exists", there.Name),
				"\"visage resource show %s\" shows it", there.Name)
		}
		if !operator.IsRefused(err, "ResourceNotFound") {
			return nil, err
		}
		return change(ctx, o, http.MethodPut, args[0], body)
	}, table)
}

// one gets a resource.
func one(ctx context.Context, o *operator.Client, name string) (a armwire.Account, err error) {
	err = o.Manage(ctx, http.MethodGet, operator.Path(name), nil, &a)
	return a, err
}

// change sends a resource, and returns the server's answer.
func change(
	ctx context.Context, o *operator.Client, method, name string, body armwire.AccountRequest,
) ([]armwire.Account, error) {
	var now armwire.Account
	err := o.Manage(ctx, method, operator.Path(name), body, &now)
	return []armwire.Account{now}, err
}

func list() *cobra.Command {
	deleted := false
	c := command.New("list", "List the Face resources", "visage resource list -o json")
	c.Flags().BoolVar(&deleted, "deleted", false, "list deleted resources that can still be recovered")
	return operator.Show(c, func(ctx context.Context, o *operator.Client, _ []string) ([]armwire.Account, error) {
		var all armwire.Page[armwire.Account]
		if deleted {
			err := o.Provider(ctx, http.MethodGet, "/deletedAccounts", nil, &all)
			return all.Value, err
		}
		err := o.Manage(ctx, http.MethodGet, "", nil, &all)
		return all.Value, err
	}, table)
}

func show() *cobra.Command {
	c := command.New("show NAME", "Show a Face resource", "visage resource show default")
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]armwire.Account, error) {
		a, err := one(ctx, o, args[0])
		return []armwire.Account{a}, err
	}, table)
}

func update() *cobra.Command {
	var opts struct {
		sku, tags, subdomain string
		noKeys, withKeys     bool
	}
	c := command.New("update NAME", "Change a Face resource. Whatever no flag names stays as it is.",
		"visage resource update shop --tags team=front")
	f := c.Flags()
	f.StringVar(&opts.sku, "sku", "", "pricing `TIER`: F0 or S0; E0 can only be chosen when a resource is created")
	f.StringVar(&opts.tags, "tags", "", "`TAGS` that replace those there are: NAME=VALUE pairs with commas between "+
		"them")
	f.StringVar(&opts.subdomain, "custom-domain", "",
		"first `LABEL` of the resource's own host name; it can be set once")
	f.BoolVar(&opts.noKeys, "disable-keys", false, "accept bearer tokens only; access keys are refused")
	f.BoolVar(&opts.withKeys, "enable-keys", false, "accept access keys again")
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]armwire.Account, error) {
		var body armwire.AccountRequest
		if opts.sku != "" {
			body.SKU = &armwire.SKU{Name: opts.sku}
		}
		if opts.tags != "" {
			tags, err := parseTags(opts.tags)
			if err != nil {
				return nil, err
			}
			body.Tags = tags
		}
		if opts.subdomain != "" {
			body.Properties.CustomSubDomainName = &opts.subdomain
		}
		if opts.noKeys != opts.withKeys {
			body.Properties.DisableLocalAuth = &opts.noKeys
		}
		return change(ctx, o, http.MethodPatch, args[0], body)
	}, table)
}

func table(t *command.Table, all []armwire.Account) {
	t.Row("NAME", "TIER", "LOCATION", "STATE", "CREATED", "ENDPOINT")
	for _, a := range all {
		p := a.Properties
		t.Row(a.Name, a.SKU.Name, a.Location, p.ProvisioningState, command.Clock(p.DateCreated), p.Endpoint)
	}
}
