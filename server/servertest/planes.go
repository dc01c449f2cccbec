package servertest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Manage sends a request of the operator to the management plane and returns its answer. path is below the
// subscription, such as /resourceGroups/default. It fails the test unless the request succeeds.
func (s *Server) Manage(t testing.TB, method, path string, body any) map[string]any {
	t.Helper()
	address := s.URL + "/subscriptions/" + s.Operator().SubscriptionID + path + "?api-version=2025-09-01"
	return s.send(t, "", s.Token(t, "https://management.azure.com"), method, address, body)
}

// CallVault sends a request of the operator to a vault, as Manage does; path is below the vault's keys.
func (s *Server) CallVault(t testing.TB, method, vault, path string, body any) map[string]any {
	t.Helper()
	host := "vault." + strings.TrimPrefix(s.URL, "https://")
	return s.send(t, vault+"."+host, s.Token(t, "https://"+host), method, s.URL+"/keys/"+path+"?api-version=7.4", body)
}

// send sends a request to a host; empty: that of the address.
func (s *Server) send(t testing.TB, host, token, method, address string, body any) map[string]any {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := s.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		t.Fatalf("%s %s: %d %s", method, address, res.StatusCode, answer)
	}
	said := map[string]any{}
	if len(answer) > 0 {
		if err := json.Unmarshal(answer, &said); err != nil {
			t.Fatalf("%s %s: %v in %s", method, address, err, answer)
		}
	}
	return said
}
