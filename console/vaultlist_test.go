package console_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/visage-face/visage/identity"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// BenchmarkVaults lists a page of 1,000 vaults: as somebody who may see all, one who may use some, and one who may see
// none.
func BenchmarkVaults(b *testing.B) {
	s := servertest.Start(b, server.Config{})
	const vaults = "/resourceGroups/default/providers/Microsoft.KeyVault/vaults/"
	for i := range 1000 {
		s.Manage(b, http.MethodPut, fmt.Sprintf("%svault-%04d", vaults, i), map[string]any{
			"location": "local", "properties": map[string]any{
				"tenantId": s.Operator().TenantID, "sku": map[string]any{"family": "A", "name": "standard"},
				"enableRbacAuthorization": i%2 == 0, "accessPolicies": []any{},
			}})
	}
	for name, as := range map[string]*servertest.Browser{
		"all": s.Browser(b, ""), "nothing": s.As(b, "Nora"), "faces": s.As(b, "Farid", identity.CognitiveUser),
		"keys": s.As(b, "Kim", identity.VaultCryptoUser),
	} {
		for _, path := range []string{"/console/vaults", "/console/vaults?skip=900", "/console/vaults?sort=-purge"} {
			b.Run(name+path, func(b *testing.B) {
				for range b.N {
					if p := as.Get(path); p.Status != http.StatusOK {
						b.Fatal(p.Status)
					}
				}
			})
		}
	}
}
