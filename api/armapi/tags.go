package armapi

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/keyvault"
)

// tagsOf is the path of the tags of a scope.
const tagsOf = "/providers/Microsoft.Resources/tags/default"

// tagRoutes are the tags of all resources and of each one. The subscription and the group have none.
func (p *plane) tagRoutes(route routeMaker) []api.Route {
	all := []api.Route{
		route(http.MethodGet, oneSubscription+"/tagNames", p.listTagNames,
			api.Doc{Summary: "List the tags that resources have", Query: pageParams, Answer: tagNameList{}}),
	}
	for _, scope := range scopes {
		all = append(all,
			route(http.MethodGet, scope+tagsOf, p.getTags, api.Doc{Summary: "Get the tags", Answer: tagsWire{}}),
			route(http.MethodPut, scope+tagsOf, p.putTags,
				api.Doc{Summary: "Replace the tags", Body: tagsRequest{}, Answer: tagsWire{}}),
			route(http.MethodPatch, scope+tagsOf, p.patchTags,
				api.Doc{Summary: "Add, replace or remove tags", Body: tagsRequest{}, Answer: tagsWire{}}),
			route(http.MethodDelete, scope+tagsOf, p.deleteTags, api.Doc{Summary: "Remove all tags"}),
		)
	}
	return all
}

type tagsWire struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Properties tagsProperties `json:"properties"`
}

type tagsProperties struct {
	Tags map[string]string `json:"tags"`
}

type tagsRequest struct {
	Operation  string         `json:"operation" enum:"Merge Replace Delete"`
	Properties tagsProperties `json:"properties"`
}

type tagNameList struct{ armwire.Page[tagName] }

type tagName struct {
	ID     string     `json:"id"`
	Name   string     `json:"tagName"`
	Count  tagCount   `json:"count"`
	Values []tagValue `json:"values"`
}

type tagValue struct {
	ID    string   `json:"id"`
	Value string   `json:"tagValue"`
	Count tagCount `json:"count"`
}

type tagCount struct {
	Type  string `json:"type"`
	Value int    `json:"value"`
}

// total counts the resources with a tag.
const total = "Total"

func (p *plane) listTagNames(r *api.Request) (any, error) {
	items, err := p.resources(r)
	if err != nil {
		return nil, err
	}
	counts := map[string]map[string]int{} // by name in lower case, and value
	spelled := map[string]string{}
	for _, item := range items {
		for name, value := range item.Tags {
			key := strings.ToLower(name)
			if counts[key] == nil {
				counts[key], spelled[key] = map[string]int{}, name
			}
			counts[key][value]++
		}
	}
	var all []tagName
	for key, values := range counts {
		t := tagName{ID: "/subscriptions/" + p.Subscription + "/tagNames/" + spelled[key], Name: spelled[key],
			Count: tagCount{total, 0}}
		for _, value := range slices.Sorted(maps.Keys(values)) {
			t.Count.Value += values[value]
			t.Values = append(t.Values, tagValue{t.ID + "/tagValues/" + value, value, tagCount{total, values[value]}})
		}
		all = append(all, t)
	}
	return page(p, r, all, func(t tagName) string { return t.ID })
}

// changeTags applies change to the tags of the path's resource, and answers with the result; a nil change only reads
// them. change may be called more than once.
func (p *plane) changeTags(r *api.Request, change func(map[string]string) (map[string]string, error)) (any, error) {
	var tags map[string]string
	var err error
	switch pattern := r.Route().Pattern; {
	case strings.HasPrefix(pattern, one+"/"):
		tags, err = p.accountTags(r, change)
	case strings.HasPrefix(pattern, oneVault+"/"):
		tags, err = p.vaultTags(r, change)
		err = notFound(r, err)
	case change != nil:
		if tags, err = change(nil); err == nil && len(tags) > 0 {
			err = visage.Refuse(visage.Invalid, "FeatureNotSupported",
				"The subscription and the resource group cannot have tags: use tags of the resources.")
		}
	}
	if err != nil {
		return nil, err
	}
	if tags == nil {
		tags = map[string]string{}
	}
	return tagsWire{ID: pathOf(r), Name: "default", Type: "Microsoft.Resources/tags", Properties: tagsProperties{tags}},
		nil
}

func (p *plane) accountTags(
	r *api.Request, change func(map[string]string) (map[string]string, error),
) (map[string]string, error) {
	if change == nil {
		a, err := p.Accounts.Get(r.Context(), r.Path("account"))
		return a.Tags, err
	}
	name := r.Path("account")
	a, err := p.Accounts.Update(r.Context(), r.Caller(), name, func(a account.Account) (account.Change, error) {
		tags, err := change(maps.Clone(a.Tags))
		if tags == nil {
			tags = map[string]string{} // nil would mean no change
		}
		return account.Change{Tags: tags}, err
	})
	return a.Tags, err
}

func (p *plane) vaultTags(
	r *api.Request, change func(map[string]string) (map[string]string, error),
) (map[string]string, error) {
	if change == nil {
		v, err := p.Vaults.Vault(r.Context(), r.Path("vault"))
		return v.Tags, err
	}
	v, err := p.Vaults.UpdateVault(r.Context(), r.Caller(), r.Path("vault"),
		func(v keyvault.Vault) (keyvault.Vault, error) {
			var err error
			v.Tags, err = change(maps.Clone(v.Tags))
			return v, err
		})
	return v.Tags, err
}

func (p *plane) getTags(r *api.Request) (any, error) { return p.changeTags(r, nil) }

func (p *plane) putTags(r *api.Request) (any, error) {
	var want tagsRequest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	return p.changeTags(r, func(map[string]string) (map[string]string, error) { return want.Properties.Tags, nil })
}

func (p *plane) patchTags(r *api.Request) (any, error) {
	var want tagsRequest
	if err := read(r, &want); err != nil {
		return nil, err
	}
	given := want.Properties.Tags
	return p.changeTags(r, func(tags map[string]string) (map[string]string, error) {
		switch strings.ToLower(want.Operation) {
		case "replace":
			return given, nil
		case "merge":
			tags = without(tags, given, func(string, string) bool { return true })
			maps.Copy(tags, given)
			return tags, nil
		case "delete": // a given value must be the present one
			return without(tags, given, func(there, asked string) bool { return asked == "" || asked == there }), nil
		}
		return nil, visage.Refuse(visage.Invalid, "InvalidRequestContent",
			"The operation %.20q is not one of Merge, Replace, Delete.", want.Operation)
	})
}

// without returns tags without those that others names, in any case, if gone is true for the two values.
func without(tags, others map[string]string, gone func(value, other string) bool) map[string]string {
	kept := map[string]string{}
	for name, value := range tags {
		taken := false
		for other, asked := range others {
			taken = taken || strings.EqualFold(name, other) && gone(value, asked)
		}
		if !taken {
			kept[name] = value
		}
	}
	return kept
}

func (p *plane) deleteTags(r *api.Request) (any, error) {
	_, err := p.changeTags(r, func(map[string]string) (map[string]string, error) { return nil, nil })
	return nil, err
}
