package gcpkms_test

import (
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/gcpkms"
)

const ring = "gcpkms://projects/visage-test/locations/europe-west3/keyRings/faces"

// TestParseKey reads references in every spelling, and returns the one that is stored.
func TestParseKey(t *testing.T) {
	for in, want := range map[[3]string]string{
		{ring, "vip", ""}:                                       ring + "/keys/vip",
		{"GcpKms" + ring[6:] + "/", "vip", "3"}:                 ring + "/keys/vip/3",
		{ring + "/cryptoKeys/Vip_1-a", "", ""}:                  ring + "/keys/Vip_1-a",
		{ring + "/cryptoKeys/vip/cryptoKeyVersions/12", "", ""}: ring + "/keys/vip/12",
		{ring + "/keys/vip", "", ""}:                            ring + "/keys/vip",
		{ring + "/keys/vip/12", "", "12"}:                       ring + "/keys/vip/12",
		{"gcpkms://projects/123456789012/locations/global/keyRings/r", "k", ""}: "gcpkms://projects/" +
			"123456789012/locations/global/keyRings/r/keys/k",
		{"gcpkms://projects/example.com:visage-test/locations/us-east1/keyRings/r", "", ""}: "",
		{"gcpkms://projects/example.com:visage-test/locations/us-east1/keyRings/r", "k", ""}: "gcpkms://projects/" +
			"example.com:visage-test/locations/us-east1/keyRings/r/keys/k",
	} {
		key, err := gcpkms.ParseKey(in[0], in[1], in[2])
		if want == "" {
			if err == nil {
				t.Errorf("%q: got %s", in, key)
			}
			continue
		}
		if err != nil || key.String() != want {
			t.Errorf("%q: got %s, %v; want %s", in, key, err, want)
			continue
		}
		if again, err := gcpkms.ParseKey(key.String(), "", ""); err != nil || again != key || again.Check() != nil {
			t.Errorf("%s: read again it is %s, %v", key, again, err)
		}
	}
	const at = "gcpkms://projects/"
	for in, says := range map[[3]string]string{
		{"https://cloudkms.googleapis.com/v1/projects/p", "k", ""}:             "not the address",
		{"gcpkms:projects/visage-test/locations/global/keyRings/r", "k", ""}:   "not the address",
		{at + "visage-test/locations/global", "k", ""}:                         "not the address",
		{at + "visage-test/regions/global/keyRings/r", "k", ""}:                "not the address",
		{at + "visage-test/locations/global/keyRings/r/cryptoKeys/k", "k", ""}: "not the address",
		{ring, "", ""}: "names no key",
		{ring + "/cryptoKeys/k/cryptoKeyVersions", "", ""}:                                 "names no key",
		{ring + "/cryptoKeys/k/cryptoKeyVersions/1", "", "2"}:                              "different versions",
		{at + "Visage/locations/global/keyRings/r", "k", ""}:                               "number of a project",
		{at + "../locations/global/keyRings/r", "k", ""}:                                   "number of a project",
		{at + "visage-test/locations/Global/keyRings/r", "k", ""}:                          "not a location",
		{at + "visage-test/locations/global/keyRings/r?x=1", "k", ""}:                      "name of a key ring",
		{at + "visage-test/locations/global/keyRings/" + strings.Repeat("r", 64), "k", ""}: "name of a key ring",
		{ring, "a/b", ""}:      "name of a key",
		{ring, "a%2Fb", ""}:    "name of a key",
		{ring, "k", "0"}:       "number from 1",
		{ring, "k", "latest"}:  "number from 1",
		{ring + "#x", "k", ""}: "name of a key ring",
	} {
		key, err := gcpkms.ParseKey(in[0], in[1], in[2])
		if err == nil || !strings.Contains(err.Error(), says) || key != (visage.KeyRef{}) {
			t.Errorf("%q: got %s, %v; want %q", in, key, err, says)
		}
	}
}

// TestConfig refuses ways to the services that would send tokens elsewhere or in the clear.
func TestConfig(t *testing.T) {
	for endpoint, good := range map[string]bool{
		"": true, "https://{service}.googleapis.com": true, "https://{service}-faces.p.googleapis.com": true,
		"https://127.0.0.1:8443": true, "http://{service}.googleapis.com": false, "https://": false,
		"https://user@host": false, "https://host/path": false, "https://host?x": false, "{service}": false,
	} {
		if _, err := gcpkms.NewServices(gcpkms.Config{Endpoint: endpoint}); (err == nil) != good {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
	for endpoint, want := range map[string]string{
		"": "cloudkms.googleapis.com:443", "https://{service}-x.p.googleapis.com": "cloudkms-x.p.googleapis.com:443",
		"https://[::1]:8443": "[::1]:8443",
	} {
		if got := gcpkms.Listener(endpoint); got != want {
			t.Errorf("%q: the listener is %s, want %s", endpoint, got, want)
		}
	}
	for provider, good := range map[string]bool{
		"projects/123456789012/locations/global/workloadIdentityPools/visage/providers/visage":     true,
		"projects/visage-test/locations/global/workloadIdentityPools/visage/providers/visage":      false,
		"//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/pr": false,
	} {
		if err := gcpkms.CheckProvider(provider); (err == nil) != good {
			t.Errorf("%q: %v", provider, err)
		}
	}
	for account, good := range map[string]bool{
		"visage@visage-test.iam.gserviceaccount.com": true, "visage@example.com": false,
		"a/b@p.gserviceaccount.com": false,
	} {
		if err := gcpkms.CheckServiceAccount(account); (err == nil) != good {
			t.Errorf("%q: %v", account, err)
		}
	}
}
