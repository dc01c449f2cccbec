package armapi

import (
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/keyvault"
)

type vaultList struct{ armwire.Page[armwire.Vault] }

type policyAnswer struct {
	ID         string                   `json:"id"`
	Type       string                   `json:"type"`
	Location   string                   `json:"location"`
	Properties armwire.AccessPolicyList `json:"properties"`
}

type deletedVaultList struct {
	armwire.Page[armwire.DeletedVault]
}

type nameRequest struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type nameAnswer struct {
	NameAvailable bool   `json:"nameAvailable"`
	Reason        string `json:"reason,omitempty"`
	Message       string `json:"message,omitempty"`
}

func badVault(format string, args ...any) error {
	return visage.Refuse(visage.Invalid, "BadRequest", format, args...)
}

const (
	skuStandard = "standard"
	skuPremium  = "premium"
)

func (p *plane) vault(v keyvault.Vault) armwire.Vault {
	sku := armwire.VaultSKU{Family: "A", Name: skuStandard}
	if v.Premium {
		sku.Name = skuPremium
	}
	tags := v.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	answer := armwire.Vault{
		ID: p.vaultID(v), Name: v.Name, Type: vaultType, Location: v.Location, Tags: tags,
		Properties: armwire.VaultProperties{
			TenantID: v.Tenant, SKU: sku, VaultURI: p.VaultAddress(v.Name), AccessPolicies: []armwire.AccessPolicy{},
			SoftDelete:    true,
			RetentionDays: v.RetentionDays, PurgeProtection: v.PurgeProtection, RBAC: v.RBAC,
			NetworkACLs:         networkOf(v.Network),
			PublicNetworkAccess: publicAccess(v.Network), ProvisioningState: "Succeeded",
		},
	}
	for _, policy := range v.Policies {
		answer.Properties.AccessPolicies = append(answer.Properties.AccessPolicies, policyWire(policy, v.Tenant))
	}
	return answer
}

func policyWire(p keyvault.AccessPolicy, tenant string) armwire.AccessPolicy {
	answer := armwire.AccessPolicy{TenantID: tenant, ObjectID: p.ObjectID, ApplicationID: p.AppID}
	answer.Permissions.Keys = []string{}
	for _, k := range p.Keys {
		answer.Permissions.Keys = append(answer.Permissions.Keys, string(k))
	}
	for _, other := range p.Others {
		kind, name, _ := strings.Cut(other, "/")
		switch kind {
		case "secrets":
			answer.Permissions.Secrets = append(answer.Permissions.Secrets, name)
		case "certificates":
			answer.Permissions.Certificates = append(answer.Permissions.Certificates, name)
		case "storage":
			answer.Permissions.Storage = append(answer.Permissions.Storage, name)
		}
	}
	return answer
}

// policiesOf decodes access policies, all of which must be for the vault's tenant.
func policiesOf(wire []armwire.AccessPolicy, tenant string) ([]keyvault.AccessPolicy, error) {
	policies := []keyvault.AccessPolicy{}
	for _, w := range wire {
		if !strings.EqualFold(w.TenantID, tenant) {
			return nil, badVault("The access policy names the tenant %q, but the vault belongs to the tenant "+
				"%s.", w.TenantID, tenant)
		}
		policy := keyvault.AccessPolicy{ObjectID: strings.ToLower(w.ObjectID), AppID: strings.ToLower(w.ApplicationID)}
		for _, name := range w.Permissions.Keys {
			k, err := keyvault.ParsePermission(name)
			if err != nil {
				return nil, err
			}
			policy.Keys = append(policy.Keys, k)
		}
		for kind, names := range map[string][]string{
			"secrets": w.Permissions.Secrets, "certificates": w.Permissions.Certificates,
			"storage": w.Permissions.Storage,
		} {
			for _, n := range names {
				policy.Others = append(policy.Others, kind+"/"+n)
			}
		}
		slices.Sort(policy.Others)
		policies = append(policies, policy)
	}
	return policies, nil
}

// changedVault returns v with the given properties. whole: tags that are not given are removed.
func changedVault(want armwire.VaultRequest, v keyvault.Vault, whole bool) (keyvault.Vault, error) {
	w := want.Properties
	if want.Location != "" {
		v.Location = want.Location
	}
	if want.Tags != nil || whole {
		v.Tags = want.Tags
	}
	if w.SKU != nil {
		switch {
		case strings.EqualFold(w.SKU.Name, skuPremium):
			v.Premium = true
		case strings.EqualFold(w.SKU.Name, skuStandard):
			v.Premium = false
		default:
			return v, visage.Refuse(visage.Invalid, "SkuNotSupported", "The sku %q is not one of standard, premium.",
				w.SKU.Name)
		}
	}
	if w.AccessPolicies != nil {
		policies, err := policiesOf(w.AccessPolicies, v.Tenant)
		if err != nil {
			return v, err
		}
		v.Policies = policies
	}
	if w.SoftDelete != nil && !*w.SoftDelete {
		return v, badVault("The property \"enableSoftDelete\" cannot be set to false: every vault has soft delete.")
	}
	if w.RetentionDays != nil {
		v.RetentionDays = *w.RetentionDays
	}
	if w.PurgeProtection != nil {
		if !*w.PurgeProtection {
			return v,
				badVault(
					"The property \"enablePurgeProtection\" cannot be set to false. Leave it out to keep purge " +
						"protection off.",
				)
		}
		v.PurgeProtection = true
	}
	if w.RBAC != nil {
		v.RBAC = *w.RBAC
	}
	var err error
	v.Network, err = network(v.Network, w.NetworkACLs, w.PublicNetworkAccess)
	return v, err
}

// policyChanges are the changes of access policies by name: each applies one policy to the present ones.
var policyChanges = map[string]func([]keyvault.AccessPolicy, keyvault.AccessPolicy) []keyvault.AccessPolicy{
	"add": func(all []keyvault.AccessPolicy, p keyvault.AccessPolicy) []keyvault.AccessPolicy {
		i := slices.IndexFunc(all, func(a keyvault.AccessPolicy) bool { return samePrincipal(a, p) })
		if i < 0 {
			return append(all, p)
		}
		all[i].Keys = union(all[i].Keys, p.Keys)
		all[i].Others = union(all[i].Others, p.Others)
		return all
	},
	"replace": func(all []keyvault.AccessPolicy, p keyvault.AccessPolicy) []keyvault.AccessPolicy {
		all = slices.DeleteFunc(all, func(a keyvault.AccessPolicy) bool { return samePrincipal(a, p) })
		return append(all, p)
	},
	"remove": func(all []keyvault.AccessPolicy, p keyvault.AccessPolicy) []keyvault.AccessPolicy {
		for i, a := range all {
			if samePrincipal(a, p) {
				all[i].Keys = slices.DeleteFunc(a.Keys,
					func(k keyvault.Permission) bool { return slices.Contains(p.Keys, k) })
				all[i].Others = slices.DeleteFunc(a.Others, func(o string) bool { return slices.Contains(p.Others, o) })
			}
		}
		return slices.DeleteFunc(all, func(a keyvault.AccessPolicy) bool {
			return samePrincipal(a, p) && len(a.Keys)+len(a.Others) == 0
		})
	},
}

func samePrincipal(a, b keyvault.AccessPolicy) bool {
	return strings.EqualFold(a.ObjectID, b.ObjectID) && strings.EqualFold(a.AppID, b.AppID)
}

func union[T comparable](a, b []T) []T {
	for _, v := range b {
		if !slices.Contains(a, v) {
			a = append(a, v)
		}
	}
	return a
}
