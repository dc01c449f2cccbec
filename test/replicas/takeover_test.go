//go:build linux

package replicas_test

import (
	"net/http"
	"syscall"
	"testing"
	"time"
)

// TestAChangeOfKeysIsTakenOver kills the replica that moves a resource to another customer's key. The other replica
// finishes the change, or undoes it, and serves the data.
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
	// A is stopped as soon as it has begun a change, and killed if that is under way for B too. Otherwise A has
	// finished, or had not stored anything yet: once more.
	killed := false
	for try := 0; try < 30 && !killed; try++ {
		must(a.arm(t.Context(), "PATCH", account("vip"), `{"properties":{"encryption":{`+
			`"keySource":"Microsoft.KeyVault","keyVaultProperties":{"keyVaultUri":"https://safe.`+vaultDomain+
			`/","keyName":"`+
			[]string{"next", "vip"}[try%2]+`","keyVersion":""}}}}`))
		if err := c.replicas[0].signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		for begun := time.Now(); time.Since(begun) < 2*time.Second && !killed; killed = state() == underWay {
			pause(t.Context(), 20*time.Millisecond)
		}
		if killed {
			c.replicas[0].kill()
			break
		}
		if err := c.replicas[0].signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		soon(t, "the end of a change", func() bool {
			now := must(a.arm(t.Context(), "GET", account("vip"), nil))
			return now.text("properties.provisioningState") == "Succeeded"
		})
	}
	if !killed {
		t.Fatal("no change of keys was met while it was under way")
	}
	soon(t, "its end at the other replica", func() bool { return state() != underWay })

	now := must(b.arm(t.Context(), "GET", account("vip"), nil)).want(t, 200)
	key := now.text("properties.encryption.keyVaultProperties.keyName")
	t.Logf("the state is %s, the key %s", now.text("properties.provisioningState"), key)
	other := b.of(own.key)
	soon(t, "the data at the other replica", func() bool {
		return guests(other, "GET", "").text("name") == "g"
	})
	// The key that the resource names is the one that closes it.
	must(b.vault(t.Context(), "safe", "PATCH", "/keys/"+key+"/", `{"attributes":{"enabled":false}}`)).want(t, 200)
	soon(t, "the refusal by that key", func() bool { return guests(other, "GET", "").status == http.StatusForbidden })
}
