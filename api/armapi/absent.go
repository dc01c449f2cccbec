package armapi

import (
	"net/http"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
)

// absence is a collection of Azure's providers that is always empty here. Clients read it before they do their work,
// and must not see a failure: the list is empty, an item is not found, deleting one succeeds, and creating one is
// refused with a sentence.
type absence struct {
	collection string   // its pattern
	item       string   // the wildcard of an item; empty: it has only a list
	writes     []string // the methods that create or change an item
	sentence   string   // why it is empty, and what to do instead
	below      []string // patterns below an item, which are not found
	unlisted   bool     // it has no list of all items
}

var (
	makes   = []string{http.MethodPut}
	changes = []string{http.MethodPut, http.MethodPatch}
)

// absences are, together with the lists below, the collections of the official specifications that this instance does
// not have. A test checks that every path of the specifications is here or served.
var absences = []absence{
	{collection: one + "/privateEndpointConnections", item: "{connection}", writes: makes,
		sentence: noPrivateEndpoints},
	{collection: oneVault + "/privateEndpointConnections", item: "{connection}", writes: makes,
		sentence: noPrivateEndpoints},
	{collection: one + "/deployments", item: "{deployment}", writes: makes,
		sentence: "A Face resource has no model deployments: it needs none."},
	{collection: one + "/commitmentPlans", item: "{plan}", writes: makes, sentence: noPlans},
	{
		collection: groupPlans, item: "{plan}", writes: changes, sentence: noPlans,
		below: []string{"/accountAssociations", "/accountAssociations/{association}"},
	},
	{collection: provider + "/commitmentPlans"},
	{collection: provider + "/locations/{location}/commitmentTiers"},
	{collection: provider + "/locations/{location}/models"},
	{collection: provider + "/locations/{location}/usages"},
	{collection: one + "/models"},
	{collection: one + "/usages"},
	{collection: one + "/privateLinkResources"},
	{collection: oneVault + "/privateLinkResources"},
	{collection: one + "/raiPolicies", item: "{policy}", writes: makes, sentence: noContent},
	{collection: one + "/raiBlocklists", item: "{blocklist}", writes: makes, sentence: noContent},
	{collection: one + "/defenderForAISettings", item: "{setting}", writes: changes, sentence: noContent},
	{collection: one + "/encryptionScopes", item: "{scope}", writes: makes,
		sentence: "A Face resource has no encryption scopes: set properties.encryption for all of its data."},
	{collection: one + "/projects", item: "{project}", writes: changes, sentence: "A Face resource has no projects."},
	{collection: one + "/connections", item: "{connection}", writes: changes,
		sentence: "A Face resource has no connections to other services."},
	{collection: one + "/networkSecurityPerimeterConfigurations", item: "{perimeter}"},
	{
		collection: oneVault + "/secrets", item: "{secret}", writes: changes,
		sentence: "The built-in vault stores keys only; secrets are not supported.",
	},
	{
		collection: groupHSMs, item: "{hsm}", writes: changes, sentence: noHSMs,
		below: []string{
			"/keys", "/keys/{key}", "/keys/{key}/versions", "/keys/{key}/versions/{version}",
			"/privateEndpointConnections",
			"/privateEndpointConnections/{connection}", "/privateLinkResources", "/regions",
		},
	},
	{collection: vaultProvider + "/managedHSMs"},
	{collection: vaultProvider + "/locations/{location}/operationResults", item: "{operation}", unlisted: true},
	{collection: oneSubscription + deployments, item: "{deployment}", writes: makes, sentence: noTemplates,
		below: []string{"/operations"}},
	{collection: oneGroup + deployments, item: "{deployment}", writes: makes, sentence: noTemplates,
		below: []string{"/operations"}},
	{collection: oneSubscription + authorization + "/policyDefinitions", item: "{policy}", writes: makes,
		sentence: noPolicies},
	{collection: oneSubscription + authorization + "/policySetDefinitions", item: "{policy}", writes: makes,
		sentence: noPolicies},
	{collection: oneSubscription + authorization + "/policyExemptions"},
	{collection: oneSubscription + authorization + "/roleAssignmentSchedules"},
	{collection: oneSubscription + authorization + "/roleAssignmentScheduleInstances"},
	{collection: oneSubscription + authorization + "/roleEligibilitySchedules"},
	{collection: oneSubscription + authorization + "/roleEligibilityScheduleInstances"},
	{collection: oneSubscription + authorization + "/classicAdministrators"},
	{collection: vaultProvider + "/deletedManagedHSMs"},
	{collection: vaultProvider + "/locations/{location}/deletedManagedHSMs", item: "{hsm}", unlisted: true,
		below: []string{"/purge"}},
}

const (
	groupPlans  = oneGroup + "/providers/Microsoft.CognitiveServices/commitmentPlans"
	deployments = "/providers/Microsoft.Resources/deployments"
	groupHSMs   = oneGroup + "/providers/Microsoft.KeyVault/managedHSMs"

	noPrivateEndpoints = "Private endpoints are not supported: set networkAcls, or listen on a private address."
	noPlans            = "Commitment plans do not exist here: the service has no billing."
	noContent          = "A Face resource generates no text: content filters do not apply to it."
	noTemplates        = "Template deployments are not supported: create each resource by PUT, with az or with " +
		"Terraform."
	noPolicies = "Policies are not supported: use role assignments."
	noLocks    = "Nothing can be locked here: give fewer people a role that may delete, and use purge " +
		"protection."
	noHSMs = "Managed HSMs are not supported: create a key vault, with sku premium for keys of the types RSA-HSM " +
		"and EC-HSM."
)

// scopedAbsences are the collections that every scope has in the contract, and none here.
func scopedAbsences() []absence {
	var all []absence
	for _, scope := range scopes {
		all = append(all,
			absence{collection: scope + authorization + "/denyAssignments", item: "{assignment}"},
			absence{collection: scope + authorization + "/locks", item: "{lock}", writes: makes, sentence: noLocks},
			absence{collection: scope + authorization + "/policyAssignments", item: "{assignment}", writes: makes,
				sentence: noPolicies},
		)
	}
	return all
}

// absentRoutes are the routes of the absences.
func (p *plane) absentRoutes(route routeMaker) []api.Route {
	var all []api.Route
	for _, a := range append(scopedAbsences(), absences...) {
		if !a.unlisted {
			all = append(
				all, route(http.MethodGet, a.collection, p.none,
					api.Doc{Summary: "List " + lastWord(a.collection) + ": there are none", Answer: nothing{}}),
			)
		}
		if a.item == "" {
			continue
		}
		item, what := a.collection+"/"+a.item, "one of "+lastWord(a.collection)+": there are none"
		all = append(all, route(http.MethodGet, item, p.notThere, api.Doc{Summary: "Get " + what}))
		for _, method := range a.writes {
			all = append(all, route(method, item, p.refuseAbsent(a.sentence), api.Doc{Summary: "Make " + what}))
		}
		if len(a.writes) > 0 && lastWord(a.collection) != "secrets" {
			all = append(
				all, route(http.MethodDelete, item, p.alreadyGone,
					api.Doc{Summary: "Delete " + what, Status: http.StatusNoContent}),
			)
		}
		for _, below := range a.below {
			all = append(all, p.belowAbsent(route, item+below, a.sentence)...)
		}
	}
	return append(all, route(http.MethodPost, vaultProvider+"/checkMhsmNameAvailability", p.noHSMName,
		api.Doc{Summary: "Ask whether a name of a managed HSM is free: there are none", Body: nameRequest{},
			Answer: nameAnswer{}}))
}

// belowAbsent are the operations below an item of an absence.
func (p *plane) belowAbsent(route routeMaker, pattern, sentence string) []api.Route {
	if lastWord(pattern) == "purge" {
		return []api.Route{route(http.MethodPost, pattern, p.notThere,
			api.Doc{Summary: "Purge what was deleted: it is not there"})}
	}
	what := strings.TrimSuffix(lastWord(pattern), "s") + " of what is not there"
	all := []api.Route{route(http.MethodGet, pattern, p.notThere, api.Doc{Summary: "Get a " + what})}
	if strings.HasSuffix(pattern, "}") && !strings.HasSuffix(pattern, "{version}") {
		all = append(all, route(http.MethodPut, pattern, p.refuseAbsent(sentence), api.Doc{Summary: "Make a " + what}))
		if !strings.HasSuffix(pattern, "{key}") {
			all = append(
				all, route(http.MethodDelete, pattern, p.alreadyGone,
					api.Doc{Summary: "Delete a " + what, Status: http.StatusNoContent}),
			)
		}
	}
	return all
}

// lastWord is the last literal of a pattern.
func lastWord(pattern string) string {
	segments := strings.Split(pattern, "/")
	for i := len(segments) - 1; i > 0; i-- {
		if !strings.HasPrefix(segments[i], "{") {
			return segments[i]
		}
	}
	return ""
}

// parent refuses a path below a resource that does not exist.
func (p *plane) parent(r *api.Request) error {
	pattern := r.Route().Pattern
	if strings.HasPrefix(pattern, one+"/") {
		_, err := p.Accounts.Get(r.Context(), r.Path("account"))
		return err
	}
	if strings.HasPrefix(pattern, oneVault+"/") {
		_, err := p.Vaults.Vault(r.Context(), r.Path("vault"))
		return notFound(r, err)
	}
	return nil
}

// none answers with an empty list.
func (p *plane) none(r *api.Request) (any, error) {
	if err := p.parent(r); err != nil {
		return nil, err
	}
	return nothing{[]struct{}{}}, nil
}

// notThere says that an item of an empty collection does not exist.
func (p *plane) notThere(r *api.Request) (any, error) {
	if err := p.parent(r); err != nil {
		return nil, err
	}
	path := pathOf(r)
	return nil, visage.Refuse(visage.NotFound, "ResourceNotFound", "The Resource '%s' was not found.",
		path[strings.LastIndex(path, "/providers/")+len("/providers/"):])
}

// refuseAbsent refuses to create an item of an absence.
func (p *plane) refuseAbsent(sentence string) handle {
	return func(r *api.Request) (any, error) {
		if err := p.parent(r); err != nil {
			return nil, err
		}
		return nil, visage.Refuse(visage.Invalid, "FeatureNotSupported", "%s", sentence)
	}
}

// alreadyGone answers the deletion of an item of an absence.
func (p *plane) alreadyGone(r *api.Request) (any, error) {
	if err := p.parent(r); err != nil {
		return nil, err
	}
	return api.Reply{Status: http.StatusNoContent}, nil
}

func (p *plane) noHSMName(r *api.Request) (any, error) {
	var want nameRequest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	return nameAnswer{Reason: "AccountNameInvalid", Message: noHSMs}, nil
}
