package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// keyVault is a key vault as the management plane writes it.
type keyVault struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Location   string `json:"location"`
	Properties struct {
		TenantID        string `json:"tenantId,omitempty"`
		VaultURI        string `json:"vaultUri,omitempty"`
		RetentionDays   int    `json:"softDeleteRetentionInDays,omitempty"`
		PurgeProtection bool   `json:"enablePurgeProtection,omitempty"`
		RBAC            bool   `json:"enableRbacAuthorization"`
		Policies        []struct {
			ObjectID    string `json:"objectId"`
			Permissions struct {
				Keys []string `json:"keys"`
			} `json:"permissions"`
		} `json:"accessPolicies,omitempty"`
		Deleted        string `json:"deletionDate,omitempty"`
		ScheduledPurge string `json:"scheduledPurgeDate,omitempty"`
	} `json:"properties"`
}

// vaultPath is the path of a vault, or of all of them, below the subscription.
func (c *client) vaultPath(name string) string {
	path := "/resourceGroups/" + c.operator.ResourceGroup + "/providers/Microsoft.KeyVault/vaults"
	if name == "" {
		return path
	}
	return path + "/" + url.PathEscape(name)
}

func deletedVaultPath(name, location string) string {
	return "/providers/Microsoft.KeyVault/locations/" + url.PathEscape(location) + "/deletedVaults/" +
		url.PathEscape(name)
}

func vaultCreateCommand() command {
	var opts struct {
		location              string
		days                  int
		rbac, noPurgeProtects bool
	}
	return resourceCommand(command{
		name: "vault create", args: "NAME",
		summary: "Make a key vault, with purge protection, in which the operator may do everything.",
		example: "visage vault create safe",
	}, 1, func(fs *flag.FlagSet) {
		fs.StringVar(&opts.location, "location", "local",
			"location; a key must be where the resource is that uses it (default: local)")
		fs.IntVar(&opts.days, "retention-days", 90, "how long deleted keys can be recovered, 7 to 90 (default: 90)")
		fs.BoolVar(&opts.rbac, "rbac", false, "let roles decide who may use keys, in place of access policies")
		fs.BoolVar(&opts.noPurgeProtects, "no-purge-protection", false,
			"let deleted keys be purged; such a vault cannot hold the key of a resource")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		properties := map[string]any{
			"tenantId": c.operator.TenantID, "sku": map[string]string{"family": "A", "name": "standard"},
			"softDeleteRetentionInDays": opts.days,
			"enableRbacAuthorization":   opts.rbac, "accessPolicies": []any{},
		}
		if !opts.noPurgeProtects {
			properties["enablePurgeProtection"] = true
		}
		if !opts.rbac {
			properties["accessPolicies"] = []any{c.policy(c.operator.ClientID,
				[]string{"all", "purge", "rotate", "getrotationpolicy", "setrotationpolicy"})}
		}
		var made keyVault
		err := c.arm(ctx, http.MethodPut, c.vaultPath(args[0]),
			map[string]any{"location": opts.location, "properties": properties}, &made)
		return []keyVault{made}, err
	}, printVaults)
}

// policy is one entry of a vault's access policies.
func (c *client) policy(objectID string, keys []string) map[string]any {
	return map[string]any{"tenantId": c.operator.TenantID, "objectId": objectID,
		"permissions": map[string]any{"keys": keys}}
}

func vaultListCommand() command {
	deleted := false
	return resourceCommand(command{
		name: "vault list", summary: "List key vaults.", example: "visage vault list",
	}, 0, func(fs *flag.FlagSet) {
		fs.BoolVar(&deleted, "deleted", false, "list those that were deleted and can be recovered")
	}, func(ctx context.Context, c *client, _ []string) (any, error) {
		var all struct {
			Value []keyVault `json:"value"`
		}
		path := c.vaultPath("")
		if deleted {
			path = "/providers/Microsoft.KeyVault/deletedVaults"
		}
		err := c.arm(ctx, http.MethodGet, path, nil, &all)
		return all.Value, err
	}, printVaults)
}

func vaultShowCommand() command {
	return resourceCommand(command{
		name: "vault show", args: "NAME", summary: "Show a key vault, and who may do what in it.",
		example: "visage vault show safe",
	}, 1, nil, func(ctx context.Context, c *client, args []string) (any, error) {
		var one keyVault
		err := c.arm(ctx, http.MethodGet, c.vaultPath(args[0]), nil, &one)
		return []keyVault{one}, err
	}, func(w io.Writer, answer any) {
		printVaults(w, answer)
		one := answer.([]keyVault)[0]
		if len(one.Properties.Policies) > 0 {
			fmt.Fprint(w, "\nIDENTITY\tMAY\n")
		}
		for _, p := range one.Properties.Policies {
			fmt.Fprintf(w, "%s\t%s\n", p.ObjectID, strings.Join(p.Permissions.Keys, " "))
		}
	})
}

func vaultUpdateCommand() command {
	var opts struct{ purge, rbac, policies bool }
	return resourceCommand(command{
		name: "vault update", args: "NAME",
		summary: "Switch purge protection on, for good, or choose what decides who may use keys.",
		example: "visage vault update safe --purge-protection",
	}, 1, func(fs *flag.FlagSet) {
		fs.BoolVar(&opts.purge, "purge-protection", false, "switch purge protection on; nothing switches it off again")
		fs.BoolVar(&opts.rbac, "rbac", false, "let roles decide")
		fs.BoolVar(&opts.policies, "policies", false, "let access policies decide")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		properties := map[string]any{}
		if opts.purge {
			properties["enablePurgeProtection"] = true
		}
		if opts.rbac != opts.policies {
			properties["enableRbacAuthorization"] = opts.rbac
		}
		if len(properties) == 0 {
			return nil, &failure{
				err: fmt.Errorf(
					"nothing is to be changed: one of --purge-protection, --rbac and --policies is needed",
				),
				code: exitUsage,
				hint: "\"visage help vault update\" shows how it is called"}
		}
		var one keyVault
		err := c.arm(ctx, http.MethodPatch, c.vaultPath(args[0]), map[string]any{"properties": properties}, &one)
		return []keyVault{one}, err
	}, printVaults)
}

func vaultSetPolicyCommand() command {
	keys := ""
	return resourceCommand(command{
		name: "vault set-policy", args: "NAME IDENTITY",
		summary: "Say what an identity may do with the keys of a vault. No permissions: nothing any more.",
		example: "visage vault set-policy safe shop-app --keys get,wrapKey,unwrapKey",
	}, 2, func(fs *flag.FlagSet) {
		fs.StringVar(&keys, "keys", "",
			"permissions with commas between: get, list, create, wrapKey, unwrapKey, rotate, all, …")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		p, err := c.principal(ctx, args[1])
		if err != nil {
			return nil, err
		}
		change, list := "replace", strings.FieldsFunc(keys, func(r rune) bool { return r == ',' || r == ' ' })
		if len(list) == 0 {
			change = "remove"
		}
		body := map[string]any{"properties": map[string]any{"accessPolicies": []any{c.policy(p.ObjectID, list)}}}
		if err := c.arm(ctx, http.MethodPut, c.vaultPath(args[0])+"/accessPolicies/"+change, body, nil); err != nil {
			return nil, err
		}
		var one keyVault
		err = c.arm(ctx, http.MethodGet, c.vaultPath(args[0]), nil, &one)
		return []keyVault{one}, err
	}, printVaults)
}

func vaultDeleteCommand() command {
	return resourceCommand(command{
		name: "vault delete", args: "NAME",
		summary: "Delete a key vault. Resources under its keys close; it can be recovered.",
		example: "visage vault delete safe",
	}, 1, nil, func(ctx context.Context, c *client, args []string) (any, error) {
		return nil, c.arm(ctx, http.MethodDelete, c.vaultPath(args[0]), nil, nil)
	}, nil)
}

func vaultRecoverCommand() command {
	location := ""
	return resourceCommand(command{
		name: "vault recover", args: "NAME", summary: "Bring a deleted key vault back, with its keys.",
		example: "visage vault recover safe",
	}, 1, func(fs *flag.FlagSet) {
		fs.StringVar(&location, "location", "local", "location of the vault (default: local)")
	},
		func(ctx context.Context, c *client, args []string) (any, error) {
			body := map[string]any{"location": location,
				"properties": map[string]any{"createMode": "recover", "tenantId": c.operator.TenantID,
					"sku": map[string]string{"family": "A", "name": "standard"}}}
			var back keyVault
			err := c.arm(ctx, http.MethodPut, c.vaultPath(args[0]), body, &back)
			return []keyVault{back}, err
		}, printVaults)
}

func vaultPurgeCommand() command {
	var opts struct {
		location string
		sure     bool
	}
	return resourceCommand(command{
		name: "vault purge", args: "NAME", summary: "Destroy a deleted key vault with its keys, for good.",
		example: "visage vault purge safe --yes",
	}, 1, func(fs *flag.FlagSet) {
		fs.StringVar(&opts.location, "location", "local", "location of the vault (default: local)")
		fs.BoolVar(&opts.sure, "yes", false, "yes, destroy it: what its keys wrap opens no more")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		if !opts.sure {
			return nil, &failure{
				err:  fmt.Errorf("purging %q destroys its keys, and with them what they protect", args[0]),
				code: exitUsage,
				hint: fmt.Sprintf("\"visage vault purge %s --yes\" does it", args[0])}
		}
		return nil, c.arm(ctx, http.MethodPost, deletedVaultPath(args[0], opts.location)+"/purge", nil, nil)
	}, nil)
}

func printVaults(w io.Writer, answer any) {
	fmt.Fprint(w, "NAME\tLOCATION\tACCESS\tPURGE PROTECTION\tRETENTION\tADDRESS\n")
	for _, v := range answer.([]keyVault) {
		access, purge := "policies", "off"
		if v.Properties.RBAC {
			access = "roles"
		}
		if v.Properties.PurgeProtection {
			purge = "on"
		}
		if v.Properties.Deleted != "" {
			fmt.Fprintf(w, "%s\t%s\t-\t%s\t-\tdeleted, to be purged %s\n", v.Name, dash(v.Location), purge,
				v.Properties.ScheduledPurge)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d days\t%s\n", v.Name, v.Location, access, purge, v.Properties.RetentionDays,
			v.Properties.VaultURI)
	}
}
