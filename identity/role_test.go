package identity_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/identity"
)

func TestRoles(t *testing.T) {
	d := open(t, config(nil))
	p, _ := application(t, d)
	who := visage.Principal{ObjectID: p.ID}
	const account = scope + "/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a"
	const vault = scope + "/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v"
	type ask struct {
		action, at string
		data       bool
	}
	asks := map[string]ask{
		"read account": {"Microsoft.CognitiveServices/accounts/read", account, false},
		"make account": {"Microsoft.CognitiveServices/accounts/write", account, false},
		"list keys":    {"Microsoft.CognitiveServices/accounts/listKeys/action", account, false},
		"new key":      {"Microsoft.CognitiveServices/accounts/regenerateKey/action", account, false},
		"give roles":   {"Microsoft.Authorization/roleAssignments/write", account, false},
		"make vault":   {"Microsoft.KeyVault/vaults/write", vault, false},
		"use faces":    {"Microsoft.CognitiveServices/accounts/Face/detect/action", account, true},
		"read key":     {"Microsoft.KeyVault/vaults/keys/read", vault, true},
		"make key":     {"Microsoft.KeyVault/vaults/keys/create/action", vault, true},
		"wrap":         {"Microsoft.KeyVault/vaults/keys/wrap/action", vault, true},
		"sign":         {"Microsoft.KeyVault/vaults/keys/sign/action", vault, true},
		"get policies": {"Microsoft.KeyVault/vaults/certificates/read", vault, true},
		"audit":        {identity.ReadAudit, scope, false},
		"unlock":       {"Microsoft.CognitiveServices/accounts/encryption:unlock/action", account, false},
		"hold":         {"Microsoft.CognitiveServices/accounts/placeHold/action", account, false},
		"retention":    {"Microsoft.CognitiveServices/accounts/retention/write", account, false},
		"approve":      {"Microsoft.CognitiveServices/accessRequests/approve/action", scope, false},
		"back up":      {"Visage.Operations/backup/action", scope, false},
		"make person":  {"Visage.Identity/people/action", scope, false},
	}
	other, _ := application(t, d)
	// the last owner could not be removed
	if _, err := d.Assign(t.Context(), "", other.ID, identity.Owner, scope); err != nil {
		t.Fatal(err)
	}
	for role, want := range map[string][]string{
		// What only operators may do has names too, and Owner reaches them: TestOperatorsAlone is about those.
		identity.Owner: {"read account", "make account", "list keys", "new key", "give roles", "make vault", "audit",
			"unlock", "hold", "retention", "approve", "back up", "make person"},
		identity.Contributor: {"read account", "make account", "list keys", "new key", "make vault", "audit",
			"unlock", "hold", "retention", "approve", "back up", "make person"},
		identity.Reader: {"read account", "audit"},
		identity.CognitiveContributor: {"read account", "make account", "list keys", "new key", "unlock", "hold",
			"retention", "approve"},
		identity.VisageOperator: {"read account", "give roles", "audit", "approve", "back up",
			"make person"},
		identity.VisageDataProtectionOfficer: {"read account", "use faces", "audit", "hold", "retention"},
		identity.VisageSecurityOfficer: {"read account", "make account", "make vault", "read key", "make key", "wrap",
			"sign", "get policies", "audit", "unlock"},
		identity.CognitiveUser:          {"read account", "list keys", "use faces"},
		identity.VaultAdministrator:     {"read key", "make key", "wrap", "sign", "get policies"},
		identity.VaultCryptoOfficer:     {"read key", "make key", "wrap", "sign"},
		identity.VaultCryptoUser:        {"read key", "wrap", "sign"},
		identity.VaultServiceEncryption: {"read key", "wrap"},
		identity.VaultReader:            {"read key", "get policies"},
	} {
		a, err := d.Assign(t.Context(), "", p.ID, role, strings.ToUpper(scope[:14])+scope[14:]+"/")
		if strings.HasPrefix(scope, "/subscriptions/") && err != nil {
			t.Fatal(err)
		}
		for name, q := range asks {
			may := d.May
			if q.data {
				may = d.MayData
			}
			if got := may(who, strings.ToUpper(q.action), q.at); got != slices.Contains(want, name) {
				t.Errorf("%s may %s: %v", role, name, got)
			}
			if may(visage.Principal{ObjectID: stranger}, q.action, q.at) || may(visage.Principal{}, q.action, q.at) {
				t.Errorf("somebody without a role may %s", name)
			}
		}
		if err := d.Unassign(t.Context(), a.ID); err != nil {
			t.Fatal(err)
		}
		if d.May(who, "Microsoft.CognitiveServices/accounts/read", account) {
			t.Errorf("%s works after it was taken back", role)
		}
	}
}

func TestScopesReachDownAndNotAside(t *testing.T) {
	d := open(t, config(nil))
	p, _ := application(t, d)
	group := scope + "/resourceGroups/One"
	if _, err := d.Assign(t.Context(), "", p.ID, identity.Reader, group); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]bool{
		group: true, strings.ToLower(group) + "/": true, group + "/providers/x/y/z": true,
		scope: false, group + "Two": false, scope + "/resourceGroups/two": false, "": false, "/": false,
	} {
		if got := d.May(visage.Principal{ObjectID: p.ID}, "x/read", at); got != want {
			t.Errorf("reader of %s reads %q: %v", group, at, got)
		}
	}
	if n := len(d.Assignments(group + "/a")); n != 1 {
		t.Errorf("%d assignments work below the group", n)
	}
	if n := len(d.Assignments(scope + "/resourceGroups/two")); n != 0 {
		t.Errorf("%d assignments work beside the group", n)
	}
	_, err := d.Assign(t.Context(), "", p.ID, identity.Reader, group)
	wantRefusal(t, "the same again", err, "RoleAssignmentExists", "")
	_, err = d.Assign(t.Context(), "", p.ID, stranger, group)
	wantRefusal(t, "an unknown role", err, "RoleDefinitionDoesNotExist", "")
	_, err = d.Assign(t.Context(), "", stranger, identity.Reader, group)
	wantRefusal(t, "an unknown identity", err, "PrincipalNotFound", "")
	_, err = d.Assign(t.Context(), "", p.ID, identity.Reader, "/")
	wantRefusal(t, "everything", err, "InvalidScope", "")
}
