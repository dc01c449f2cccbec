package graphapi

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/identity"
)

// object is an object of the directory, by property name.
type object = map[string]any

const odataType = "@odata.type"

// collection is a set of objects with a path of its own.
type collection struct {
	name    string
	objects func(identity.Principal) []object // the objects of an identity
}

var (
	servicePrincipals = collection{"servicePrincipals", func(p identity.Principal) []object {
		if p.Kind == identity.Person {
			return nil
		}
		return []object{principalObject(p)}
	}}
	applications = collection{"applications", applicationObjects}
	users        = collection{"users", func(p identity.Principal) []object {
		if p.Kind != identity.Person {
			return nil
		}
		return []object{userObject(p)}
	}}
	groups = collection{"groups", func(identity.Principal) []object { return nil }}
	// An application here is its own service principal and has one id for both. In Graph they have two ids, and roles
	// name that of the service principal.
	directoryObjects = collection{"directoryObjects", func(p identity.Principal) []object {
		if p.Kind == identity.Person {
			o := userObject(p)
			o[odataType] = "#microsoft.graph.user"
			return []object{o}
		}
		o := principalObject(p)
		o[odataType] = "#microsoft.graph.servicePrincipal"
		return []object{o}
	}}
)

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func principalObject(p identity.Principal) object {
	kind, names, alternative := "Application", []string{p.ClientID}, []string{}
	if p.Kind != identity.Application {
		kind = "ManagedIdentity"
		alternative = []string{"isExplicit=" +
			map[bool]string{true: "True", false: "False"}[p.Kind == identity.UserAssigned], p.Resource}
	}
	return object{
		"id": p.ID, "deletedDateTime": nil, "accountEnabled": true, "alternativeNames": alternative,
		"appDisplayName": p.Name,
		"appId":          p.ClientID, "appOwnerOrganizationId": p.Tenant, "createdDateTime": stamp(p.Created),
		"displayName":           p.Name,
		"servicePrincipalNames": names, "servicePrincipalType": kind, "signInAudience": "AzureADMyOrg",
		"tags":     []string{},
		"appRoles": []any{}, "keyCredentials": []any{}, "passwordCredentials": []any{},
	}
}

// userObject is a person. Visage has no user names: the e-mail address stands in their place, or the id.
func userObject(p identity.Principal) object {
	var mail, language any
	name := p.ID
	if p.Email != "" {
		mail, name = p.Email, p.Email
	}
	if p.Language != "" {
		language = p.Language
	}
	return object{
		"id": p.ID, "deletedDateTime": nil, "accountEnabled": true, "createdDateTime": stamp(p.Created),
		"displayName": p.Name, "mail": mail, "userPrincipalName": name, "preferredLanguage": language,
		"userType": "Member", "givenName": nil, "surname": nil, "jobTitle": nil, "businessPhones": []string{},
		"mobilePhone": nil, "officeLocation": nil,
	}
}

func applicationObjects(p identity.Principal) []object {
	if p.Kind != identity.Application {
		return nil
	}
	secrets := []any{}
	for _, s := range p.Secrets {
		secrets = append(secrets, object{
			"keyId": s.ID, "startDateTime": stamp(s.Created), "endDateTime": stamp(s.Expires), "displayName": nil,
			"hint": nil, "secretText": nil,
		})
	}
	return []object{{
		"id": p.ID, "deletedDateTime": nil, "appId": p.ClientID, "createdDateTime": stamp(p.Created),
		"displayName":    p.Name,
		"identifierUris": []string{}, "publisherDomain": nil, "signInAudience": "AzureADMyOrg", "tags": []string{},
		"keyCredentials": []any{}, "passwordCredentials": secrets,
	}}
}

// selected returns an object with the properties of the request's $select.
func selected(r *api.Request, o object) (object, error) {
	text, given, err := r.Query("$select")
	if err != nil {
		return nil, err
	}
	chosen := object{}
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(text, ",") {
		wanted[strings.ToLower(strings.TrimSpace(name))] = true
	}
	for name, value := range o {
		if !given || text == "" || name == odataType || wanted[strings.ToLower(name)] {
			chosen[name] = value
		}
	}
	return chosen, nil
}

// page answers with a part of a list and a link to the rest.
func (p *plane) page(r *api.Request, name string, all []object) (any, error) {
	const most = 999
	top, from := most, 0
	for parameter, into := range map[string]*int{"$top": &top, "$skiptoken": &from} {
		text, given, err := r.Query(parameter)
		if err != nil {
			return nil, err
		}
		if !given {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || parameter == "$top" && (n < 1 || n > most) {
			return nil, visage.Refuse(visage.Invalid, "BadRequest",
				"The value of the query parameter %s is not valid: it is a whole number, for $top from 1 to %d.",
				parameter, most)
		}
		*into = n
	}
	answer := map[string]any{"@odata.context": p.Origin + "/v1.0/$metadata#" + name}
	from = min(from, len(all))
	to := min(from+top, len(all))
	value := []object{}
	for _, o := range all[from:to] {
		chosen, err := selected(r, o)
		if err != nil {
			return nil, err
		}
		value = append(value, chosen)
	}
	answer["value"] = value
	if to < len(all) {
		query := url.Values{"$skiptoken": {strconv.Itoa(to)}, "$top": {strconv.Itoa(top)}}
		for _, keep := range []string{"$filter", "$select"} {
			if text, given, _ := r.Query(keep); given {
				query.Set(keep, text)
			}
		}
		answer["@odata.nextLink"] = fmt.Sprintf("%s/v1.0/%s?%s", p.Origin, name, query.Encode())
	}
	return answer, nil
}
