package armapi_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"
)

// TestTagsApart changes the tags of resources separately, as az tag does.
func TestTagsApart(t *testing.T) {
	m := start(t)
	m.vault("safe1", "local", "", "", "")
	account := strings.TrimSuffix(m.accounts("/default"), "?api-version=2025-09-01")
	vault := m.subscription("/resourceGroups/default/providers/Microsoft.KeyVault/vaults/safe1")
	const tags, version = "/providers/Microsoft.Resources/tags/default", "?api-version=2021-04-01"
	for _, scope := range []string{account, vault} {
		for _, c := range []struct {
			method, body string
			want         map[string]any
		}{
			{"PUT", `{"properties":{"tags":{"a":"1","b":"2"}}}`, map[string]any{"a": "1", "b": "2"}},
			{"PATCH", `{"operation":"Merge","properties":{"tags":{"B":"3","c":"4"}}}`,
				map[string]any{"a": "1", "B": "3", "c": "4"}},
			{"PATCH", `{"operation":"delete","properties":{"tags":{"A":"1","c":"other"}}}`,
				map[string]any{"B": "3", "c": "4"}},
			{"PATCH", `{"operation":"Replace","properties":{"tags":{"x":"y"}}}`, map[string]any{"x": "y"}},
			{"GET", "", map[string]any{"x": "y"}},
		} {
			answer := m.want(200, "", c.method, scope+tags+version, c.body)
			if got, _ := at(answer, "properties.tags").(map[string]any); !maps.Equal(got, c.want) ||
				at(answer, "name") != "default" {
				t.Errorf("%s %s %s: %v, want %v", c.method, scope, c.body, answer, c.want)
			}
		}
		m.want(400, "InvalidRequestContent", http.MethodPatch, scope+tags+version,
			`{"operation":"Shuffle","properties":{"tags":{}}}`)
	}
	all := m.want(200, "", http.MethodGet, m.subscription("/tagNames"+version), "")
	if first := at(all, "value").([]any)[0].(map[string]any); names(all, "tagName") != "x" ||
		at(first, "count.value") != 2.0 {
		t.Errorf("names of tags: %v", all)
	}
	for _, scope := range []string{account, vault} {
		m.want(200, "", http.MethodDelete, scope+tags+version, "")
		if answer := m.want(200, "", http.MethodGet, scope+"?api-version=2022-07-01",
			""); len(at(answer, "tags").(map[string]any)) != 0 {
			t.Errorf("after their removal: %v", answer)
		}
	}
	for _, scope := range []string{m.subscription(""), m.subscription("/resourceGroups/default")} {
		m.want(200, "", http.MethodGet, scope+tags+version, "")
		m.want(400, "FeatureNotSupported", http.MethodPut, scope+tags+version, `{"properties":{"tags":{"a":"1"}}}`)
	}
	m.want(404, "ResourceNotFound", http.MethodGet, strings.Replace(vault, "safe1", "nobody", 1)+tags+version, "")
}
