package identity

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// Role is a set of things that may be done. Those that Azure has too have its name and id.
type Role struct {
	ID          string // a lower-case UUID, the same in every tenant
	Name        string
	Description string // one sentence
	// Patterns of what the role allows on the management plane, what of that it does not, and what it allows on data.
	// One "*" in a pattern stands for anything, slashes too. They match in any case.
	Actions, NotActions, DataActions []string
}

// The roles there are, by their ids. They are Azure's, in so far as Visage has what they are about; the names of those
// that Azure does not have begin with Visage.
const (
	// VisageOperator makes its holder an operator of the instance: see Directory.IsOperator.
	VisageOperator = "cad29a99-8f23-44ff-b3d2-a26ae6b028ee"
	// VisageDataProtectionOfficer finds and erases people, and sees to retention and legal holds.
	VisageDataProtectionOfficer = "0569e111-488e-47d6-803f-2b38ce72ebb5"
	// VisageSecurityOfficer controls keys and who holds them, and sees no faces.
	VisageSecurityOfficer = "a7cec0fc-ca2a-405f-b43f-b343caca79d3"

	Owner                    = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
	Contributor              = "b24988ac-6180-42a0-ab88-20f7382dd24c"
	Reader                   = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	CognitiveContributor     = "25fbc0a9-bd7c-42a3-aa1a-3b75d497ee68"
	CognitiveUser            = "a97b65f3-24c7-4388-baec-2e87135dc908"
	VaultAdministrator       = "00482a5a-887f-4fb3-b363-3b7fe8e74483"
	VaultCryptoOfficer       = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603"
	VaultCryptoUser          = "12338af0-0e69-4776-bea7-57ae8d297424"
	VaultServiceEncryption   = "e147488a-f6f5-4113-8e2d-b22465e65bf6"
	VaultReader              = "21090545-7ca7-4776-b22c-e363652d74d2"
	vaultKeys                = "Microsoft.KeyVault/vaults/keys/"
	readCognitive            = "Microsoft.CognitiveServices/*/read"
	readVaults               = "Microsoft.KeyVault/vaults/*read"
	readAssignments          = "Microsoft.Authorization/*/read"
	listKeys                 = "Microsoft.CognitiveServices/accounts/listkeys/action"
	writeAuthorization       = "Microsoft.Authorization/*/write"
	deleteAuthorization      = "Microsoft.Authorization/*/delete"
	everything, anyCognitive = "*", "Microsoft.CognitiveServices/*"
	readSubscription         = "Microsoft.Resources/subscriptions/*read"
	readIdentities           = "Visage.Identity/*/read"
	anyAccount               = "Microsoft.CognitiveServices/accounts/"

	// ReadAudit is the action that allows reading the whole audit log, not only that of one resource.
	ReadAudit = "Visage.Operations/auditEvents/read"
)

// Roles returns all roles, in the order of their names.
func Roles() []Role {
	keys := func(operations ...string) []string {
		for i, op := range operations {
			operations[i] = vaultKeys + op
		}
		return operations
	}
	return []Role{
		{
			ID: CognitiveContributor, Name: "Cognitive Services Contributor",
			Description: "Manages Face resources with their keys.",
			Actions:     []string{anyCognitive, readAssignments},
		}, {
			ID: CognitiveUser, Name: "Cognitive Services User",
			Description: "Uses Face resources, and lists their keys.",
			Actions:     []string{readCognitive, listKeys}, DataActions: []string{anyCognitive},
		}, {
			ID: Contributor, Name: "Contributor",
			Description: "Manages everything, and does not say who may do what.",
			Actions:     []string{everything}, NotActions: []string{writeAuthorization, deleteAuthorization},
		}, {
			ID: VaultAdministrator, Name: "Key Vault Administrator",
			Description: "Does everything with the content of key vaults.",
			Actions:     []string{readVaults, readAssignments}, DataActions: []string{"Microsoft.KeyVault/vaults/*"},
		}, {
			ID: VaultCryptoOfficer, Name: "Key Vault Crypto Officer",
			Description: "Does everything with the keys of key vaults, and does not say who may do what.",
			Actions:     []string{readVaults, readAssignments}, DataActions: []string{vaultKeys + "*"},
		}, {
			ID: VaultServiceEncryption, Name: "Key Vault Crypto Service Encryption User",
			Description: "Reads keys, and wraps and unwraps other keys with them: what a resource with a customer's " +
				"key needs.",
			DataActions: keys("read", "wrap/action", "unwrap/action"),
		}, {
			ID: VaultCryptoUser, Name: "Key Vault Crypto User",
			Description: "Uses the keys of key vaults.",
			DataActions: keys("read", "update/action", "backup/action", "encrypt/action", "decrypt/action",
				"wrap/action",
				"unwrap/action", "sign/action", "verify/action"),
		}, {
			ID: VaultReader, Name: "Key Vault Reader",
			Description: "Sees key vaults and what is in them, without using a key.",
			Actions:     []string{readVaults, readAssignments},
			DataActions: []string{"Microsoft.KeyVault/vaults/*read"},
		}, {
			ID: Owner, Name: "Owner",
			Description: "Manages everything, and says who may do what.",
			Actions:     []string{everything},
		}, {
			ID: Reader, Name: "Reader",
			Description: "Sees everything, and changes nothing.",
			Actions:     []string{"*/read"},
		}, {
			ID: VisageDataProtectionOfficer, Name: "Visage Data Protection Officer",
			Description: "Finds and erases the people of Face resources, sets retention and legal holds, and reads " +
				"the audit log, without access to keys.",
			Actions: []string{readCognitive, readSubscription, readAssignments, readIdentities, ReadAudit,
				anyAccount + "retention/write", anyAccount + "placeHold/action", anyAccount + "releaseHold/action",
				anyAccount + "expire/action"},
			DataActions: []string{anyAccount + "Face/*"},
		}, {
			ID: VisageOperator, Name: "Visage Operator",
			Description: "Runs the instance: decides on access requests and capacity, makes backups, and manages " +
				"identities, people and roles.",
			Actions: []string{"*/read", "Visage.Operations/*", "Visage.Identity/*", "Microsoft.Authorization/*",
				"Microsoft.CognitiveServices/accessRequests/*", "Microsoft.CognitiveServices/accessCapacity/*"},
		}, {
			ID: VisageSecurityOfficer, Name: "Visage Security Officer",
			Description: "Controls under which key the data of Face resources lies, manages key vaults with their " +
				"keys, and reads the audit log, without access to faces.",
			Actions: []string{readCognitive, readSubscription, readAssignments, readIdentities, ReadAudit,
				anyAccount + "write", anyAccount + "encryption:*",
				"Microsoft.CognitiveServices/accessRequests/write",
				"Microsoft.CognitiveServices/accessRequests/withdraw/action", "Microsoft.KeyVault/*"},
			DataActions: []string{"Microsoft.KeyVault/vaults/*"},
		},
	}
}

func (r Role) allows(action string, data bool) bool {
	match := func(pattern string) bool { return matches(pattern, action) }
	if data {
		return slices.ContainsFunc(r.DataActions, match)
	}
	return slices.ContainsFunc(r.Actions, match) && !slices.ContainsFunc(r.NotActions, match)
}

// matches reports whether a pattern with at most one "*" fits, in any case.
func matches(pattern, action string) bool {
	before, after, wild := strings.Cut(lower(pattern), "*")
	action = lower(action)
	if !wild {
		return action == before
	}
	return len(action) >= len(before)+len(after) && strings.HasPrefix(action, before) &&
		strings.HasSuffix(action, after)
}

// Assignment gives a role to an identity, on a scope and all below it.
type Assignment struct {
	ID        string // a lower-case UUID
	Principal string // object id
	Role      string // Role.ID
	Scope     string // a management path: a subscription, a resource group or a resource, as Assign stores it
	Spelling  string // Scope as it was given; empty where an earlier version of the program made the assignment
	// Instance is the Place.Instance that Scope named then: the role is on that resource, and on no later one of the
	// same name.
	Instance string
	Created  int64 // nanoseconds since 1970, UTC
}

var assignments = sealed.NewTable[Assignment]("identity/assignment", 1)

// Assign gives a role to an identity on a scope. id is a UUID of the caller's choice, or empty for a random one. What
// is assigned already is left as it is. It works at once, and until the thing that the scope names ends. Refusals:
// PrincipalNotFound, RoleDefinitionDoesNotExist, InvalidScope, those of Config.Place, ResourceNotFound for what is
// deleted; RoleAssignmentExists when the identity has the role there under another id; RoleAssignmentUpdateNotPermitted
// when the id is that of another assignment; AuthorizationFailed for VisageOperator where the caller is no operator.
func (d *Directory) Assign(ctx context.Context, id, principal, role, scope string) (Assignment, error) {
	if id == "" {
		id = visage.NewUUID().String()
	}
	a := Assignment{
		ID: lower(id), Principal: lower(principal), Role: lower(role), Scope: place(scope),
		Spelling: strings.TrimRight(scope, "/"),
		Created:  time.Now().UnixNano(),
	}
	refused := d.checkAssignment(ctx, &a)
	dead := false // whether the id is that of an assignment on what is gone
	if b, found := d.state.Now().byID[a.ID]; found && refused == nil {
		dead = !d.stands(b)
	}
	same := func(b Assignment) bool {
		return b.Principal == a.Principal && b.Role == a.Role && b.Scope == a.Scope && b.Instance == a.Instance
	}
	about, operator := a.change(roleGiven), d.isForOperator(ctx)
	err := d.changeRights(ctx, about, func(tx sealed.Tx, tell func(change)) error {
		if refused != nil {
			return refused
		}
		s := d.state.Now()
		holder, found := s.principals[a.Principal]
		if !found {
			return refuseUnknown("identity", principal)
		}
		if a.Role == VisageOperator {
			if err := checkOperator(operator, holder, a.Scope); err != nil {
				return err
			}
		}
		b, found := s.byID[a.ID]
		switch {
		case found && same(b):
			a = b
			return nil
		case found && !dead:
			return visage.Refuse(visage.Conflict, "RoleAssignmentUpdateNotPermitted",
				"The role assignment %s already exists and cannot be changed: create a new one with another id.", a.ID)
		case found:
			tell(b.change(roleEnded))
		}
		if slices.ContainsFunc(s.roles[a.Principal], same) {
			return visage.Refuse(visage.Conflict, "RoleAssignmentExists", "The identity already has this role on "+
				"this scope.")
		}
		if err := d.space.MayGrow(); err != nil {
			return err
		}
		tell(a.change(roleGiven))
		return assignments.In().Put(tx, a.ID, a)
	})
	if err != nil {
		return Assignment{}, fmt.Errorf("assign role: %w", err)
	}
	return a, nil
}

// checkAssignment refuses what cannot be an assignment, and finds what it is on.
func (d *Directory) checkAssignment(ctx context.Context, a *Assignment) error {
	if !visage.IsUUID(a.ID) {
		return visage.Refuse(visage.Invalid, "InvalidRoleAssignmentId", "The id %q is not a UUID.", short(a.ID))
	}
	if !strings.HasPrefix(a.Scope, "/subscriptions/") {
		return visage.Refuse(visage.Invalid, "InvalidScope", "The scope %q must be a subscription, or a resource "+
			"group or resource in it.",
			short(a.Spelling))
	}
	if _, found := lookupRole(a.Role); !found {
		return visage.Refuse(visage.Invalid, "RoleDefinitionDoesNotExist", "There is no role %q.", short(a.Role))
	}
	on, err := d.cfg.Place(ctx, a.Scope)
	if err != nil {
		return err
	}
	if a.Instance = on.Instance; on.Deleted {
		return visage.Refuse(visage.NotFound, "ResourceNotFound",
			"The scope %q is deleted: recover it before you assign roles on it.", short(a.Spelling))
	}
	return nil
}

// Has reports whether an identity was given a role on that very scope, where it still stands.
func (d *Directory) Has(principal, role, scope string) bool {
	return slices.ContainsFunc(d.state.Now().roles[lower(principal)], func(a Assignment) bool {
		return a.Role == lower(role) && a.Scope == place(scope) && d.stands(a)
	})
}

// Unassign takes an assignment back. It works at once. Refusals: RoleAssignmentNotFound; LastOwner where nobody else
// who can sign in owns the subscription; AuthorizationFailed for VisageOperator where the caller is no operator.
func (d *Directory) Unassign(ctx context.Context, id string) error {
	id = lower(id)
	about := d.state.Now().byID[id].change(roleTaken)
	about.Assignment = id
	operator := d.isForOperator(ctx)
	err := d.changeRights(ctx, about, func(tx sealed.Tx, tell func(change)) error {
		a, found := d.state.Now().byID[id]
		if !found {
			return visage.Refuse(visage.NotFound, "RoleAssignmentNotFound", "There is no role assignment %q.", id)
		}
		if a.Role == VisageOperator && !operator {
			return refuseOperator()
		}
		tell(a.change(roleTaken))
		return assignments.In().Delete(tx, id)
	})
	if err != nil {
		return fmt.Errorf("take role back: %w", err)
	}
	return nil
}

// Assignments returns the assignments that work on a scope: those on it, above it and below it, sorted by id. An empty
// scope returns all. Those on things that are gone work no more and are left out.
func (d *Directory) Assignments(scope string) []Assignment {
	var all []Assignment
	for _, a := range d.state.Now().byID {
		if at := place(scope); at == "" || within(at, a.Scope) || within(a.Scope, at) {
			all = append(all, a)
		}
	}
	on := map[string]string{} // the instances of scopes, each asked for once
	all = slices.DeleteFunc(all, func(a Assignment) bool {
		instance, asked := on[a.Scope]
		if !asked {
			now, err := d.cfg.Place(context.Background(), a.Scope)
			if instance = now.Instance; err != nil {
				instance = "none"
			}
			on[a.Scope] = instance
		}
		return instance != a.Instance
	})
	slices.SortFunc(all, func(a, b Assignment) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// May reports whether who has a role on scope, or above it, that allows an action of the management plane, for example
// "Microsoft.CognitiveServices/accounts/read".
func (d *Directory) May(who visage.Principal, action, scope string) bool {
	return d.may(who, action, scope, false, "")
}

// MayData is May for what is done with data, for example "Microsoft.KeyVault/vaults/keys/wrap/action".
func (d *Directory) MayData(who visage.Principal, action, scope string) bool {
	return d.may(who, action, scope, true, "")
}

// MayDataWithout is MayData as it would be without an assignment.
func (d *Directory) MayDataWithout(assignment string, who visage.Principal, action, scope string) bool {
	return d.may(who, action, scope, true, assignment)
}

func (d *Directory) may(who visage.Principal, action, scope string, data bool, without string) bool {
	scope = place(scope)
	return slices.ContainsFunc(d.state.Now().roles[lower(who.ObjectID)], func(a Assignment) bool {
		role, found := lookupRole(a.Role)
		return found && a.ID != without && within(scope, a.Scope) && role.allows(action, data) && d.stands(a)
	})
}

// rolesByID are the roles by their ids: every request asks for some.
var rolesByID = sync.OnceValue(func() map[string]Role {
	all := map[string]Role{}
	for _, r := range Roles() {
		all[r.ID] = r
	}
	return all
})

func lookupRole(id string) (Role, bool) {
	role, found := rolesByID()[id]
	return role, found
}

// place is the form in which scopes are compared: in lower case, without a slash at the end.
func place(scope string) string { return lower(strings.TrimRight(scope, "/")) }

// within reports whether one place is another, or lies below it.
func within(inner, outer string) bool {
	rest, found := strings.CutPrefix(inner, outer)
	return found && (rest == "" || rest[0] == '/')
}
