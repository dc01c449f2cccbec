package faceapi_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/visage-face/visage/sealed"
)

// TestAuthorisation tries every route with every kind of key. The routes come from the table, so that a new one is
// included.
func TestAuthorisation(t *testing.T) {
	r := newFaceServer(t)
	r.keys.rotate("alice2")
	for _, route := range r.plane.Routes {
		path := route.Pattern
		for name, value := range map[string]string{
			"faceListId": "x", "largeFaceListId": "x", "personGroupId": "x", "largePersonGroupId": "x",
			"personId":        nobody,
			"persistedFaceId": nobody, "sessionId": nobody, "sessionImageId": nobody,
		} {
			path = strings.ReplaceAll(path, "{"+name+"}", value)
		}
		if strings.Contains(path, "{") {
			t.Fatalf("%s: the test has no value for a segment", route.Label())
		}
		const host = "alice.face.example"
		for _, row := range []struct {
			name, key, host string
			in              bool
		}{
			{"no key", "-", "", false},
			{"wrong key", "wrong", "", false},
			{"key rotated away", "alice2", "", false},
			{"key of another resource than the host's", "bob1", host, false},
			{"right key", "alice1", "", true},
			{"right key at the resource's host", "alice1", host, true},
		} {
			t.Run(route.Label()+" "+row.name, func(t *testing.T) {
				a := r.do(t, call{method: route.Method, path: path, key: row.key, host: row.host, json: `{`})
				if in := a.status != http.StatusUnauthorized; in != row.in {
					t.Errorf("got %d %s", a.status, a.body)
				}
				if !row.in && a.header.Get("x-ms-error-code") != "401" {
					t.Errorf("got code %s, want 401", a.header.Get("x-ms-error-code"))
				}
			})
		}
	}
}

func TestKeysDisabled(t *testing.T) {
	r := newFaceServer(t)
	r.do(t, call{method: "GET", path: "/face/v1.2/facelists", key: "disabled"}).
		want(t, 403, "AuthenticationTypeDisabled")
}

// TestResourcesAreStrangers uses the same ids in two resources: neither has access to the data of the other.
func TestResourcesAreStrangers(t *testing.T) {
	r := newFaceServer(t)
	base := versions[1]
	r.put(t, base+"/persongroups/g", object{"name": "alice's"})
	person := r.enrol(t, base+"/persongroups/g", "Ann", "ann")
	face := r.detect(t, base, "ann")[0]
	as := func(c call) reply { c.key = "bob1"; return r.do(t, c) }
	as(call{method: "GET", path: base + "/persongroups/g"}).want(t, 404, "PersonGroupNotFound")
	wantBody(t, as(call{method: "GET", path: base + "/persongroups"}), `[]`)
	as(call{method: "PUT", path: base + "/persongroups/g", json: object{"name": "bob's"}}).want(t, 200, "")
	as(call{method: "GET", path: base + "/persongroups/g/persons/" + person}).want(t, 404, "PersonNotFound")
	as(call{method: "POST", path: base + "/verify", json: object{"faceId1": face, "faceId2": face}}).
		want(t, 404, "FaceNotFound")
	as(call{method: "POST", path: base + "/findsimilars", json: object{"faceId": face, "faceIds": []string{face}}}).
		want(t, 400, "FaceNotFound")
	as(call{method: "POST", path: base + "/group", json: object{"faceIds": []string{face, face}}}).
		want(t, 400, "FaceNotFound")
	as(call{method: "DELETE", path: base + "/persongroups/g"}).want(t, 200, "")
	if a := r.get(t, base+"/persongroups/g"); !strings.Contains(a.body, "alice's") {
		t.Errorf("got %s", a.body)
	}
}

func TestRateOfTheTierBinds(t *testing.T) {
	r := newFaceServer(t, tierRates)
	for i := 0; ; i++ {
		a := r.do(t, call{method: "GET", path: "/face/v1.2/facelists", key: "bob1"}) // F0: 20 a minute
		if a.status == http.StatusOK && i < 30 {
			continue
		}
		a.want(t, 429, "429")
		if i != 20 || a.header.Get("Retry-After") == "" || a.header.Get("Retry-After") == "0" {
			t.Errorf("refused after %d, Retry-After %q; want 20, at least 1", i, a.header.Get("Retry-After"))
		}
		break
	}
	r.do(t, call{method: "GET", path: "/face/v1.2/facelists", key: "alice1"}).want(t, 200, "")
}

// TestRevokedKeyBlocksOneResource locks the data of one resource: every operation on it is refused, and other resources
// are not affected.
func TestRevokedKeyBlocksOneResource(t *testing.T) {
	for _, base := range versions {
		r := newFaceServer(t)
		group := base + "/persongroups/g"
		r.put(t, group, object{"name": "g"})
		r.enrol(t, group, "Ann", "ann")
		r.train(t, group)
		r.put(t, base+"/facelists/l", object{"name": "l"})
		r.addFace(t, base+"/facelists/l/persistedfaces", "ann")
		face := r.detect(t, base, "ann")[0]
		calls := []call{
			{method: "POST", path: base + "/detect", image: "ann"},
			{method: "POST", path: base + "/verify", json: object{"faceId1": face, "faceId2": face}},
			{method: "POST", path: base + "/identify", json: object{"faceIds": []string{face}, "personGroupId": "g"}},
			{method: "POST", path: base + "/findsimilars", json: object{"faceId": face, "faceListId": "l"}},
			{method: "POST", path: base + "/group", json: object{"faceIds": []string{face, face}}},
			{method: "GET", path: group},
			{method: "GET", path: base + "/persongroups"},
			{method: "GET", path: group + "/persons"},
			{method: "GET", path: group + "/training"},
			{method: "PATCH", path: group, json: object{"name": "h"}},
			{method: "POST", path: group + "/persons", json: object{"name": "Ben"}},
			{method: "POST", path: base + "/facelists/l/persistedfaces", image: "ben"},
			{method: "PUT", path: base + "/largefacelists/l", json: object{"name": "l"}},
			{method: "POST", path: group + "/train"},
			{method: "DELETE", path: base + "/facelists/l"},
		}
		bundle := r.store.Bundle(sealed.SpaceID(alice.ID))
		bundle.Lock(errors.New("the customer's key refuses"))
		for _, c := range calls {
			r.do(t, c).want(t, 403, "EncryptionKeyRevoked")
		}
		r.do(t, call{method: "PUT", path: group, json: object{"name": "bob's"}, key: "bob1"}).want(t, 200, "")
		if err := bundle.Load(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if a := r.get(t, group); !strings.Contains(a.body, `"name":"g"`) {
			t.Errorf("after the key came back: got %s", a.body)
		}
	}
}

// TestNothingOfCustomersIsLogged uses canaries as all names and data of customers, and searches the log for them.
func TestNothingOfCustomersIsLogged(t *testing.T) {
	r := newFaceServer(t)
	for _, base := range versions {
		group := base + "/persongroups/canary"
		r.put(t, group, object{"name": "canary", "userData": "canary"})
		r.enrol(t, group, "canary", "canary")
		r.do(t, call{method: "POST", path: group + "/persons", json: `{"canary":1}`, key: "canary"}).want(t, 401, "401")
		r.do(t, call{method: "GET", path: base + "/persongroups/none?start=canary&top=x", key: "alice1"})
		r.do(t, call{method: "GET", path: base + "/canary"}).want(t, 404, "404")
		r.do(t, call{method: "DELETE", path: group}).want(t, 200, "")
	}
	if log := r.log.String(); strings.Contains(log, "canary") || strings.Contains(log, "alice1") ||
		!strings.Contains(log, "request_id") {
		t.Errorf("the log:\n%s", log)
	}
}
