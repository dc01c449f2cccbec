package armapi

import (
	"encoding/json"
	"testing"

	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// FuzzRequest checks that no body leads to names that it does not contain, or to a key source other than the two known
// ones.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"kind":"Face","location":"West US 2","sku":{"name":"E0"},"tags":{"a":"b"}}`,
		`{"identity":{"type":"SystemAssigned, UserAssigned","userAssignedIdentities":{"/a":{},"/b":null}}}`,
		`{"Properties":{"ENCRYPTION":{"keySource":"microsoft.keyvault","keyVaultProperties":{"keyName":"k","keyVaultUri":"https://v/"}}}}`,
		`{"properties":{"encryption":{"keySource":"Microsoft.CognitiveServices"},"restore":true,"disableLocalAuth":null}}`,
		`{"properties":{"networkAcls":{"defaultAction":"deny"}}}`, `{"properties":null}`, `[]`, `{`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var q armwire.AccountRequest
		if json.Unmarshal(body, &q) != nil {
			return
		}
		if q.Identity != nil {
			now := account.Identity{Users: map[string]account.Managed{"/a": {}}}
			spec, err := identitySpecOf(q.Identity, now)
			if err != nil && (spec.System || spec.Users != nil) {
				t.Errorf("%s: refused, but got %+v", body, spec)
			}
			for _, path := range spec.Users {
				if _, given := q.Identity.Users[path]; !given && path != "/a" {
					t.Errorf("%s: the body does not contain %q", body, path)
				}
			}
		}
		p, err := protectionOf(q.Properties.Encryption)
		if err == nil && q.Properties.Encryption != nil && p == nil || err != nil && p != nil {
			t.Errorf("%s: %+v, %v", body, p, err)
		}
		_ = checkProperties(q.Properties) // a refusal or none, but no panic
	})
}
