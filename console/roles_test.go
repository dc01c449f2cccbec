package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// removal finds the forms that remove role assignments, by the id of the assignment.
var removal = regexp.MustCompile(`name="assignment" value="([^"]+)"`)

// TestRoleAssignments assigns and removes roles on every kind of scope, as people who may and who may not.
func TestRoleAssignments(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	operator := s.Browser(t, "")
	owner, ownerID := visitorWith(t, s, "Olga", identity.Owner)
	_, adaID := visitorWith(t, s, "Ada")
	const path, everywhere = "/console/resources/default/access", "/console/access/roles"

	page := owner.Get(path)
	want(t, "page", page, 200, "Olga", "operator", "Subscription", "Remove it at its own scope", path+"/add")
	wantNot(t, "page of a resource", page, identity.VisageOperator, path+"/remove")
	for name, try := range map[string]struct {
		fields url.Values
		status int
		field  string
	}{
		"nobody":       {url.Values{"principal": {"<b>who</b>"}, "role": {identity.Reader}}, 404, "principal"},
		"no role":      {url.Values{"principal": {adaID}, "role": {""}}, 400, "role"},
		"unknown role": {url.Values{"principal": {adaID}, "role": {"'; drop"}}, 400, "role"},
	} {
		p := owner.Submit(path, path+"/add", try.fields)
		want(t, name, p, try.status, `id="e-`+try.field+`"`)
		wantNot(t, name, p, "<b>who")
	}
	if p := owner.Submit(path, path+"/add", url.Values{"principal": {"ADA"},
		"role": {identity.CognitiveUser}}); p.Status != 303 {
		t.Fatalf("add: %d %s", p.Status, p.Body)
	}
	want(t, "twice", owner.Submit(path, path+"/add", url.Values{"principal": {adaID},
		"role": {identity.CognitiveUser}}), http.StatusConflict, `id="e-role"`)
	page = owner.Get(path)
	want(t, "added", page, 200, "Ada", "Uses Face resources", path+"/remove")
	asked := owner.Get(path + "?who=" + adaID)
	want(t, "what Ada may do", asked, 200, "Ada may do this here", "Use persons and faces: yes", "Assign roles: no",
		"Delete the resource: no")
	want(t, "what nobody may do", owner.Get(path+"?who=%3Cb%3Enobody"), 200, `id="e-who"`)

	// Ada uses faces here. She sees no roles, and gives none.
	ada := s.Browser(t, adaID)
	want(t, "roles, for Ada", ada.Get(path), http.StatusForbidden)
	token, _ := ada.Get("/console").Form("/console/signout")
	want(t, "a role, by Ada", ada.Send(path+"/add", url.Values{"token": token["token"], "principal": {adaID},
		"role": {identity.Owner}}), http.StatusForbidden)
	id := removal.FindStringSubmatch(page.Body)
	want(t, "removal by Ada", ada.Send(path+"/remove", url.Values{"token": token["token"], "assignment": id[1:2]}),
		http.StatusForbidden)

	// Owner of this resource alone: gives roles here and nowhere else, and learns no names.
	_, ronID := visitorWith(t, s, "Ron")
	give(t, s, ronID, identity.Owner, accountScope(s, "default"))
	ron := s.Browser(t, ronID)
	page = ron.Get(path)
	want(t, "roles, for the owner of a resource", page, 200, adaID, "Ron", `type="text" id="f-principal"`)
	wantNot(t, "roles, for the owner of a resource", page, "Olga", "Ada<")
	want(t, "the subscription, for the owner of a resource", ron.Get(everywhere), http.StatusForbidden)
	token, _ = page.Form(path + "/add")
	want(t, "a role on the subscription, by them", ron.Send(everywhere+"/add", url.Values{"token": token["token"],
		"principal": {ronID}, "role": {identity.Owner}}), http.StatusForbidden)
	want(t, "by name", ron.Submit(path, path+"/add", url.Values{"principal": {"Ada"},
		"role": {identity.Reader}}), http.StatusNotFound, `id="e-principal"`, `value="Ada"`)
	removals := removal.FindAllStringSubmatch(operator.Get(everywhere).Body, -1)
	if len(removals) != 4 { // three of the operator, Owner
		t.Fatalf("%d removals on the subscription", len(removals))
	}
	for _, r := range removals {
		want(t, "removal of a role above", ron.Send(path+"/remove", url.Values{"token": token["token"],
			"assignment": r[1:2]}), http.StatusNotFound, "There is no role assignment")
	}

	// The operator's role: operators alone give it and take it, on the subscription.
	want(t, "roles for the operator", operator.Get(everywhere), 200, identity.VisageOperator)
	wantNot(t, "roles for an owner", owner.Get(everywhere), identity.VisageOperator)
	for scope, b := range map[string]*servertest.Browser{everywhere: owner, path: operator} {
		p := b.Submit(scope, scope+"/add", url.Values{"principal": {ownerID}, "role": {identity.VisageOperator}})
		if p.Status != http.StatusForbidden && p.Status != http.StatusBadRequest {
			t.Errorf("the operator's role on %s: %d", scope, p.Status)
		}
	}
	if p := operator.Submit(everywhere, everywhere+"/add", url.Values{"principal": {adaID},
		"role": {identity.VisageOperator}}); p.Status != 303 {
		t.Fatalf("the operator's role: %d %s", p.Status, p.Body)
	}
	want(t, "Ada as an operator", ada.Get("/console/access/sessions"), 200, "Olga")
	fields, _ := owner.Get(everywhere).Form(everywhere + "/remove")
	for _, r := range removal.FindAllStringSubmatch(operator.Get(everywhere).Body, -1) {
		if strings.Contains(owner.Get(everywhere).Body, r[1]) {
			continue
		}
		fields["assignment"] = r[1:2]
		want(t, "removal of the operator's role by an owner", owner.Send(everywhere+"/remove", fields), 403)
	}

	// Removal works at once; the form sent again says that it is gone.
	fields, _ = owner.Get(path).Form(path + "/remove")
	fields["assignment"] = id[1:2]
	if p := owner.Send(path+"/remove", fields); p.Status != 303 {
		t.Fatalf("remove: %d %s", p.Status, p.Body)
	}
	wantNot(t, "removed", owner.Get(path), id[1])
	again, _ := owner.Get(path).Form(path + "/add")
	again["assignment"] = id[1:2]
	want(t, "removed before", owner.Send(path+"/remove", again), http.StatusNotFound, "There is no role assignment")

	french(t, owner)
	want(t, "in French", owner.Get(path+"?who="+ownerID), 200, "Contrôle d’accès", "Propriétaire\u00a0: gère tout",
		"Attribuer des rôles")
}

// TestRolesNeedAFreshProof holds that no role is given, on any scope, without a proof of the person that is a few
// minutes old.
func TestRolesNeedAFreshProof(t *testing.T) {
	i := newIssuer(t)
	s := servertest.Start(t, issuing(t, i))
	b := stale(t, s, i)
	_, adaID := visitorWith(t, s, "Ada")
	for _, path := range []string{
		"/console/access/roles", "/console/access/group", "/console/resources/default/access",
	} {
		for _, role := range []string{identity.Reader, identity.Owner} {
			p := b.Submit(path, path+"/add", url.Values{"principal": {adaID}, "role": {role}})
			want(t, "add", p, http.StatusForbidden, "Prove again who you are")
		}
		want(t, path, b.Get(path+"?who="+adaID), http.StatusOK, "See the resource: no", "Assign roles: no")
	}
}

// TestRolesOnTheGroup assigns and removes a role on the resource group, which resources inherit.
func TestRolesOnTheGroup(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	const path = "/console/access/group"
	owner, _ := visitorWith(t, s, "Olga", identity.Owner)
	ada, adaID := visitorWith(t, s, "Ada")
	want(t, "the group, for Ada", ada.Get(path), http.StatusForbidden)
	want(t, "the group", owner.Get(path), 200, "Roles on the resource group", "Remove it at its own scope")
	if p := owner.Submit(path, path+"/add", url.Values{"principal": {adaID},
		"role": {identity.CognitiveContributor}}); p.Status != 303 {
		t.Fatalf("add: %d %s", p.Status, p.Body)
	}
	want(t, "what Ada may do", owner.Get(path+"?who="+adaID), 200, "Change the resource and its key: yes",
		"Change the key vault and its access policies: no")
	const resource = "/console/resources/default/access"
	page := owner.Get(resource)
	want(t, "inherited", page, 200, "Ada", "Resource group default")
	wantNot(t, "inherited", page, resource+"/remove")
	want(t, "the resource, for Ada", ada.Get("/console"), 200, "/console/resources/default")
	page = owner.Get(path)
	fields, _ := page.Form(path + "/remove")
	fields["assignment"] = removal.FindStringSubmatch(page.Body)[1:2]
	if p := owner.Send(path+"/remove", fields); p.Status != 303 {
		t.Fatalf("remove: %d %s", p.Status, p.Body)
	}
	wantNot(t, "removed", ada.Get("/console"), "/console/resources/default")
	french(t, owner)
	want(t, "in French", owner.Get(path), 200, "Rôles sur le groupe de ressources")
}

// TestRolesOnAVault has a vault of its own kind of questions.
func TestRolesOnAVault(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	o := s.Operator()
	const path = "/console/vaults/safe/access"
	b := s.Browser(t, "")
	want(t, "a vault that does not exist", b.Get(path), http.StatusNotFound)
	manage(t, s, http.MethodPut, "/subscriptions/"+o.SubscriptionID+
		"/resourceGroups/default/providers/Microsoft.KeyVault/vaults/safe", `{"location":"local","properties":
		{"tenantId":"`+o.TenantID+`","sku":{"family":"A","name":"standard"},"enableRbacAuthorization":true}}`, nil)
	_, id := visitorWith(t, s, "Vera")
	if p := b.Submit(path, path+"/add", url.Values{"principal": {id},
		"role": {identity.VaultCryptoUser}}); p.Status != 303 {
		t.Fatalf("add: %d %s", p.Status, p.Body)
	}
	want(t, "asked", b.Get(path+"?who="+id), 200, "Wrap with keys, where the vault uses roles: yes",
		"Delete the key vault: no", "Key Vault Crypto User")
}
