package server_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/server"
)

// TestLegalHoldOverTheWire holds a group of the default resource, whose deletion is then refused until its key is
// revoked: without the key the holds cannot be read, and the resource can be deleted.
func TestLegalHoldOverTheWire(t *testing.T) {
	o := newOfficer(t, server.Config{Rate: 1000})
	const account = "/subscriptions/%s/resourceGroups/default/providers/Microsoft.CognitiveServices/accounts/default%s?api-version=2025-09-01"
	ask := func(method, what, body string) int {
		t.Helper()
		return arm(t, o.Server, method, fmt.Sprintf(account, o.Operator().SubscriptionID, what), body)
	}
	if status, body, _ := o.face(t, http.MethodPut, "/face/v1.2/persongroups/g",
		`{"name":"g"}`); status != http.StatusOK {
		t.Fatalf("make a group: %d %s", status, body)
	}
	key := o.key(t, "k1")
	unversioned := key
	unversioned.Version = ""
	o.enable(t, unversioned)
	o.until(t, "the active key", func(s custody.Status) bool { return s.Condition == custody.Active })
	for _, step := range []struct {
		method, what, body string
		want               int
	}{
		{http.MethodGet, "/retention", "", http.StatusOK},
		{http.MethodPut, "/retention", `{"days":30,"since":"lastMatch"}`, http.StatusOK},
		{http.MethodPut, "/retention", `{"kind":"persongroup","id":"g","days":0}`, http.StatusOK},
		{http.MethodPut, "/retention", `{"kind":"persongroup","id":"nobody","days":1}`, http.StatusNotFound},
		{http.MethodPut, "/retention", `{"days":-1}`, http.StatusBadRequest},
		{http.MethodPut, "/retention", `{"days":1,"since":"birth"}`, http.StatusBadRequest},
		{http.MethodPut, "/retention", `{"days":"many"}`, http.StatusBadRequest},
		{http.MethodPost, "/expire", `{"dryRun":true}`, http.StatusOK},
		{http.MethodPost, "/placeHold", `{"kind":"persongroup","id":"g"}`, http.StatusBadRequest},
		{http.MethodPost, "/placeHold", `{"kind":"crowd","id":"g","reason":"x"}`, http.StatusBadRequest},
		{http.MethodPost, "/placeHold", `{"item":"g","reason":"x"}`, http.StatusBadRequest},
		{http.MethodPost, "/placeHold", "{\"reason\":\"\\u001b[2J\"}", http.StatusBadRequest},
		{http.MethodPost, "/placeHold", `{"kind":"persongroup","id":"g","reason":"case 4711"}`, http.StatusOK},
		{http.MethodDelete, "", "", http.StatusConflict},
		{http.MethodPost, "/releaseHold", `{}`, http.StatusNotFound},
	} {
		if status := ask(step.method, step.what, step.body); status != step.want {
			t.Errorf("%s %s %s: %d, want %d", step.method, step.what, step.body, status, step.want)
		}
	}
	o.allow(t, key, false)
	o.until(t, "the lock", func(s custody.Status) bool { return s.Condition == custody.Revoked })
	if status := ask(http.MethodGet, "/retention", ""); status != http.StatusForbidden {
		t.Errorf("retention of a locked resource: %d", status)
	}
	if status := ask(http.MethodDelete, "", ""); status != http.StatusOK && status != http.StatusAccepted {
		t.Errorf("delete a locked resource: %d", status)
	}
}
