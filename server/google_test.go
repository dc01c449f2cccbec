package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/stores"
	"github.com/visage-face/visage/test/keystores"
)

// google is Google Cloud KMS, to which identities log in by workload identity federation.
type google struct{ *keystores.CloudKMS }

func (g google) describe(t *testing.T) stores.Store {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(g.CA), 0o600); err != nil {
		t.Fatal(err)
	}
	return stores.Store{Address: "gcpkms://" + keystores.CloudRing, Endpoint: "https://" + g.Address, CAFile: ca,
		Login: stores.Login{Method: "workload-identity", Provider: keystores.CloudProvider}}
}

func (g google) trust(_ *testing.T, of issuer) {
	g.Provider(map[string]any{"issuer": of.URL, "jwksUrl": of.Keys, "ca": of.CA})
}

func (g google) makeKey(_ *testing.T, name string) string {
	g.Key(name, "", nil)
	return name
}

func (g google) grant(_ *testing.T, who visage.PrincipalID, keys ...string) {
	for _, key := range keys {
		g.Permit(key, keystores.CloudRoles, keystores.CloudPrincipal(string(who)))
	}
}

func (g google) revoke(_ *testing.T, key string) { g.Permit(key, nil) }

func (g google) rotate(_ *testing.T, key string) string {
	g.RevokeTokens() // no verdict on the key: the next poll logs in again
	return g.Rotate(key)
}

func TestGoogle(t *testing.T) { walkArticle(t, google{keystores.StartCloudKMS(t)}) }

func TestGoogleOfOthers(t *testing.T) { walkOthers(t, google{keystores.StartCloudKMS(t)}) }

func TestGoogleTheft(t *testing.T) { walkTheft(t, google{keystores.StartCloudKMS(t)}) }

// TestGoogleRefusals holds which keys are refused, each in its own words.
func TestGoogleRefusals(t *testing.T) {
	store := google{keystores.StartCloudKMS(t)}
	s := newStoreWalk(t, store)
	for name, c := range map[string]struct {
		algorithm, version string
		with               map[string]any
		code, says         string
	}{
		"soon": {"", "", map[string]any{"destroyScheduledDuration": "86400s"}, "KeyVaultPurgeProtectionRequired",
			"--destroy-scheduled-duration"},
		"mac": {"", "", map[string]any{"purpose": "MAC", "versionTemplate": map[string]any{"algorithm": "HMAC_SHA256"}},
			"KeyVault", "primary version"},
		"sha1":       {"RSA_DECRYPT_OAEP_2048_SHA1", "1", nil, "KeyVaultKeyTypeNotSupported", "SHA-256"},
		"unpinned":   {"RSA_DECRYPT_OAEP_2048_SHA256", "", nil, "KeyVaultKeyTypeNotSupported", "name a version"},
		"unnumbered": {"", "v1", nil, "InvalidKeyVaultProperties", "number from 1"},
	} {
		store.Key(name, c.algorithm, c.with)
		store.grant(t, s.who, name)
		says := s.protect(t, "vip", name, c.version)
		if !strings.HasPrefix(says, c.code) || !strings.Contains(says, c.says) {
			t.Errorf("%s: %q", name, says)
		}
	}
	store.makeKey(t, "faces")
	store.grant(t, s.who, "faces")
	elsewhere := *s
	elsewhere.address = strings.Replace(s.address, "europe-west3", "us-east1", 1)
	if says := elsewhere.protect(t, "vip", "faces", ""); !strings.Contains(says, "has not configured") {
		t.Errorf("a location that is not configured: %q", says)
	}
	store.Fail("cloudkms", 403, "PERMISSION_DENIED", "This API method requires billing to be enabled.",
		"BILLING_DISABLED")
	if says := s.protect(t, "vip", "faces", ""); !strings.HasPrefix(says, "KeyVaultUnavailable") {
		t.Errorf("a project that is not paid for: %q", says)
	}
}
