package armapi

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/keyvault"
)

// The paths of key vaults (key vault contract, part B).
const (
	vaultProvider        = "/subscriptions/{subscription}/providers/Microsoft.KeyVault"
	vaultsInSubscription = vaultProvider + "/vaults"
	vaultsInGroup        = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.KeyVault/vaults"
	oneVault             = vaultsInGroup + "/{vault}"
	deletedVaults        = vaultProvider + "/deletedVaults"
	oneDeletedVault      = vaultProvider + "/locations/{location}/deletedVaults/{vault}"
)

const vaultType = "Microsoft.KeyVault/vaults"

// vaultRoutes are the operations on key vaults.
func (p *plane) vaultRoutes(route routeMaker) []api.Route {
	return []api.Route{
		route(http.MethodGet, vaultsInSubscription, p.listVaults,
			api.Doc{Summary: "List the key vaults of the subscription", Answer: vaultList{}, Query: pageParams}),
		route(http.MethodGet, vaultsInGroup, p.listVaults,
			api.Doc{Summary: "List the key vaults of the resource group", Answer: vaultList{}, Query: pageParams}),
		route(http.MethodGet, oneVault, p.getVault, api.Doc{Summary: "Get a key vault", Answer: armwire.Vault{}}),
		route(http.MethodPut, oneVault, p.putVault,
			api.Doc{Summary: "Create a key vault, or change it",
				Body: armwire.VaultRequest{}, Answer: armwire.Vault{}}),
		route(http.MethodPatch, oneVault, p.patchVault,
			api.Doc{Summary: "Change a key vault", Body: armwire.VaultRequest{}, Answer: armwire.Vault{}}),
		route(http.MethodDelete, oneVault, p.removeVault, api.Doc{Summary: "Delete a key vault"}),
		route(http.MethodPut, oneVault+"/accessPolicies/{change}", p.changePolicies,
			api.Doc{Summary: "Change who may use the keys of a vault",
				Body: armwire.AccessPolicyChange{}, Answer: policyAnswer{}}),
		route(http.MethodGet, deletedVaults, p.listDeletedVaults,
			api.Doc{Summary: "List deleted key vaults", Answer: deletedVaultList{}, Query: pageParams}),
		route(http.MethodGet, oneDeletedVault, p.getDeletedVault,
			api.Doc{Summary: "Get a deleted key vault", Answer: armwire.DeletedVault{}}),
		route(http.MethodPost, oneDeletedVault+"/purge", p.purgeVault,
			api.Doc{Summary: "Destroy a deleted key vault for good"}),
		route(http.MethodPost, vaultProvider+"/checkNameAvailability", p.checkVaultName,
			api.Doc{Summary: "Ask whether a name is free", Body: nameRequest{}, Answer: nameAnswer{}}),
	}
}

func (p *plane) vaultID(v keyvault.Vault) string {
	return "/subscriptions/" + p.Subscription + "/resourceGroups/" + v.Group + "/providers/" + vaultType + "/" + v.Name
}

func (p *plane) listVaults(r *api.Request) (any, error) {
	all, err := p.Vaults.Vaults(r.Context())
	if err != nil {
		return nil, err
	}
	var wire []armwire.Vault
	for _, v := range all {
		wire = append(wire, p.vault(v))
	}
	return page(p, r, wire, func(v armwire.Vault) string { return v.ID })
}

// notFound changes the code for an unknown vault to the one for resources.
func notFound(r *api.Request, err error) error {
	if isUnknown(err) {
		return visage.Refuse(visage.NotFound, "ResourceNotFound", "The Resource '%s/%s' was not found.", vaultType,
			r.Path("vault"))
	}
	return err
}

func (p *plane) getVault(r *api.Request) (any, error) {
	v, err := p.Vaults.Vault(r.Context(), r.Path("vault"))
	if err != nil {
		return nil, notFound(r, err)
	}
	return p.vault(v), nil
}

// rbacByDefault is the first version of the contract in which a new vault has role-based access unless it says
// otherwise.
const rbacByDefault = "2026-02-01"

func (p *plane) putVault(r *api.Request) (any, error) {
	var want armwire.VaultRequest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	name := r.Path("vault")
	if strings.EqualFold(want.Properties.CreateMode, "recover") {
		v, err := p.Vaults.RecoverVault(r.Context(), r.Caller(), name)
		if err != nil {
			return nil, err
		}
		return p.vault(v), nil
	}
	if _, err := p.Vaults.Vault(r.Context(), name); !isUnknown(err) {
		if err != nil {
			return nil, err
		}
		return p.changeVault(r, want, true)
	}
	version, _, err := r.Query("api-version")
	if err != nil {
		return nil, err
	}
	made := keyvault.Vault{Name: name, Group: p.Group, Location: want.Location, RBAC: version >= rbacByDefault}
	if made.Tenant = want.Properties.TenantID; made.Tenant == "" || want.Properties.SKU == nil {
		return nil, badVault("The properties tenantId and sku of a vault are required.")
	}
	if !strings.EqualFold(made.Tenant, p.Tenant) {
		return nil, badVault("The property tenantId of a vault must be the tenant of the subscription, %s.", p.Tenant)
	}
	if made, err = changedVault(want, made, true); err != nil {
		return nil, err
	}
	if want.Properties.AccessPolicies == nil && !made.RBAC {
		return nil,
			badVault("The property accessPolicies is required, and may be empty, unless enableRbacAuthorization " +
				"is true.")
	}
	if made, err = p.Vaults.CreateVault(r.Context(), r.Caller(), made); err != nil {
		return nil, err
	}
	return api.Reply{Status: http.StatusCreated, Body: p.vault(made)}, nil
}

func (p *plane) patchVault(r *api.Request) (any, error) {
	var want armwire.VaultRequest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	return p.changeVault(r, want, false)
}

// changeVault applies the given properties to an existing vault. whole is for PUT: tags that are not given are removed.
func (p *plane) changeVault(r *api.Request, want armwire.VaultRequest, whole bool) (any, error) {
	v, err := p.Vaults.UpdateVault(r.Context(), r.Caller(), r.Path("vault"),
		func(v keyvault.Vault) (keyvault.Vault, error) {
			if want.Location != "" && !visage.SameLocation(want.Location, v.Location) {
				return v, visage.Refuse(visage.Conflict, "InvalidResourceLocation",
					"Vault %q is in location %q and cannot be moved.", v.Name, v.Location)
			}
			if t := want.Properties.TenantID; t != "" && !strings.EqualFold(t, v.Tenant) {
				return v, badVault("The tenant of a vault cannot be changed.")
			}
			return changedVault(want, v, whole)
		})
	if err != nil {
		return nil, notFound(r, err)
	}
	return p.vault(v), nil
}

func (p *plane) removeVault(r *api.Request) (any, error) {
	_, err := p.Vaults.DeleteVault(r.Context(), r.Caller(), r.Path("vault"))
	if isUnknown(err) {
		return api.Reply{Status: http.StatusNoContent}, nil
	}
	return nil, err
}

func (p *plane) changePolicies(r *api.Request) (any, error) {
	var want armwire.AccessPolicyChange
	if err := read(r, &want); err != nil {
		return nil, err
	}
	change, known := policyChanges[strings.ToLower(r.Path("change"))]
	if !known {
		return nil, badVault("The change of access policies must be add, replace or remove; got %q.", r.Path("change"))
	}
	v, err := p.Vaults.UpdateVault(r.Context(), r.Caller(), r.Path("vault"),
		func(v keyvault.Vault) (keyvault.Vault, error) {
			given, err := policiesOf(want.Properties.AccessPolicies, v.Tenant)
			if err != nil {
				return v, err
			}
			for _, g := range given {
				v.Policies = change(v.Policies, g)
			}
			return v, nil
		})
	if err != nil {
		return nil, notFound(r, err)
	}
	full := p.vault(v)
	return policyAnswer{
		ID: full.ID + "/accessPolicies/", Type: vaultType + "/accessPolicies", Location: v.Location,
		Properties: armwire.AccessPolicyList{AccessPolicies: full.Properties.AccessPolicies},
	}, nil
}

func (p *plane) listDeletedVaults(r *api.Request) (any, error) {
	all, err := p.Vaults.DeletedVaults(r.Context())
	if err != nil {
		return nil, err
	}
	var wire []armwire.DeletedVault
	for _, v := range all {
		wire = append(wire, p.deletedVault(v))
	}
	return page(p, r, wire, func(v armwire.DeletedVault) string { return v.ID })
}

// deletedIn returns the deleted vault that a path names, together with its location.
func (p *plane) deletedIn(r *api.Request) (keyvault.Vault, error) {
	v, err := p.Vaults.DeletedVault(r.Context(), r.Path("vault"))
	if err == nil && !visage.SameLocation(v.Location, r.Path("location")) {
		err = visage.Refuse(visage.NotFound, "VaultNotFound", "There is no deleted key vault %q in %s.",
			r.Path("vault"),
			r.Path("location"))
	}
	return v, err
}

func (p *plane) getDeletedVault(r *api.Request) (any, error) {
	v, err := p.deletedIn(r)
	if err != nil {
		return nil, err
	}
	return p.deletedVault(v), nil
}

func (p *plane) purgeVault(r *api.Request) (any, error) {
	v, err := p.deletedIn(r)
	if err != nil {
		return nil, err
	}
	err = p.Vaults.PurgeVault(r.Context(), r.Caller(), v.Name)
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.Denied {
		return nil, &api.Problem{Status: http.StatusMethodNotAllowed, Code: refusal.Code, Message: refusal.Message}
	}
	return nil, err
}

func (p *plane) deletedVault(v keyvault.Vault) armwire.DeletedVault {
	stamp := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	d := armwire.DeletedVault{
		ID: "/subscriptions/" + p.Subscription + "/providers/Microsoft.KeyVault/locations/" +
			visage.FoldLocation(v.Location) +
			"/deletedVaults/" + v.Name,
		Name: v.Name, Type: "Microsoft.KeyVault/deletedVaults",
		Properties: armwire.DeletedVaultProperties{
			VaultID: p.vaultID(v), Location: v.Location, DeletionDate: stamp(v.Deleted),
			ScheduledPurgeDate: stamp(v.PurgeAt),
			Tags:               v.Tags,
		},
	}
	if v.PurgeProtection {
		d.Properties.PurgeProtectionEnabled = &v.PurgeProtection
	}
	return d
}

func (p *plane) checkVaultName(r *api.Request) (any, error) {
	var want nameRequest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	if err := keyvault.CheckVaultName(want.Name); err != nil {
		refusal, ok := errors.AsType[*visage.Refusal](err)
		if !ok {
			return nil, err
		}
		return nameAnswer{Reason: "AccountNameInvalid", Message: refusal.Message}, nil
	}
	for _, look := range []func() error{
		func() error { _, err := p.Vaults.Vault(r.Context(), want.Name); return err },
		func() error { _, err := p.Vaults.DeletedVault(r.Context(), want.Name); return err },
	} {
		err := look()
		if err == nil {
			return nameAnswer{Reason: "AlreadyExists",
				Message: "The vault name is already in use, maybe by a deleted vault."}, nil
		}
		if !isUnknown(err) {
			return nil, err
		}
	}
	return nameAnswer{NameAvailable: true}, nil
}
