package operator

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/keysource/stores"
)

// VaultDomain is the label between the name of a vault and the host of the server.
const VaultDomain = "vault"

// deletedVaults is the path of the deleted vaults, below the subscription.
const deletedVaults = "/providers/Microsoft.KeyVault/deletedVaults"

// VaultPath is the path of a vault for ARM, or of all vaults where name is empty.
func (c *Client) VaultPath(name string) string {
	path := "/resourceGroups/" + c.Operator.ResourceGroup + "/providers/Microsoft.KeyVault/vaults"
	if name == "" {
		return path
	}
	return path + "/" + url.PathEscape(name)
}

// ServicePrincipals is the path of the identities for ARM.
const ServicePrincipals = "/providers/Visage.Identity/servicePrincipals"

// Principals returns all identities.
func (c *Client) Principals(ctx context.Context) ([]armwire.ServicePrincipal, error) {
	var all armwire.ServicePrincipalList
	err := c.ARM(ctx, http.MethodGet, ServicePrincipals, nil, &all)
	return all.Value, err
}

// Principal finds an identity by its object id, its application id or its name.
func (c *Client) Principal(ctx context.Context, said string) (armwire.ServicePrincipal, error) {
	all, err := c.Principals(ctx)
	if err != nil {
		return armwire.ServicePrincipal{}, err
	}
	var found []armwire.ServicePrincipal
	for _, p := range all {
		if strings.EqualFold(said, p.ObjectID) || strings.EqualFold(said, p.AppID) || said == p.Name {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return armwire.ServicePrincipal{}, command.Hinted(fmt.Errorf("unknown identity %q", said),
			"\"visage identity list\" lists the identities")
	case 1:
		return found[0], nil
	}
	return armwire.ServicePrincipal{}, command.Hinted(fmt.Errorf("%d identities are called %q", len(found), said),
		"use the object id, which \"visage identity list\" shows")
}

// People is the path of the people who sign in to the console, for ARM.
const People = "/providers/Visage.Identity/people"

// People returns all people.
func (c *Client) People(ctx context.Context) ([]armwire.Person, error) {
	var all armwire.PersonList
	err := c.ARM(ctx, http.MethodGet, People, nil, &all)
	return all.Value, err
}

// Person finds a person by object id, e-mail address or name.
func (c *Client) Person(ctx context.Context, said string) (armwire.Person, error) {
	all, err := c.People(ctx)
	if err != nil {
		return armwire.Person{}, err
	}
	var found []armwire.Person
	for _, p := range all {
		if strings.EqualFold(said, p.ObjectID) || p.Email != "" && strings.EqualFold(said, p.Email) || said == p.Name {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return armwire.Person{}, command.Hinted(fmt.Errorf("unknown person %q", said),
			"\"visage person list\" lists the people")
	case 1:
		return found[0], nil
	}
	return armwire.Person{}, command.Hinted(fmt.Errorf("%d people are called %q", len(found), said),
		"use the e-mail address or the object id, which \"visage person list\" shows")
}

// KeyStores is the path of the stores of customers' keys beside key vaults, for ARM.
const KeyStores = "/providers/Visage.Operations/keyStores"

// KeyStore finds a store of customers' keys by its address, in any spelling, or by its id.
func (c *Client) KeyStore(ctx context.Context, said string) (armwire.KeyStore, error) {
	var all armwire.KeyStoreList
	if err := c.ARM(ctx, http.MethodGet, KeyStores, nil, &all); err != nil {
		return armwire.KeyStore{}, err
	}
	address := said
	if spelled, err := stores.AddressOf(said); err == nil {
		address = spelled
	}
	for _, s := range all.Value {
		if s.Address == address || strings.EqualFold(s.ID, said) {
			return s, nil
		}
	}
	return armwire.KeyStore{}, command.Hinted(fmt.Errorf("unknown key store %q", said),
		"\"visage store list\" lists the key stores")
}

// VaultAddress returns the address of a vault that is given by its name or its address.
func (c *Client) VaultAddress(ctx context.Context, vault string) (string, error) {
	if strings.Contains(vault, "/") {
		return vault, nil
	}
	var v armwire.Vault
	err := c.ARM(ctx, http.MethodGet, c.VaultPath(vault), nil, &v)
	return v.Properties.VaultURI, err
}
