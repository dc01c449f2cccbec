package armapi_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestApiVersionIsOne checks that any version of the contract is accepted, and no other text: the version is repeated
// in addresses.
func TestApiVersionIsOne(t *testing.T) {
	m := startApproved(t)
	path := m.accounts("")
	path = path[:strings.LastIndexByte(path, '?')]
	for _, version := range []string{"2017-04-18", "2025-09-01", "2024-04-01-preview"} {
		m.want(200, "", http.MethodGet, path+"?api-version="+version, "")
	}
	for _, version := range []string{"latest", "2025-9-1", "2025-09-01%26x%3dy", "2025-09-01-"} {
		m.want(400, "InvalidApiVersionParameter", http.MethodGet, path+"?api-version="+version, "")
	}
	m.want(400, "MissingApiVersionParameter", http.MethodGet, path, "")
}
