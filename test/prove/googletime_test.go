package prove_test

import (
	"context"
	"encoding/json"
	"hash/crc32"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/gcpkms"
)

const (
	googleRing     = "projects/faces-123/locations/europe-west3/keyRings/faces"
	googlePlace    = "gcpkms://" + googleRing
	googleProvider = "projects/1/locations/global/workloadIdentityPools/pool-1/providers/visage"
)

// googleWay is a way to revoke a key of Cloud KMS, or the login of a resource, and what the services say then.
type googleWay struct {
	status     int
	code, text string
	reason     string // of google.rpc.ErrorInfo
	state      string // of the version, which can be read; empty: nothing of the key can
	login      bool   // the security token service says it
}

const googleNotEnabled = "projects/faces-123/locations/europe-west3/keyRings/faces/cryptoKeys/k/cryptoKeyVersions/1 " +
	"is not enabled, current state is: "

var googleWays = map[string]googleWay{
	"rights": {status: 403, code: "PERMISSION_DENIED", reason: "IAM_PERMISSION_DENIED",
		text: "Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' denied on resource."},
	"perimeter": {status: 403, code: "PERMISSION_DENIED", reason: "SECURITY_POLICY_VIOLATED",
		text: "Request is prohibited by organization's policy."},
	"disabled late": {state: "DISABLED"}, // the service still opens for some time
	"gone":          {status: 404, code: "NOT_FOUND", text: "CryptoKey not found."},
	"disabled": {status: 400, code: "FAILED_PRECONDITION",
		text: googleNotEnabled + "DISABLED.", state: "DISABLED"},
	"destruction": {status: 400, code: "FAILED_PRECONDITION", text: googleNotEnabled + "DESTROY_SCHEDULED.",
		state: "DESTROY_SCHEDULED"},
	"condition": {status: 400, code: "unauthorized_client", login: true,
		text: "The given credential is rejected by the attribute condition."},
	"provider": {status: 400, code: "invalid_target", login: true,
		text: "The target service indicated by the \"audience\" parameters is invalid. This might either be because " +
			"the pool or provider is disabled or deleted or because it doesn't exist."},
}

// answerGoogle answers as Cloud KMS and the security token service do, over REST. The tokens name the key.
func answerGoogle(c *cloud, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	say := func(status int, document map[string]any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(document) // within this process
	}
	if r.Host == "sts.googleapis.com" {
		token := r.PostFormValue("subject_token")
		if way := googleWays[c.way(token)]; way.login {
			say(way.status, map[string]any{"error": way.code, "error_description": way.text})
			return
		}
		say(http.StatusOK, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3599})
		return
	}
	key, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/"+googleRing+"/cryptoKeys/"), "/")
	key, verb, _ := strings.Cut(key, ":")
	if _, of, found := strings.Cut(rest, ":"); found {
		verb = of
	}
	way, reads := googleWays[c.way(key)], verb == ""
	if way.status != 0 && !way.login && (way.state == "" || !reads) {
		refusal := map[string]any{"code": way.status, "status": way.code, "message": way.text}
		if way.reason != "" {
			refusal["details"] = []map[string]any{{"@type": "type.googleapis.com/google.rpc.ErrorInfo",
				"reason": way.reason, "domain": "googleapis.com"}}
		}
		say(way.status, map[string]any{"error": refusal})
		return
	}
	var asked struct{ Plaintext, Ciphertext []byte }
	if !reads && json.NewDecoder(r.Body).Decode(&asked) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	name := googleRing + "/cryptoKeys/" + key
	version := map[string]any{"name": name + "/cryptoKeyVersions/1", "state": "ENABLED", "protectionLevel": "HSM",
		"algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION"}
	if way.state != "" {
		version["state"] = way.state
	}
	switch {
	case verb == "encrypt":
		made := append([]byte(key), asked.Plaintext...)
		say(http.StatusOK, map[string]any{"name": version["name"], "ciphertext": made, "ciphertextCrc32c": crc(made),
			"verifiedPlaintextCrc32c": true, "verifiedAdditionalAuthenticatedDataCrc32c": true})
	case verb == "decrypt":
		opened := asked.Ciphertext[len(key):]
		say(http.StatusOK, map[string]any{"plaintext": opened, "plaintextCrc32c": crc(opened)})
	case rest != "":
		say(http.StatusOK, version)
	default:
		say(http.StatusOK, map[string]any{"name": name, "purpose": "ENCRYPT_DECRYPT", "primary": version,
			"destroyScheduledDuration": "2592000s", "versionTemplate": map[string]any{"protectionLevel": "HSM",
				"algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION"}})
	}
}

func crc(data []byte) string {
	return strconv.FormatUint(uint64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))), 10)
}

// TestTimeToBlockInGoogle revokes keys in Google's cloud in each way, also in the one in which the service goes on to
// use the key.
func TestTimeToBlockInGoogle(t *testing.T) {
	chance := chance(t)
	synctest.Test(t, func(t *testing.T) {
		cloud := newCloud(t, "*.googleapis.com", answerGoogle)
		connect := func() (opener, error) {
			services, err := gcpkms.NewServices(gcpkms.Config{Roots: cloud.roots, Dial: cloud.dial})
			if err != nil {
				return nil, err
			}
			return func(key visage.KeyRef, _ visage.PrincipalID) (keysource.Source, error) {
				return services.Open(key, gcpkms.WorkloadIdentity(googleProvider, "",
					func(context.Context) (string, time.Time, error) { return key.Name, time.Time{}, nil }))
			}, nil
		}
		cloud.timeToBlock(t, chance, googlePlace, slices.Sorted(maps.Keys(googleWays)), connect)
	})
}
