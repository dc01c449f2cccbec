package stores_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visage-face/visage/keysource/stores"
)

const ring = "gcpkms://projects/visage-test/locations/global/keyRings/faces"

// TestRead reads the file of key stores, and refuses what is incomplete or contradicts itself.
func TestRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stores.json")
	read := func(text string) error {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := stores.Read(file)
		return err
	}
	if err := read(`[{"address":"hashivault://vault.example/transit","login":{"method":"jwt","mount":"k8s/jwt"}},
		{"address":"hashivault://vault.example/transit?namespace=a/b","login":{"method":"token","secretFile":"t"}},
		{"address":"hashivault://192.0.2.1:8300/keys","login":{"method":"approle","roleId":"r","secretFile":"s"}},
		{"address":"awskms://eu-central-1/111122223333","login":{"method":"web-identity"}},
		{"address":"awskms://us-gov-west-1/111122223333","endpoint":"https://kms-fips.us-gov-west-1.amazonaws.com",
			"login":{"method":"web-identity","role":"arn:aws-us-gov:iam::444455556666:role/faces/{principal}"}},
		{"address":"awskms://cn-north-1/111122223333",
			"login":{"method":"static","accessKeyId":"AKIA","secretFile":"s"}},
		{"address":"https://Safe.vault.azure.net/",
			"login":{"method":"federated","tenant":"contoso.example","clientId":"c"}},
		{"address":"gcpkms://projects/visage-test/locations/global/keyRings/faces",
			"login":{"method":"service-account","secretFile":"key.json"}},
		{"address":"gcpkms://projects/visage-test/locations/europe-west3/keyRings/faces",
			"endpoint":"https://{service}-faces.p.googleapis.com",
			"login":{"method":"workload-identity","serviceAccount":"visage@visage-test.iam.gserviceaccount.com",
			"provider":"projects/1/locations/global/workloadIdentityPools/visage/providers/visage"}}]`); err != nil {
		t.Error(err)
	}
	const token = `{"address":"pkcs11:token=HSM","login":{"method":"pin","secretFile":"p"`
	if err := read(`[` + token + `},"helper":{"module":"/lib/m.so","hosts":["hsm.example:1792","[::1]:9"],` +
		`"write":["/var/tokens"]}}]`); err != nil {
		t.Error(err)
	}
	const manager = `{"address":"kmip://kms.example","login":{"method":"certificate","certificateFile":"c"`
	if err := read(`[` + manager + `,"secretFile":"k","object":"{name}"},"caFile":"ca"}]`); err != nil {
		t.Error(err)
	}
	for text, says := range map[string]string{
		`[{"address":"ftp://vault.example","login":{"method":"jwt"}}]`:                                               "no key store is known",
		`[{"address":"hashivault://user@vault.example/transit","login":{"method":"jwt"}}]`:                           "has a user",
		`[{"address":"hashivault://vault.example","login":{"method":"jwt"}}]`:                                        "mount",
		`[{"address":"hashivault://vault.example/transit","login":{"method":"ldap"}}]`:                               `got "ldap"`,
		`[{"address":"hashivault://vault.example/transit","login":{"method":"approle","roleId":"r"}}]`:               "secretFile",
		`[{"address":"hashivault://vault.example/transit","login":{"method":"jwt","secretFile":"s"}}]`:               "does not use",
		`[{"address":"hashivault://vault.example/transit","login":{"method":"jwt","role":"../../sys/seal"}}]`:        "mount and the role",
		`[{"address":"hashivault://vault.example/transit","login":{"method":"jwt","role":"visage"}}]`:                "the same for all resources",
		`[{"address":"hashivault://vault.example/transit","endpoint":"https://x","login":{"method":"jwt"}}]`:         "leave endpoint",
		`[{"address":"awskms://eu-central-1","login":{"method":"web-identity"}}]`:                                    "12 digits",
		`[{"address":"awskms://eu-central-1/111122223333","login":{"method":"jwt"}}]`:                                `got "jwt"`,
		`[{"address":"awskms://eu-central-1/111122223333","login":{"method":"static","secretFile":"s"}}]`:            "needs accessKeyId",
		`[{"address":"awskms://eu-central-1/111122223333","endpoint":"http://x","login":{"method":"web-identity"}}]`: "not https",
		`[{"address":"awskms://eu-central-1/111122223333","login":{"method":"web-identity","role":"faces"}}]`:        "the same for all resources",
		`[{"address":"awskms://eu-central-1/111122223333",
			"login":{"method":"web-identity","role":"arn:aws-cn:iam::111122223333:role/{principal}"}}]`: `partition "aws-cn"`,
		`[{"address":"gcpkms://projects/visage-test","login":{"method":"workload-identity"}}]`:                           "not the address of a key ring",
		`[{"address":"` + ring + `","login":{"method":"jwt"}}]`:                                                          `got "jwt"`,
		`[{"address":"` + ring + `","login":{"method":"workload-identity"}}]`:                                            "needs provider",
		`[{"address":"` + ring + `","login":{"method":"workload-identity","provider":"visage"}}]`:                        "workloadIdentityPools",
		`[{"address":"` + ring + `","login":{"method":"service-account"}}]`:                                              "needs secretFile",
		`[{"address":"` + ring + `","endpoint":"http://x","login":{"method":"service-account"}}]`:                        "https://",
		`[{"address":"` + ring + `","loginEndpoint":"https://x","login":{"method":"workload-identity","provider":"p"}}]`: "leave loginEndpoint out",
		`[{"address":"` + ring + `","login":{"method":"workload-identity","serviceAccount":"me@example.com",
			"provider":"projects/1/locations/global/workloadIdentityPools/visage/providers/visage"}}]`: "a service account is",
		`[{"address":"https://vault.example","login":{"method":"federated","tenant":"t","clientId":"c"}}]`: "only vaults of Azure",
		`[{"address":"https://safe.vault.azure.net","login":{"method":"federated","tenant":"t"}}]`:         "needs clientId",
		`[{"address":"https://safe.vault.azure.net","endpoint":"http://x",
			"login":{"method":"federated","tenant":"t","clientId":"c"}}]`: "https://HOST",
		`[{"adress":"hashivault://vault.example/transit"}]`:                             "unknown field",
		`[` + manager + `,"secretFile":"k"}}]`:                                          "caFile is missing",
		`[` + manager + `},"caFile":"ca"}]`:                                             "secretFile",
		`[` + manager + `,"secretFile":"k"},"caFile":"ca","helper":{"hosts":["x:1"]}}]`: "leave helper out",
		`[` + token + `},"helper":{"module":"/m.so","allowUnmarked":true}}]`:            "for KMIP servers",
		`[` + token + `}}]`:                                                                                    "helper.module",
		`[` + token + `},"helper":{"module":"m.so"}}]`:                                                         "absolute path",
		`[` + token + `},"helper":{"module":"/m.so","read":["etc"]}}]`:                                         "absolute paths",
		`[` + token + `},"helper":{"module":"/m.so","write":["//"]}}]`:                                         "other than /",
		`[` + token + `},"helper":{"module":"/m.so","hosts":["hsm.example"]}}]`:                                "HOST:PORT",
		`[` + token + `},"helper":{"module":"/m.so","hosts":["hsm.example:0"]}}]`:                              "HOST:PORT",
		`[` + token + `,"object":"{principal}"},"helper":{"module":"/m.so"}}]`:                                 "write {name} into it",
		`[` + token + `,"role":"r"},"helper":{"module":"/m.so"}}]`:                                             "does not use role",
		`[` + token + `},"caFile":"x","helper":{"module":"/m.so"}}]`:                                           "leave out caFile",
		`[{"address":"pkcs11:token=a?pin-value=1","login":{"method":"pin"}}]`:                                  "a PIN in it",
		`[{"address":"pkcs11:token=a","login":{"method":"jwt"},"helper":{"module":"/m.so"}}]`:                  "the login is pin",
		`[{"address":"hashivault://vault.example/transit","login":{"method":"jwt"},"helper":{"read":["/x"]}}]`: "without a helper",
		`[] []`: "something behind it",
		``:      "EOF",
	} {
		if err := read(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}
