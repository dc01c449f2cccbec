package stores_test

import (
	"encoding/pem"
	"log/slog"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/stores"
)

// remedySet is a store of each kind.
func remedySet(t *testing.T) *stores.Set {
	t.Helper()
	server := httptest.NewTLSServer(nil) // for its certificate
	t.Cleanup(server.Close)
	ca := t.TempDir() + "/ca.pem"
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		0o600); err != nil {
		t.Fatal(err)
	}
	const provider = "projects/42/locations/global/workloadIdentityPools/pool/providers/visage"
	set, err := stores.NewSet([]stores.Store{
		{Address: "awskms://cn-north-1/111122223333", Login: stores.Login{Method: "web-identity"}},
		{Address: "awskms://eu-central-1/111122223333",
			Login: stores.Login{Method: "static", AccessKeyID: "AKIA", SecretFile: "/s"}},
		{Address: "gcpkms://projects/bank-keys/locations/europe-west3/keyRings/faces",
			Login: stores.Login{Method: "workload-identity", Provider: provider}},
		{Address: "https://contoso.vault.azure.net",
			Login: stores.Login{Method: "federated", Tenant: "tenant", ClientID: "client"}},
		{Address: "pkcs11:token=Customer%20keys", Login: stores.Login{Method: "pin", SecretFile: "/s"},
			Helper: stores.Helper{Module: "/usr/lib/libtoken.so"}},
		{Address: "hashivault://vault.example/transit", Login: stores.Login{Method: "jwt"}},
		{Address: "kmip://kms.example.org", CAFile: ca,
			Login: stores.Login{Method: "certificate", CertificateFile: "/c", SecretFile: "/s"}},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	return set
}

// TestRevocations holds that the commands which take the access to a key away are those of the documents, and that each
// kind of store has some for both ways.
func TestRevocations(t *testing.T) {
	const ring = "gcpkms://projects/bank-keys/locations/europe-west3/keyRings/faces"
	set := remedySet(t)
	who := stores.Customer{Principal: "PRINCIPAL", Issuer: "https://faces.example/t/v2.0"}
	for _, c := range []struct{ vault, key, take, give string }{
		{"hashivault://vault.example/transit", "vip", "vault policy delete visage-vip",
			"vault policy write visage-vip -"},
		{"awskms://cn-north-1/111122223333", "k", "aws kms disable-key --region cn-north-1 --key-id k",
			"aws kms enable-key --region cn-north-1 --key-id k"},
		{ring, "vip", "gcloud kms keys remove-iam-policy-binding vip --keyring faces",
			"gcloud kms keys add-iam-policy-binding vip --keyring faces"},
		{"https://contoso.vault.azure.net", "faces",
			"az keyvault key set-attributes --vault-name contoso --name faces --enabled false", "--enabled true"},
		{"pkcs11:token=Customer%20keys", "it%27s", "p11tool --provider MODULE --login --set-label revoked " +
			"'pkcs11:token=Customer%20keys;object=visage-PRINCIPAL-it%27s'",
			`--set-label 'visage-PRINCIPAL-it'\''s' 'pkcs11:token=Customer%20keys;object=revoked'`},
		{"kmip://kms.example.org", "faces", "take the right to Get Attributes, Encrypt and Decrypt",
			"the key whose Name is visage-PRINCIPAL-faces"},
	} {
		r := set.Revocation(visage.KeyRef{Vault: c.vault, Name: c.key}, who)
		if take := strings.Join(r.Take, "\n"); !strings.Contains(take, c.take) {
			t.Errorf("%s: access is taken away by\n%s\nwant %s", c.vault, take, c.take)
		}
		if give := strings.Join(r.Give, "\n"); !strings.Contains(give, c.give) {
			t.Errorf("%s: access is given back by\n%s\nwant %s", c.vault, give, c.give)
		}
	}
	if r := set.Revocation(visage.KeyRef{Vault: "kmip://other.example.org", Name: "k"}, who); r.Take != nil {
		t.Errorf("of a store that is not configured: %v", r)
	}
}

// TestRemedies holds the commands by which the holder of a key gives a resource what it needs, for each kind of store:
// they are those of the documents, with everything filled in.
func TestRemedies(t *testing.T) {
	set := remedySet(t)
	who := stores.Customer{Principal: "PRINCIPAL", Issuer: "https://faces.example/t/v2.0",
		KeysURI: "https://faces.example/t/discovery/v2.0/keys"}
	const awsKey = "0a1b2c3d-0000-4000-8000-000000000001"
	const cn = "awskms://cn-north-1/111122223333"
	for _, c := range []struct {
		vault, key, version string
		need                stores.Need
		want                []string
	}{
		{cn, awsKey, "", stores.NeedLogin, []string{
			"aws iam create-open-id-connect-provider --url https://faces.example/t/v2.0 --client-id-list " + cn,
			`aws iam create-role --role-name visage-PRINCIPAL --assume-role-policy-document '{"Version": ` +
				`"2012-10-17", ` +
				`"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity", "Principal": ` +
				`{"Federated": ` +
				`"arn:aws-cn:iam::111122223333:oidc-provider/faces.example/t/v2.0"}, "Condition": {"StringEquals": ` +
				`{"faces.example/t/v2.0:sub": "PRINCIPAL", "faces.example/t/v2.0:aud": "` + cn + `"}}}]}'`,
		}},
		{cn, awsKey, "", stores.NeedRights, []string{
			`aws iam put-role-policy --role-name visage-PRINCIPAL --policy-name visage --policy-document ` +
				`'{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["kms:DescribeKey", ` +
				`"kms:Encrypt", ` +
				`"kms:Decrypt"], "Resource": "arn:aws-cn:kms:cn-north-1:111122223333:key/` + awsKey + `"}]}'`,
		}},
		{cn, awsKey, "", stores.NeedEnabled, []string{"aws kms enable-key --region cn-north-1 --key-id " + awsKey}},
		{"awskms://eu-central-1/111122223333", awsKey, "", stores.NeedLogin, nil},
		{"gcpkms://projects/bank-keys/locations/europe-west3/keyRings/faces", "vip", "", stores.NeedLogin, []string{
			"gcloud iam workload-identity-pools create pool --location global --project 42",
			"gcloud iam workload-identity-pools providers create-oidc visage --location global " +
				"--workload-identity-pool pool --project 42 --issuer-uri https://faces.example/t/v2.0 " +
				"--attribute-mapping " +
				"google.subject=assertion.sub --attribute-condition \"assertion.iss == " +
				"'https://faces.example/t/v2.0' && " +
				"assertion.sub in ['PRINCIPAL']\"",
			"# where the provider exists, update-oidc instead of create-oidc: name all resources in the condition",
		}},
		{"gcpkms://projects/bank-keys/locations/europe-west3/keyRings/faces", "vip", "", stores.NeedRights, []string{
			"gcloud kms keys add-iam-policy-binding vip --keyring faces --location europe-west3 --project bank-keys " +
				"--role roles/cloudkms.cryptoKeyEncrypterDecrypter --member " +
				"principal://iam.googleapis.com/projects/42/" +
				"locations/global/workloadIdentityPools/pool/subject/PRINCIPAL",
			"gcloud kms keys add-iam-policy-binding vip --keyring faces --location europe-west3 --project bank-keys " +
				"--role roles/cloudkms.viewer --member principal://iam.googleapis.com/projects/42/locations/global/" +
				"workloadIdentityPools/pool/subject/PRINCIPAL",
		}},
		{"gcpkms://projects/bank-keys/locations/europe-west3/keyRings/faces", "vip", "3", stores.NeedEnabled, []string{
			"gcloud kms keys versions enable 3 --key vip --keyring faces --location europe-west3 --project bank-keys",
		}},
		{"https://contoso.vault.azure.net", "faces", "", stores.NeedLogin, []string{
			`az ad app federated-credential create --id client --parameters '{"name": "visage-PRINCIPAL", "issuer": ` +
				`"https://faces.example/t/v2.0", "subject": "PRINCIPAL", "audiences": ["api://AzureADTokenExchange"]}'`,
		}},
		{"https://contoso.vault.azure.net", "faces", "", stores.NeedRights, []string{
			`az role assignment create --assignee client --role "Key Vault Crypto Service Encryption User" ` +
				`--scope $(az keyvault show --name contoso --query id --output tsv)/keys/faces`,
		}},
		{"https://contoso.vault.azure.net", "faces", "", stores.NeedProtection, []string{
			"az keyvault update --name contoso --enable-purge-protection true",
		}},
		{"pkcs11:token=Customer%20keys", "it%27s", "", stores.NeedKey, []string{
			"pkcs11-tool --module MODULE --token-label 'Customer keys' --login --keygen --key-type AES:32 " +
				`--label 'visage-PRINCIPAL-it'\''s' --id 01 --private --sensitive --usage-decrypt`,
		}},
		{"kmip://kms.example.org", "faces", "", stores.NeedKey, []string{
			"Create: Symmetric Key, Cryptographic Algorithm AES, Cryptographic Length 256, Cryptographic Usage Mask " +
				"Encrypt Decrypt, Name visage-PRINCIPAL-faces, Sensitive true, Extractable false",
			"Activate: the Unique Identifier that Create has returned",
		}},
		{"kmip://kms.example.org", "faces", "", stores.NeedRights, []string{
			"let the certificate of the service do Locate, Get Attributes, Encrypt and Decrypt with the " +
				"key whose Name " +
				"is visage-PRINCIPAL-faces",
		}},
		{"kmip://other.example.org", "faces", "", stores.NeedKey, nil},
	} {
		got := set.Remedy(visage.KeyRef{Vault: c.vault, Name: c.key, Version: c.version}, c.need, who)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s of %s:\n%s\nwant\n%s", c.need, c.vault, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}
