//go:build linux

package replicas_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestAChangeOfKeysIsTakenOver kills the replica that moves a resource to another customer's key, when the change can
// no longer be undone. The other replica finishes it and serves the data.
func TestAChangeOfKeysIsTakenOver(t *testing.T) {
	t.Parallel() // most of the time it waits
	c := newCluster(t, 2, true, newDatabase(t))
	c.startAll()
	a, b := newSite(t, c.replicas[0]), newSite(t, c.replicas[1])
	a.vaultFor("safe")
	own := a.resourceUnder("vip")
	must(a.vault(t.Context(), "safe", "POST", "/keys/next/create", `{"kty":"RSA","key_size":2048}`)).want(t, 200)
	guests := func(s *client, verb, body string) answer {
		if body == "" {
			return must(s.face(t.Context(), verb, "facelists/guests", nil))
		}
		return must(s.face(t.Context(), verb, "facelists/guests", body))
	}
	soon(t, "a list", func() bool {
		return guests(own, "PUT", `{"name":"g","recognitionModel":"recognition_04"}`).status == http.StatusOK
	})

	state := func() string {
		return must(b.arm(t.Context(), "GET", account("vip"), nil)).text("properties.provisioningState")
	}
	const underWay = "Accepted"
	// A cannot store the epoch key that the change needs behind its point of no return, so that the change stays under
	// way for as long as A lives.
	if err := c.replicas[0].sealKeys(); err != nil {
		t.Fatal(err)
	}
	must(a.arm(t.Context(), "PATCH", account("vip"), `{"properties":{"encryption":{`+
		`"keySource":"Microsoft.KeyVault","keyVaultProperties":{"keyVaultUri":"https://safe.`+vaultDomain+
		`/","keyName":"next","keyVersion":""}}}}`)).want(t, 202)
	soon(t, "the step that stores an epoch key", func() bool {
		return strings.Contains(c.replicas[0].log.String(), `"step":"turned"`)
	})
	soon(t, "the change at the other replica", func() bool { return state() == underWay })
	c.replicas[0].kill()
	soon(t, "its end at the other replica", func() bool { return state() != underWay })

	now := must(b.arm(t.Context(), "GET", account("vip"), nil)).want(t, 200)
	const key = "next"
	if state, named := now.text("properties.provisioningState"),
		now.text("properties.encryption.keyVaultProperties.keyName"); state != "Succeeded" || named != key {
		t.Errorf("the state is %s, the key %s; want Succeeded and %s", state, named, key)
	}
	other := b.of(own.key)
	soon(t, "the data at the other replica", func() bool {
		return guests(other, "GET", "").text("name") == "g"
	})
	// The key that the resource names is the one that closes it.
	must(b.vault(t.Context(), "safe", "PATCH", "/keys/"+key+"/", `{"attributes":{"enabled":false}}`)).want(t, 200)
	soon(t, "the refusal by that key", func() bool { return guests(other, "GET", "").status == http.StatusForbidden })
}
