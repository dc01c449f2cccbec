package armapi

import (
	"net/http"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/identity"
)

// roleRoutes are the role definitions, which are the same on every scope, and the caller's permissions on a scope.
func (p *plane) roleRoutes(route routeMaker) []api.Route {
	var all []api.Route
	for _, scope := range append([]string{""}, scopes...) {
		definitions := scope + authorization + "/roleDefinitions"
		all = append(all,
			route(http.MethodGet, definitions, p.listRoles, api.Doc{
				Summary: "List the roles there are",
				Query:   append([]api.Param{{Name: "$filter", Text: roleGrammar.example, Value: ""}}, pageParams...),
				Answer:  roleList{},
			}),
			route(http.MethodGet, definitions+"/{role}", p.getRole,
				api.Doc{Summary: "Get a role", Answer: roleDefinition{}}),
		)
		if scope == "" {
			continue
		}
		all = append(all,
			route(http.MethodPut, definitions+"/{role}", p.fixedRole,
				api.Doc{Summary: "Define a role: they are built in"}),
			route(http.MethodDelete, definitions+"/{role}", p.fixedRole,
				api.Doc{Summary: "Remove a role: they are built in"}),
			route(http.MethodGet, scope+authorization+"/permissions", p.listPermissions,
				api.Doc{Summary: "List what the caller's roles allow on a scope", Answer: permissionList{}}),
		)
	}
	return all
}

type roleList struct{ armwire.Page[roleDefinition] }

type roleDefinition struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Properties roleProperties `json:"properties"`
}

type roleProperties struct {
	Name        string            `json:"roleName"`
	Type        string            `json:"type"`
	Description string            `json:"description"`
	Scopes      []string          `json:"assignableScopes"`
	Permissions []rolePermissions `json:"permissions"`
}

type rolePermissions struct {
	Actions        []string `json:"actions"`
	NotActions     []string `json:"notActions"`
	DataActions    []string `json:"dataActions"`
	NotDataActions []string `json:"notDataActions"`
}

type permissionList struct {
	Value []rolePermissions `json:"value"`
}

const builtIn = "BuiltInRole"

var roleGrammar = grammar{
	code: "UnsupportedFilter", properties: []string{"roleName", "type"},
	functions: []string{"atScope()", "atScopeAndBelow()"}, example: "roleName eq 'Reader'",
}

// roleID is the id of a role in role assignments.
func (p *plane) roleID(id string) string {
	return "/subscriptions/" + p.Subscription + authorization + "/roleDefinitions/" + id
}

// definition is a role in an answer; outside the subscription it has a shorter id.
func (p *plane) definition(r *api.Request, role identity.Role) roleDefinition {
	id := p.roleID(role.ID)
	if !strings.Contains(r.Route().Pattern, "{subscription}") {
		id = authorization + "/roleDefinitions/" + role.ID
	}
	return roleDefinition{
		ID: id, Name: role.ID, Type: "Microsoft.Authorization/roleDefinitions",
		Properties: roleProperties{
			Name: role.Name, Type: builtIn, Description: role.Description, Scopes: []string{"/"},
			Permissions: []rolePermissions{permissionsOf(role)},
		},
	}
}

func permissionsOf(role identity.Role) rolePermissions {
	return rolePermissions{
		Actions: orNone(role.Actions), NotActions: orNone(role.NotActions), DataActions: orNone(role.DataActions),
		NotDataActions: []string{},
	}
}

// orNone turns nil into an empty list, which JSON writes as [].
func orNone(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func (p *plane) listRoles(r *api.Request) (any, error) {
	text, _, err := r.Query("$filter")
	if err != nil {
		return nil, err
	}
	passes, err := roleGrammar.parse(text)
	if err != nil {
		return nil, err
	}
	var all []roleDefinition
	for _, role := range identity.Roles() {
		about := facts{
			of: func(property string) []string {
				if property == "rolename" {
					return []string{role.Name}
				}
				return []string{builtIn}
			},
			call: func(string, string) bool { return true }, // every role can be assigned on every scope
		}
		if passes(about) {
			all = append(all, p.definition(r, role))
		}
	}
	return page(p, r, all, func(d roleDefinition) string { return d.ID })
}

func (p *plane) getRole(r *api.Request) (any, error) {
	id := r.Path("role")
	for _, role := range identity.Roles() {
		if strings.EqualFold(role.ID, id) {
			return p.definition(r, role), nil
		}
	}
	return nil, visage.Refuse(visage.NotFound, "RoleDefinitionDoesNotExist", "There is no role %q.", id)
}

func (p *plane) fixedRole(*api.Request) (any, error) {
	return nil, visage.Refuse(visage.Invalid, "FeatureNotSupported",
		"Custom roles are not supported: the built-in roles can be assigned, but not changed.")
}

// listPermissions lists the permissions of the caller's roles on a scope and above it.
func (p *plane) listPermissions(r *api.Request) (any, error) {
	scope := scopeOf(r)
	answer := permissionList{Value: []rolePermissions{}}
	for _, a := range p.Identities.Assignments(scope) {
		if !strings.EqualFold(a.Principal, r.Principal.ObjectID) || !isAtOrAbove(a.Scope, scope) {
			continue
		}
		for _, role := range identity.Roles() {
			if role.ID == a.Role {
				answer.Value = append(answer.Value, permissionsOf(role))
			}
		}
	}
	return answer, nil
}
