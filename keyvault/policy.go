package keyvault

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/visage-face/visage"
)

// Permission is something that a principal may be allowed to do with keys, spelled as the contract has it (§A3).
type Permission string

// The permissions.
const (
	MayGet               Permission = "get"
	MayList              Permission = "list"
	MayCreate            Permission = "create"
	MayImport            Permission = "import"
	MayUpdate            Permission = "update"
	MayDelete            Permission = "delete"
	MayRecover           Permission = "recover"
	MayPurge             Permission = "purge"
	MayBackup            Permission = "backup"
	MayRestore           Permission = "restore"
	MayEncrypt           Permission = "encrypt"
	MayDecrypt           Permission = "decrypt"
	MaySign              Permission = "sign"
	MayVerify            Permission = "verify"
	MayWrap              Permission = "wrapKey"
	MayUnwrap            Permission = "unwrapKey"
	MayRotate            Permission = "rotate"
	MayGetRotationPolicy Permission = "getrotationpolicy"
	MaySetRotationPolicy Permission = "setrotationpolicy"
	MayRelease           Permission = "release" // lets nothing leave: see Service.Release

	// All stands in a policy for every permission but purge, release, rotate and those of rotation policies.
	All Permission = "all"
)

var allPermissions = []Permission{
	MayGet, MayList, MayCreate, MayImport, MayUpdate, MayDelete, MayRecover, MayPurge, MayBackup, MayRestore,
	MayEncrypt,
	MayDecrypt, MaySign, MayVerify, MayWrap, MayUnwrap, MayRotate, MayGetRotationPolicy, MaySetRotationPolicy,
	MayRelease,
	All,
}

// outsideAll are the permissions that have to be named.
var outsideAll = []Permission{MayPurge, MayRelease, MayRotate, MayGetRotationPolicy, MaySetRotationPolicy}

// ParsePermission reads a permission in any case.
func ParsePermission(s string) (Permission, error) {
	for _, p := range allPermissions {
		if strings.EqualFold(s, string(p)) {
			return p, nil
		}
	}
	return "", visage.Refuse(visage.Invalid, "BadRequest", "The key permission %q is not one of %v.", s, allPermissions)
}

// AccessPolicy gives a principal permissions on the keys of a vault.
type AccessPolicy struct {
	ObjectID string       // whose: see Caller.ObjectID
	AppID    string       // only when it acts through this application; empty: through any
	Keys     []Permission // what it may do with keys
	Others   []string     // permissions on what this vault does not keep, as "secrets/get": stored and shown, no more
}

func (p AccessPolicy) gives(who visage.Caller, want Permission) bool {
	if !strings.EqualFold(p.ObjectID, who.ObjectID) || p.AppID != "" && !strings.EqualFold(p.AppID, who.AppID) {
		return false
	}
	return slices.Contains(p.Keys, want) || slices.Contains(p.Keys, All) && !slices.Contains(outsideAll, want)
}

// authorise refuses a caller who lacks a permission in a vault. The tenant was checked before it: see Vault.Tenant.
func (s *Service) authorise(ctx context.Context, who visage.Caller, v Vault, want Permission) error {
	if who.ObjectID == "" || !strings.EqualFold(who.Tenant, v.Tenant) {
		return forbidden("AccessDenied", "The caller does not belong to the tenant of vault %s.", v.Name)
	}
	if who.Manager {
		return nil
	}
	if err := v.admit(who); err != nil {
		return err
	}
	if v.RBAC {
		ok, err := s.cfg.Roles.Allowed(ctx, who, v, want)
		if err != nil {
			return fmt.Errorf("look for the roles of %s: %w", who.ObjectID, err)
		}
		if !ok {
			return forbidden("ForbiddenByRbac",
				"The caller 'appid=%s;oid=%s;tenant=%s' has no role that allows keys %s on key vault '%s'.",
				who.AppID, who.ObjectID, who.Tenant, want, v.Name)
		}
		return nil
	}
	if slices.ContainsFunc(v.Policies, func(p AccessPolicy) bool { return p.gives(who, want) }) {
		return nil
	}
	return forbidden("AccessDenied",
		"The user, group or application 'appid=%s;oid=%s;tenant=%s' does not have keys %s permission on key vault "+
			"'%s'.",
		who.AppID, who.ObjectID, who.Tenant, want, v.Name)
}

// admit refuses a caller whom the network rules of the vault keep out. The codes are the contract's (§A8).
func (v Vault) admit(who visage.Caller) error {
	switch {
	case who.Service && v.Network.AdmitService(), !who.Service && v.Network.Admit(who.Address):
		return nil
	case v.Network.Closed:
		return forbidden("ForbiddenByConnection",
			"Public network access of key vault '%s' is disabled, and the request is not from a trusted service that "+
				"may bypass that.", v.Name)
	case who.Service:
		return forbidden("ForbiddenByFirewall",
			"The network rules of key vault '%s' do not admit trusted services: set networkAcls.bypass to "+
				"AzureServices.",
			v.Name)
	}
	return forbidden("ForbiddenByFirewall",
		"Client address is not authorized and caller is not a trusted service. Client address: %s. Caller: "+
			"appid=%s;oid=%s. Vault: %s.",
		who.Address, who.AppID, who.ObjectID, v.Name)
}
