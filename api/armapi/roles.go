package armapi

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/identity"
)

// authorization is the provider of role assignments, with Azure's name.
const authorization = "/providers/Microsoft.Authorization"

// roleRoutes are role assignments and the roles there are, on every kind of scope.
func (p *plane) roleRoutes(route routeMaker) []api.Route {
	var all []api.Route
	for _, scope := range []string{oneSubscription, oneGroup, one, oneVault} {
		assignments := scope + authorization + "/roleAssignments"
		all = append(all,
			route(http.MethodGet, scope+authorization+"/roleDefinitions", p.listRoles, api.Doc{Summary: "List the roles there are",
				Query: roleFilter, Answer: roleList{}}),
			route(http.MethodGet, assignments, p.listAssignments, api.Doc{Summary: "List the role assignments that work on a scope",
				Query: assignmentFilter, Answer: assignmentList{}}),
			route(http.MethodGet, assignments+"/{assignment}", p.getAssignment, api.Doc{Summary: "Get a role assignment", Answer: roleAssignment{}}),
			route(http.MethodPut, assignments+"/{assignment}", p.putAssignment,
				api.Doc{Summary: "Assign a role", Status: http.StatusCreated, Body: assignmentRequest{}, Answer: roleAssignment{}}),
			route(http.MethodDelete, assignments+"/{assignment}", p.deleteAssignment,
				api.Doc{Summary: "Take a role assignment back", Answer: roleAssignment{}}),
		)
	}
	return all
}

var (
	roleFilter = []api.Param{{Name: "$filter", Text: "roleName eq 'NAME'", Value: ""}}

	assignmentFilter = []api.Param{{Name: "$filter", Text: "principalId eq 'ID', or atScope()", Value: ""}}
)

type roleList struct {
	Value []roleDefinition `json:"value"`
}

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

type assignmentList struct {
	Value []roleAssignment `json:"value"`
}

type roleAssignment struct {
	ID         string               `json:"id"`
	Name       string               `json:"name"`
	Type       string               `json:"type"`
	Properties assignmentProperties `json:"properties"`
}

type assignmentProperties struct {
	RoleDefinitionID string `json:"roleDefinitionId"`
	PrincipalID      string `json:"principalId"`
	PrincipalType    string `json:"principalType"`
	Scope            string `json:"scope"`
	Created          string `json:"createdOn"`
}

type assignmentRequest struct {
	Properties struct {
		RoleDefinitionID string `json:"roleDefinitionId" api:"required"`
		PrincipalID      string `json:"principalId" api:"required"`
	} `json:"properties" api:"required"`
}

func (p *plane) roleID(id string) string {
	return "/subscriptions/" + p.Subscription + authorization + "/roleDefinitions/" + id
}

func (p *plane) assignmentOf(a identity.Assignment) roleAssignment {
	return roleAssignment{
		ID: a.Scope + authorization + "/roleAssignments/" + a.ID, Name: a.ID, Type: "Microsoft.Authorization/roleAssignments",
		Properties: assignmentProperties{
			RoleDefinitionID: p.roleID(a.Role), PrincipalID: a.Principal, PrincipalType: "ServicePrincipal", Scope: a.Scope,
			Created: stamp(time.Unix(0, a.Created)),
		},
	}
}

// scopeOf is the scope that a request is about: what stands before the provider of role assignments.
func scopeOf(r *api.Request) string {
	path := pathOf(r)
	return path[:strings.LastIndex(path, authorization)]
}

// filtered reads the one kind of filter that clients send: a property and the text that it must equal. An empty text: no filter.
func filtered(r *api.Request, property string) (text string, err error) {
	filter, _, err := r.Query("$filter")
	if err != nil || filter == "" || strings.EqualFold(filter, "atScope()") {
		return "", err
	}
	rest, ok := strings.CutPrefix(filter, property+" eq '")
	text, closed := strings.CutSuffix(rest, "'")
	if !ok || !closed || strings.Contains(text, "'") {
		return "", visage.Refuse(visage.Invalid, "UnsupportedFilter", "The filter must be %s eq 'TEXT'.", property)
	}
	return text, nil
}

func (p *plane) listRoles(r *api.Request) (any, error) {
	name, err := filtered(r, "roleName")
	if err != nil {
		return nil, err
	}
	answer := roleList{Value: []roleDefinition{}}
	for _, role := range identity.Roles() {
		if name != "" && !strings.EqualFold(name, role.Name) {
			continue
		}
		answer.Value = append(answer.Value, roleDefinition{
			ID: p.roleID(role.ID), Name: role.ID, Type: "Microsoft.Authorization/roleDefinitions",
			Properties: roleProperties{
				Name: role.Name, Type: "BuiltInRole", Description: role.Name, Scopes: []string{"/"},
				Permissions: []rolePermissions{{
					Actions: orNone(role.Actions), NotActions: orNone(role.NotActions), DataActions: orNone(role.DataActions), NotDataActions: []string{},
				}},
			},
		})
	}
	return answer, nil
}

// orNone makes a list that is not there an empty one, as JSON has it.
func orNone(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func (p *plane) listAssignments(r *api.Request) (any, error) {
	principal, err := filtered(r, "principalId")
	if err != nil {
		return nil, err
	}
	answer := assignmentList{Value: []roleAssignment{}}
	for _, a := range p.Identities.Assignments(scopeOf(r)) {
		if principal == "" || strings.EqualFold(principal, a.Principal) {
			answer.Value = append(answer.Value, p.assignmentOf(a))
		}
	}
	return answer, nil
}

// assignment finds the assignment that a request names, on the scope that it names: one above or below is another.
func (p *plane) assignment(r *api.Request) (identity.Assignment, error) {
	id, scope := r.Path("assignment"), scopeOf(r)
	for _, a := range p.Identities.Assignments(scope) {
		if strings.EqualFold(a.ID, id) && strings.EqualFold(a.Scope, scope) {
			return a, nil
		}
	}
	return identity.Assignment{}, visage.Refuse(visage.NotFound, "RoleAssignmentNotFound", "There is no role assignment %q on %s.", id, scope)
}

func (p *plane) getAssignment(r *api.Request) (any, error) {
	a, err := p.assignment(r)
	if err != nil {
		return nil, err
	}
	return p.assignmentOf(a), nil
}

func (p *plane) putAssignment(r *api.Request) (any, error) {
	var want assignmentRequest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	role := want.Properties.RoleDefinitionID
	role = role[strings.LastIndex(role, "/")+1:]
	a, err := p.Identities.Assign(r.Context(), callerOf(r), r.Path("assignment"), want.Properties.PrincipalID, role, scopeOf(r))
	if err != nil {
		return nil, err
	}
	return api.Reply{Status: http.StatusCreated, Body: p.assignmentOf(a)}, nil
}

func (p *plane) deleteAssignment(r *api.Request) (any, error) {
	a, err := p.assignment(r)
	if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.NotFound {
		return api.Reply{Status: http.StatusNoContent}, nil
	}
	if err == nil {
		err = p.Identities.Unassign(r.Context(), callerOf(r), a.ID)
	}
	if err != nil {
		return nil, err
	}
	return p.assignmentOf(a), nil
}
