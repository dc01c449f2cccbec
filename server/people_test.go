package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

const people = "/providers/Visage.Identity/people"

func TestPeopleOverManagement(t *testing.T) {
	r := realm{servertest.Start(t, server.Config{}), t}
	operator := r.Token(t, managementPlane)
	made := r.call(201, "", operator, "POST", people,
		`{"displayName":"Ada Łukasz 🦉","mail":"ada@example.org","preferredLanguage":"fr"}`)
	id, _ := made["objectId"].(string)
	one := people + "/" + id
	r.call(409, "EmailTaken", operator, "POST", people, `{"displayName":"B","mail":"ADA@example.org"}`)
	r.call(400, "InvalidPrincipal", operator, "POST", people, `{"displayName":""}`)
	now := r.call(200, "", operator, "PATCH", one, `{"preferredLanguage":"en"}`)
	if now["displayName"] != "Ada Łukasz 🦉" || now["mail"] != "ada@example.org" || now["preferredLanguage"] != "en" {
		t.Errorf("changed: %v", now)
	}
	if all := r.call(200, "", operator, "GET", people, "")["value"].([]any); len(all) != 1 {
		t.Errorf("people: %v", all)
	}
	for _, other := range []string{r.Operator().ClientID, newID(t)} { // who is no person
		r.call(404, "PrincipalNotFound", operator, "GET", people+"/"+other, "")
		r.call(404, "PrincipalNotFound", operator, "DELETE", people+"/"+other, "")
		r.call(404, "PrincipalNotFound", operator, "PATCH", people+"/"+other, `{"displayName":"x"}`)
	}

	// One-time addresses lead to the console of this server, and sign in whom they are for.
	principals := "/providers/Visage.Identity/servicePrincipals/"
	for path, want := range map[string]struct {
		id  string
		use identity.CodeUse
	}{
		one + "/invite":                                       {id, identity.Invite},
		principals + id + "/signInAddress":                    {id, identity.SignIn},
		principals + r.Operator().ClientID + "/signInAddress": {r.Operator().ClientID, identity.SignIn},
	} {
		answer := r.call(200, "", operator, "POST", path, "")
		code, found := strings.CutPrefix(fmt.Sprint(answer["address"]), r.URL+"/console/signin/")
		p, use, err := r.Directory().RedeemCode(t.Context(), code)
		if !found || err != nil || p.ID != want.id || use != want.use {
			t.Errorf("%s: %v %v %v, %v", path, answer, p, use, err)
		}
	}
	r.call(400, "InvalidCode", operator, "POST", people+"/"+r.Operator().ClientID+"/invite", "")

	// A person holds roles as a user, and is one in the directory.
	assigned := r.call(201, "", operator, "PUT", "/providers/Microsoft.Authorization/roleAssignments/"+newID(t),
		roleOf(identity.VisageDataProtectionOfficer, id))
	if kind := assigned["properties"].(map[string]any)["principalType"]; kind != "User" {
		t.Errorf("a person is a %v", kind)
	}
	r.call(204, "", operator, "DELETE", one, "")
	r.call(404, "PrincipalNotFound", operator, "GET", one, "")
	if left := r.Directory().Assignments(""); len(left) != 3 { // the operator's own
		t.Errorf("%d role assignments are left", len(left))
	}
}

// TestNobodyBecomesOperatorByARole has an Owner, who gives and takes every other role, try it through the routes.
func TestNobodyBecomesOperatorByARole(t *testing.T) {
	r := realm{servertest.Start(t, server.Config{}), t}
	operator := r.Token(t, managementPlane)
	owner := r.somebody("owner", "", identity.Owner)(managementPlane)
	const roles = "/providers/Microsoft.Authorization/roleAssignments/"
	const principals = "/providers/Visage.Identity/servicePrincipals/"
	ownerID := ""
	for _, p := range r.Directory().Principals() {
		if p.Name == "owner" {
			ownerID = p.ID
		}
	}
	made := r.call(201, "", operator, "POST", people, `{"displayName":"Olga"}`)
	olga, _ := made["objectId"].(string)
	held := newID(t)
	r.call(201, "", operator, "PUT", roles+held, roleOf(identity.VisageOperator, olga))

	refused := func(method, path, body string) {
		t.Helper()
		r.call(403, "AuthorizationFailed", owner, method, path, body)
	}
	refused("PUT", roles+newID(t), roleOf(identity.VisageOperator, ownerID))
	refused("PUT", roles+held, roleOf(identity.VisageOperator, ownerID))
	refused("DELETE", roles+held, "")
	refused("PUT", groupPath+"/default"+roles+newID(t), roleOf(identity.VisageOperator, ownerID))
	refused("DELETE", people+"/"+olga, "")
	refused("PATCH", people+"/"+olga, `{"displayName":"x"}`)
	refused("POST", people+"/"+olga+"/invite", "")
	refused("POST", principals+olga+"/signInAddress", "")
	refused("POST", principals+r.Operator().ClientID+"/signInAddress", "")
	refused("DELETE", principals+olga, "")
	refused("PUT", principals+olga+"/federatedSubjects", `{"value":[]}`)
	refused("POST", principals+r.Operator().ClientID+"/addPassword", `{}`)
	refused("POST", "/providers/Visage.Operations/backup", "")
	if n := len(r.Directory().Assignments("")); n != 5 { // three of the operator, Owner, Visage Operator
		t.Errorf("%d role assignments", n)
	}

	// An application that an operator gives the role may do what Owner may not, and cannot delete the operator.
	deputy := r.somebody("deputy", "", identity.VisageOperator)(managementPlane)
	r.call(200, "", deputy, "POST", people+"/"+olga+"/invite", "")
	r.call(409, "PrincipalInUse", deputy, "DELETE", principals+r.Operator().ClientID, "")
	r.call(200, "", deputy, "DELETE", roles+held, "")
	r.call(403, "AuthorizationFailed", deputy, "POST", groupPath+"/default/listKeys", "")
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	given := 0
	for _, e := range entries(t, r.Dir()) {
		if e.Kind == audit.IdentityRole && e.Outcome == audit.Done &&
			e.Details[audit.DetailRole] == identity.VisageOperator {
			given++
		}
	}
	if given != 3 {
		t.Errorf("the log has %d changes of the role, want 3", given)
	}
}
