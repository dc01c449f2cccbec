package prove_test

import (
	"context"
	"encoding/json"
	"net/http"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/hashivault"
)

const transitPlace = "hashivault://vault.example/transit"

// The ways to revoke a key of a transit engine, or the login of a resource.
const (
	transitRights     = "rights"     // the policy names the key no longer
	transitBare       = "bare"       // the same in other words, while the server still knows the token
	transitGone       = "gone"       // the key is deleted
	transitAnew       = "made anew"  // and made again under its name
	transitVersion    = "version"    // min_decryption_version is raised
	transitRole       = "role"       // the role of the login is deleted
	transitSubject    = "subject"    // the role is bound to another subject
	transitCiphertext = "ciphertext" // the server does not take what it has made
)

// transitSays are the words of Vault's core and of its transit engine, by the way and by what is asked; what is not
// listed is answered as before.
var transitSays = map[string]map[string]struct {
	status int
	errors []string
}{
	transitRights: {
		"keys":    {http.StatusForbidden, []string{"1 error occurred:\n\t* permission denied\n\n"}},
		"decrypt": {http.StatusForbidden, []string{"1 error occurred:\n\t* permission denied\n\n"}},
	},
	transitBare: {
		"keys":    {http.StatusForbidden, []string{"permission denied"}},
		"decrypt": {http.StatusForbidden, []string{"permission denied"}},
	},
	transitGone: {
		"keys":    {http.StatusNotFound, []string{}},
		"decrypt": {http.StatusBadRequest, []string{"encryption key not found"}},
	},
	transitAnew:       {"decrypt": {http.StatusBadRequest, []string{"cipher: message authentication failed"}}},
	transitCiphertext: {"decrypt": {http.StatusBadRequest, []string{"invalid ciphertext: could not decode base64"}}},
	transitVersion: {"decrypt": {http.StatusBadRequest,
		[]string{"ciphertext or signature version is disallowed by policy (too old)"}}},
	transitRole: {"login": {http.StatusBadRequest, []string{`role "visage" could not be found`}}},
	transitSubject: {"login": {http.StatusBadRequest,
		[]string{"error validating token: invalid subject (sub) claim"}}},
}

// answerTransit answers as the HTTP interface of Vault does.
func answerTransit(c *cloud, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	var asked struct{ Role, Plaintext, Ciphertext string }
	if r.Method == http.MethodPost && json.NewDecoder(r.Body).Decode(&asked) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	key, what := path.Base(r.URL.Path), path.Base(path.Dir(r.URL.Path))
	switch {
	case key == "login":
		key, what = strings.TrimPrefix(asked.Role, "visage-"), "login"
	case key == "lookup-self":
		key, what = "", "lookup-self"
	}
	if said, refused := transitSays[c.way(key)][what]; refused {
		w.WriteHeader(said.status)
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": said.errors}) // within this process
		return
	}
	const sealedAs = "vault:v1:"
	data := map[string]any{}
	answer := map[string]any{"request_id": "1", "data": data}
	switch what {
	case "login":
		answer["auth"] = map[string]any{"client_token": "a token"}
	case "keys":
		const made = 946684800 // it never changes
		latest := 1
		data["keys"] = map[string]any{"1": made}
		if c.way(key) == transitVersion {
			latest, data["min_decryption_version"] = 2, 2
			data["keys"] = map[string]any{"2": made}
		}
		data["name"], data["type"], data["latest_version"] = key, "aes256-gcm96", latest
	case "encrypt":
		data["ciphertext"], data["key_version"] = sealedAs+asked.Plaintext, 1
	case "decrypt":
		data["plaintext"] = strings.TrimPrefix(asked.Ciphertext, sealedAs)
	}
	_ = json.NewEncoder(w).Encode(answer) // within this process
}

// TestTimeToBlockInTransit revokes keys in a transit engine in each way.
func TestTimeToBlockInTransit(t *testing.T) {
	ways := []string{transitRights, transitBare, transitGone, transitAnew, transitVersion, transitRole, transitSubject,
		transitCiphertext}
	chance := chance(t)
	synctest.Test(t, func(t *testing.T) {
		cloud := newCloud(t, "vault.example", answerTransit)
		connect := func() (opener, error) {
			servers := hashivault.NewServers(hashivault.Config{Roots: cloud.roots, Dial: cloud.dial})
			return func(key visage.KeyRef, _ visage.PrincipalID) (keysource.Source, error) {
				return servers.Open(key, hashivault.JWT("jwt", "visage-"+key.Name,
					func(context.Context) (string, time.Time, error) { return "a.b.c", time.Time{}, nil }))
			}, nil
		}
		cloud.timeToBlock(t, chance, transitPlace, ways, connect)
	})
}
