// Package vault implements "visage vault", the commands for key vaults.
package vault

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
)

// Command is "visage vault".
func Command() *cobra.Command {
	return command.Noun("vault", "Create, change and delete key vaults",
		create(), list(), show(), update(), setPolicy(), remove(), restore(), purge())
}

func create() *cobra.Command {
	var opts struct {
		location                string
		days                    int
		rbac, noPurgeProtection bool
	}
	c := command.New("create NAME", "Create a key vault with purge protection, in which the operator has all "+
		"permissions",
		"visage vault create safe")
	f := c.Flags()
	f.StringVar(&opts.location, "location", "local",
		"location `NAME`; a key must be in the location of the resources that use it")
	f.IntVar(&opts.days, "retention-days", 90, "`DAYS` for which deleted keys can be recovered, 7 to 90")
	f.BoolVar(&opts.rbac, "rbac", false, "authorise by role assignments instead of access policies")
	f.BoolVar(&opts.noPurgeProtection, "no-purge-protection", false,
		"allow deleted keys to be purged; no resource can use the keys of such a vault")
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]armwire.Vault, error) {
		p := armwire.VaultRequestProperties{
			TenantID: o.Operator.TenantID, SKU: standard(), RetentionDays: &opts.days, RBAC: &opts.rbac,
			AccessPolicies: []armwire.AccessPolicy{},
		}
		if protect := !opts.noPurgeProtection; protect {
			p.PurgeProtection = &protect
		}
		if !opts.rbac {
			p.AccessPolicies = append(p.AccessPolicies, policy(o, o.Operator.ClientID,
				[]string{"all", "purge", "rotate", "getrotationpolicy", "setrotationpolicy"}))
		}
		return change(ctx, o, http.MethodPut, args[0], armwire.VaultRequest{Location: opts.location, Properties: p})
	}, table)
}

// standard is the only edition of vaults.
func standard() *armwire.VaultSKU { return &armwire.VaultSKU{Family: "A", Name: "standard"} }

// policy is one access policy of a vault.
func policy(o *operator.Client, objectID string, keys []string) armwire.AccessPolicy {
	return armwire.AccessPolicy{
		TenantID: o.Operator.TenantID, ObjectID: objectID, Permissions: armwire.Permissions{Keys: keys},
	}
}

// change sends a vault, and returns the server's answer.
func change(
	ctx context.Context, o *operator.Client, method, name string, body armwire.VaultRequest,
) ([]armwire.Vault, error) {
	var now armwire.Vault
	err := o.ARM(ctx, method, o.VaultPath(name), body, &now)
	return []armwire.Vault{now}, err
}

func list() *cobra.Command {
	deleted := false
	c := command.New("list", "List the key vaults", "visage vault list")
	c.Flags().BoolVar(&deleted, "deleted", false, "list deleted vaults that can still be recovered")
	return operator.Show(c, func(ctx context.Context, o *operator.Client, _ []string) (any, error) {
		if deleted {
			var gone armwire.Page[armwire.DeletedVault]
			err := o.ARM(ctx, http.MethodGet, "/providers/Microsoft.KeyVault/deletedVaults", nil, &gone)
			return gone.Value, err
		}
		var all armwire.Page[armwire.Vault]
		err := o.ARM(ctx, http.MethodGet, o.VaultPath(""), nil, &all)
		return all.Value, err
	}, func(t *command.Table, answer any) {
		if gone, ok := answer.([]armwire.DeletedVault); ok {
			deletedTable(t, gone)
			return
		}
		table(t, answer.([]armwire.Vault))
	})
}

func show() *cobra.Command {
	c := command.New("show NAME", "Show a key vault and its access policies", "visage vault show safe")
	operator.Complete(c, operator.Vaults)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]armwire.Vault, error) {
		var v armwire.Vault
		err := o.ARM(ctx, http.MethodGet, o.VaultPath(args[0]), nil, &v)
		return []armwire.Vault{v}, err
	}, func(t *command.Table, one []armwire.Vault) {
		table(t, one)
		if len(one[0].Properties.AccessPolicies) > 0 {
			t.Line("")
			t.Row("IDENTITY", "PERMISSIONS")
		}
		for _, p := range one[0].Properties.AccessPolicies {
			t.Row(p.ObjectID, strings.Join(p.Permissions.Keys, " "))
		}
	})
}

func update() *cobra.Command {
	var opts struct{ purge, rbac, policies bool }
	c := command.New("update NAME", "Turn purge protection on, or choose between roles and access policies",
		"visage vault update safe --purge-protection")
	f := c.Flags()
	f.BoolVar(&opts.purge, "purge-protection", false, "turn purge protection on; it cannot be turned off again")
	f.BoolVar(&opts.rbac, "rbac", false, "authorise by role assignments")
	f.BoolVar(&opts.policies, "policies", false, "authorise by access policies")
	operator.Complete(c, operator.Vaults)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]armwire.Vault, error) {
		var p armwire.VaultRequestProperties
		if opts.purge {
			p.PurgeProtection = &opts.purge
		}
		if opts.rbac != opts.policies {
			p.RBAC = &opts.rbac
		}
		if p.PurgeProtection == nil && p.RBAC == nil {
			return nil, command.Misuse("nothing to change: give --purge-protection, --rbac or --policies")
		}
		return change(ctx, o, http.MethodPatch, args[0], armwire.VaultRequest{Properties: p})
	}, table)
}

func setPolicy() *cobra.Command {
	keys := ""
	c := command.New("set-policy NAME IDENTITY",
		"Set what an identity may do with the keys of a vault. Without permissions, its policy is removed.",
		"visage vault set-policy safe shop-app --keys get,wrapKey,unwrapKey")
	c.Flags().StringVar(&keys, "keys", "",
		"`PERMISSIONS` with commas between them: get, list, create, wrapKey, unwrapKey, rotate, all and others")
	operator.Complete(c, operator.Vaults, operator.Identities)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]armwire.Vault, error) {
		p, err := o.Principal(ctx, args[1])
		if err != nil {
			return nil, err
		}
		verb, list := "replace", strings.FieldsFunc(keys, func(r rune) bool { return r == ',' || r == ' ' })
		if len(list) == 0 {
			verb, list = "remove", []string{}
		}
		body := armwire.AccessPolicyChange{Properties: armwire.AccessPolicyList{
			AccessPolicies: []armwire.AccessPolicy{policy(o, p.ObjectID, list)},
		}}
		if err := o.ARM(ctx, http.MethodPut, o.VaultPath(args[0])+"/accessPolicies/"+verb, body, nil); err != nil {
			return nil, err
		}
		var v armwire.Vault
		err = o.ARM(ctx, http.MethodGet, o.VaultPath(args[0]), nil, &v)
		return []armwire.Vault{v}, err
	}, table)
}

func remove() *cobra.Command {
	c := command.New("delete NAME",
		"Delete a key vault. Resources that use its keys are locked. The vault can be recovered.",
		"visage vault delete safe")
	operator.Complete(c, operator.Vaults)
	return operator.Do(c, func(ctx context.Context, o *operator.Client, args []string) error {
		return o.ARM(ctx, http.MethodDelete, o.VaultPath(args[0]), nil, nil)
	})
}

func restore() *cobra.Command {
	location := ""
	c := command.New("recover NAME", "Recover a deleted key vault with its keys", "visage vault recover safe")
	c.Flags().StringVar(&location, "location", "local", "location `NAME` of the vault")
	operator.Complete(c, operator.DeletedVaults)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]armwire.Vault, error) {
		return Recover(ctx, o, args[0], location)
	}, table)
}

// Recover recovers a deleted vault.
func Recover(ctx context.Context, o *operator.Client, name, location string) ([]armwire.Vault, error) {
	return change(ctx, o, http.MethodPut, name, armwire.VaultRequest{
		Location: location,
		Properties: armwire.VaultRequestProperties{
			CreateMode: "recover", TenantID: o.Operator.TenantID, SKU: standard(),
		},
	})
}

func purge() *cobra.Command {
	var opts struct {
		location string
		sure     bool
	}
	c := command.New("purge NAME", "Destroy a deleted key vault and its keys permanently", "visage vault purge safe "+
		"--yes")
	c.Flags().StringVar(&opts.location, "location", "local", "location `NAME` of the vault")
	c.Flags().BoolVar(&opts.sure, "yes", false, "confirm: data that its keys encrypt can never be opened again")
	operator.Complete(c, operator.DeletedVaults)
	return operator.Do(c, func(ctx context.Context, o *operator.Client, args []string) error {
		if !opts.sure {
			return command.Hinted(
				command.Misuse("purging %q destroys its keys and all data that they encrypt, permanently", args[0]),
				"\"visage vault purge %s --yes\" confirms it", args[0])
		}
		path := "/providers/Microsoft.KeyVault/locations/" + url.PathEscape(opts.location) + "/deletedVaults/" +
			url.PathEscape(args[0]) + "/purge"
		return o.ARM(ctx, http.MethodPost, path, nil, nil)
	})
}

// heading begins a table of vaults.
func heading(t *command.Table) {
	t.Row("NAME", "LOCATION", "ACCESS", "PURGE PROTECTION", "RETENTION", "ADDRESS")
}

func table(t *command.Table, all []armwire.Vault) {
	heading(t)
	for _, v := range all {
		p := v.Properties
		access, purge := "policies", "off"
		if p.RBAC {
			access = "roles"
		}
		if p.PurgeProtection {
			purge = "on"
		}
		t.Row(v.Name, v.Location, access, purge, fmt.Sprintf("%d days", p.RetentionDays), p.VaultURI)
	}
}

func deletedTable(t *command.Table, all []armwire.DeletedVault) {
	heading(t)
	for _, v := range all {
		purge := "off"
		if on := v.Properties.PurgeProtectionEnabled; on != nil && *on {
			purge = "on"
		}
		t.Row(v.Name, v.Properties.Location, "-", purge, "-", "deleted, to be purged "+v.Properties.ScheduledPurgeDate)
	}
}
