package armapi

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/identity"
)

// authorization is Azure's name of the provider of role assignments.
const authorization = "/providers/Microsoft.Authorization"

// scopes are the patterns of the scopes on which roles can be assigned.
var scopes = []string{oneSubscription, oneGroup, one, oneVault}

// assignmentRoutes are role assignments, on every kind of scope.
func (p *plane) assignmentRoutes(route routeMaker) []api.Route {
	query := append([]api.Param{{Name: "$filter", Text: assignmentGrammar.example, Value: ""}}, pageParams...)
	all := []api.Route{
		route(http.MethodGet, authorization+"/roleAssignments", p.listAllAssignments,
			api.Doc{Summary: "List the role assignments that the caller may see", Query: query,
				Answer: assignmentList{}}),
	}
	for _, scope := range scopes {
		assignments := scope + authorization + "/roleAssignments"
		all = append(all,
			route(http.MethodGet, assignments, p.listAssignments,
				api.Doc{Summary: "List the role assignments that work on a scope",
					Query: query, Answer: assignmentList{}}),
			route(http.MethodGet, assignments+"/{assignment}", p.getAssignment,
				api.Doc{Summary: "Get a role assignment", Answer: armwire.RoleAssignment{}}),
			route(http.MethodPut, assignments+"/{assignment}", p.putAssignment,
				api.Doc{Summary: "Assign a role", Status: http.StatusCreated, Body: armwire.RoleAssignmentRequest{},
					Answer: armwire.RoleAssignment{}}),
			route(http.MethodDelete, assignments+"/{assignment}", p.deleteAssignment,
				api.Doc{Summary: "Take a role assignment back", Answer: armwire.RoleAssignment{}}),
		)
	}
	return all
}

var assignmentGrammar = grammar{
	code: "UnsupportedFilter", properties: []string{"principalId", "roleDefinitionId"},
	functions: []string{"atScope()", "assignedTo('ID')"},
	example:   "atScope() and principalId eq 'ID'",
}

type assignmentList struct {
	armwire.Page[armwire.RoleAssignment]
}

func (p *plane) assignmentOf(a identity.Assignment) armwire.RoleAssignment {
	scope := a.Spelling
	if scope == "" { // it was assigned before spellings were stored
		scope = a.Scope
	}
	kind := "ServicePrincipal"
	if holder, err := p.Identities.Principal(a.Principal); err == nil && holder.Kind == identity.Person {
		kind = "User"
	}
	return armwire.RoleAssignment{
		ID: scope + authorization + "/roleAssignments/" + a.ID, Name: a.ID,
		Type: "Microsoft.Authorization/roleAssignments",
		Properties: armwire.RoleAssignmentProperties{
			RoleDefinitionID: p.roleID(a.Role), PrincipalID: a.Principal, PrincipalType: kind,
			Scope:   scope,
			Created: stamp(time.Unix(0, a.Created)),
		},
	}
}

// scopeOf is the scope of a request: the path before the provider of role assignments.
func scopeOf(r *api.Request) string {
	path := pathOf(r)
	return path[:strings.LastIndex(path, authorization)]
}

// spelledScope is scopeOf in the client's spelling, which Terraform compares with the one it sent.
func spelledScope(r *api.Request) string {
	return "/" + strings.Join(r.Written(strings.Count(scopeOf(r), "/")), "/")
}

func (p *plane) listAssignments(r *api.Request) (any, error) {
	return p.answerAssignments(r, scopeOf(r), func(identity.Assignment) bool { return true })
}

// listAllAssignments lists the assignments of all scopes on which the caller may read them.
func (p *plane) listAllAssignments(r *api.Request) (any, error) {
	return p.answerAssignments(r, "", func(a identity.Assignment) bool {
		return p.May(r.Principal, "Microsoft.Authorization/roleAssignments/read", a.Scope)
	})
}

// answerAssignments lists the assignments on, above and below a scope that match the request's filter.
func (p *plane) answerAssignments(r *api.Request, scope string, seen func(identity.Assignment) bool) (any, error) {
	text, _, err := r.Query("$filter")
	if err != nil {
		return nil, err
	}
	passes, err := assignmentGrammar.parse(text)
	if err != nil {
		return nil, err
	}
	var all []armwire.RoleAssignment
	for _, a := range p.Identities.Assignments(scope) {
		about := facts{
			of: func(property string) []string {
				if property == "principalid" {
					return []string{a.Principal}
				}
				return []string{a.Role, p.roleID(a.Role)}
			},
			call: func(function, argument string) bool {
				if function == "assignedto" { // there are no groups that could have further assignments
					return strings.EqualFold(a.Principal, argument)
				}
				return isAtOrAbove(a.Scope, scope)
			},
		}
		if seen(a) && passes(about) {
			all = append(all, p.assignmentOf(a))
		}
	}
	return page(p, r, all, func(a armwire.RoleAssignment) string { return a.ID })
}

// isAtOrAbove reports whether an assignment on place applies to all of a scope.
func isAtOrAbove(place, scope string) bool {
	place, scope = strings.ToLower(place), strings.ToLower(scope)
	return place == scope || strings.HasPrefix(scope, place+"/")
}

// assignment finds the assignment that a request names, on exactly the scope that it names.
func (p *plane) assignment(r *api.Request) (identity.Assignment, error) {
	id, scope := r.Path("assignment"), scopeOf(r)
	for _, a := range p.Identities.Assignments(scope) {
		if strings.EqualFold(a.ID, id) && strings.EqualFold(a.Scope, scope) {
			return a, nil
		}
	}
	return identity.Assignment{}, visage.Refuse(visage.NotFound, "RoleAssignmentNotFound",
		"There is no role assignment %q on %s.", id, scope)
}

func (p *plane) getAssignment(r *api.Request) (any, error) {
	a, err := p.assignment(r)
	if err != nil {
		return nil, err
	}
	return p.assignmentOf(a), nil
}

func (p *plane) putAssignment(r *api.Request) (any, error) {
	var want armwire.RoleAssignmentRequest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	if want.Properties.Condition != "" { // without its condition, the role would allow more than requested
		return nil, visage.Refuse(visage.Invalid, "FeatureNotSupported",
			"Conditions of role assignments are not supported: assign the role on a narrower scope instead.")
	}
	role := want.Properties.RoleDefinitionID
	role = role[strings.LastIndex(role, "/")+1:]
	a, err := p.Identities.Assign(r.Context(), r.Path("assignment"), want.Properties.PrincipalID, role,
		spelledScope(r))
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
		err = p.Identities.Unassign(r.Context(), a.ID)
	}
	if err != nil {
		return nil, err
	}
	return p.assignmentOf(a), nil
}
