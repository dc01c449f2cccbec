package stores_test

import (
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
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
	}, slog.New(slog.DiscardHandler), nil)
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
	const (
		binding = " vip --keyring faces --location europe-west3 --project bank-keys --role roles/cloudkms."
		member  = " --member principal://iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/pool/" +
			"subject/PRINCIPAL"
		addr    = "export VAULT_ADDR=https://vault.example:8200"
		azure   = "az keyvault key set-attributes --vault-name contoso --name faces"
		relabel = "p11tool --provider MODULE --login --set-label "
		token   = "'pkcs11:token=Customer%20keys;object="
		orRSA   = "# or, if it is an RSA key:"
		policy  = `printf 'path "transit/keys/vip" { capabilities = ["read"] }\n` +
			`path "transit/encrypt/vip" { capabilities = ["update"] }\n` +
			`path "transit/decrypt/vip" { capabilities = ["update"] }\n' | vault policy write visage-transit.vip -`
	)
	for _, c := range []struct {
		vault, key, version string
		take, give          []string
	}{
		{"hashivault://vault.example/transit", "vip", "2", []string{addr, "vault policy delete visage-transit.vip"},
			[]string{addr, policy}},
		{"awskms://cn-north-1/111122223333", "k", "", []string{"aws kms disable-key --region cn-north-1 --key-id k"},
			[]string{"aws kms enable-key --region cn-north-1 --key-id k"}},
		{ring, "vip", "", []string{"gcloud kms keys remove-iam-policy-binding" + binding +
			"cryptoKeyEncrypterDecrypter" + member}, []string{"gcloud kms keys add-iam-policy-binding" + binding +
			"cryptoKeyEncrypterDecrypter" + member}},
		// The version in use, of a key of either kind.
		{ring, "vip", "1", []string{"gcloud kms keys remove-iam-policy-binding" + binding +
			"cryptoKeyEncrypterDecrypter" + member, "# and the role of RSA keys, if the key has it:",
			"gcloud kms keys remove-iam-policy-binding" + binding + "cryptoKeyDecrypter" + member},
			[]string{"gcloud kms keys add-iam-policy-binding" + binding + "cryptoKeyEncrypterDecrypter" + member}},
		{"https://contoso.vault.azure.net", "faces", "", []string{azure + " --enabled false"},
			[]string{azure + " --enabled true"}},
		{"https://contoso.vault.azure.net", "faces", "0a1b", []string{azure + " --version 0a1b --enabled false"},
			[]string{azure + " --version 0a1b --enabled true"}},
		{"pkcs11:token=Customer%20keys", "it%27s", "", []string{
			relabel + `'revoked-visage-PRINCIPAL-it'\''s' ` + token + `visage-PRINCIPAL-it%27s;type=secret-key'`, orRSA,
			relabel + `'revoked-visage-PRINCIPAL-it'\''s' ` + token + `visage-PRINCIPAL-it%27s;type=private'`},
			[]string{
				relabel + `'visage-PRINCIPAL-it'\''s' ` + token + `revoked-visage-PRINCIPAL-it%27s;type=secret-key'`,
				orRSA,
				relabel + `'visage-PRINCIPAL-it'\''s' ` + token + `revoked-visage-PRINCIPAL-it%27s;type=private'`}},
		{"kmip://kms.example.org", "faces", "", []string{"take the right to Get Attributes, Encrypt and Decrypt with " +
			"the key whose Name is visage-PRINCIPAL-faces from the certificate of the service"},
			[]string{"give the certificate of the service the right back to Get Attributes, Encrypt and Decrypt with " +
				"the key whose Name is visage-PRINCIPAL-faces"}},
	} {
		r := set.Revocation(visage.KeyRef{Vault: c.vault, Name: c.key, Version: c.version}, who)
		if !slices.Equal(r.Take, c.take) {
			t.Errorf("%s: access is taken away by\n%s\nwant\n%s", c.vault, strings.Join(r.Take, "\n"),
				strings.Join(c.take, "\n"))
		}
		if !slices.Equal(r.Give, c.give) {
			t.Errorf("%s: access is given back by\n%s\nwant\n%s", c.vault, strings.Join(r.Give, "\n"),
				strings.Join(c.give, "\n"))
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
	pinned := func(role string) string {
		return "gcloud kms keys add-iam-policy-binding vip --keyring faces --location europe-west3 " +
			"--project bank-keys --role roles/cloudkms." + role +
			" --member principal://iam.googleapis.com/projects/42/locations/global/" +
			"workloadIdentityPools/pool/subject/PRINCIPAL"
	}
	for _, c := range []struct {
		vault, key, version string
		need                stores.Need
		want                []string
	}{
		{cn, awsKey, "", stores.NeedLogin, []string{
			"aws iam create-open-id-connect-provider --url https://faces.example/t/v2.0 --client-id-list " + cn,
			"aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn " +
				"arn:aws-cn:iam::111122223333:oidc-provider/faces.example/t/v2.0 --client-id " + cn,
			`aws iam create-role --role-name visage-PRINCIPAL --assume-role-policy-document '{"Version": ` +
				`"2012-10-17", ` +
				`"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity", "Principal": ` +
				`{"Federated": ` +
				`"arn:aws-cn:iam::111122223333:oidc-provider/faces.example/t/v2.0"}, "Condition": {"StringEquals": ` +
				`{"faces.example/t/v2.0:sub": "PRINCIPAL", "faces.example/t/v2.0:aud": "` + cn + `"}}}]}'`,
			"# where the role exists, update-assume-role-policy replaces its whole trust: name all audiences in it",
		}},
		{cn, awsKey, "", stores.NeedRights, []string{
			`aws iam put-role-policy --role-name visage-PRINCIPAL --policy-name visage-cn-north-1-` + awsKey +
				` --policy-document ` +
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
		{"gcpkms://projects/bank-keys/locations/europe-west3/keyRings/faces", "vip", "3", stores.NeedRights, []string{
			pinned("cryptoKeyEncrypterDecrypter"), pinned("publicKeyViewer"), pinned("viewer"),
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
		{"https://contoso.vault.azure.net", "faces", "", stores.NeedEnabled, []string{
			"az keyvault key set-attributes --vault-name contoso --name faces --enabled true",
		}},
		{"https://contoso.vault.azure.net", "faces", "0a1b", stores.NeedEnabled, []string{
			"az keyvault key set-attributes --vault-name contoso --name faces --version 0a1b --enabled true",
		}},
		{"https://contoso.vault.azure.net", "faces", "0a1b", stores.NeedOperations, []string{
			"az keyvault key set-attributes --vault-name contoso --name faces --version 0a1b --ops wrapKey unwrapKey",
		}},
		{"pkcs11:token=Customer%20keys", "faces", "", stores.NeedEnabled, []string{
			"# set CKA_DECRYPT of the key visage-PRINCIPAL-faces to true, with the token's own tool",
		}},
		{"pkcs11:token=Customer%20keys", "faces", "", stores.NeedProtection, []string{
			"# a key that may be destroyed: set CKA_DESTROYABLE of visage-PRINCIPAL-faces to false, with the " +
				"token's own tool",
			"# a key that could be extracted stays unfit: make one under another name",
		}},
		{"pkcs11:token=Customer%20keys", "faces", "", stores.NeedType, []string{
			"# the type and the size of a key stay as they are: make one under another name",
		}},
		{"kmip://kms.example.org", "faces", "", stores.NeedProtection, []string{
			"# these attributes stay as they were made: Create a key with another Name than visage-PRINCIPAL-faces",
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

// vaultTool stands for the command line of Vault: a policy is a file, and so is each field of a role. As in Vault, a
// policy replaces the one of its name, whose case does not count, and a role keeps the fields that a request leaves
// out.
const vaultTool = `#!/bin/sh
cd "$TOOL" || exit 1
case $1 in
policy) cat >"policy.$(printf %s "$3" | tr A-Z a-z)" ;;
read)
	at=$(printf %s "$2" | tr / .)
	[ -d "$at" ] || { echo "No value found at $2" >&2; exit 2; }
	echo "Key    Value"
	for f in "$at"/*; do
		case $f in
		*/token_policies | */bound_audiences) echo "$(basename "$f")    [$(tr , ' ' <"$f")]" ;;
		*) echo "$(basename "$f")    $(cat "$f")" ;;
		esac
	done ;;
write)
	at=$(printf %s "$2" | tr / .)
	mkdir -p "$at"
	[ -f "$at/bound_audiences" ] || echo '<nil>' >"$at/none"
	[ -f "$at/token_policies" ] || : >"$at/token_policies"
	shift 2
	for field; do printf %s "${field#*=}" >"$at/${field%%=*}"; done ;;
esac
`

// TestRemediesAdd pastes the commands for several keys of two resources into a shell, each of them twice: none takes
// away what another key needs, or gives what belongs to another one. That holds for two engines with a key of the same
// name, and for two keys of one resource.
func TestRemediesAdd(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/vault", []byte(vaultTool), 0o700); err != nil {
		t.Fatal(err)
	}
	tool := t.TempDir()
	a, b := "hashivault://vault.example/team-a/transit", "hashivault://vault.example/team-b/transit"
	set := transitSet(t, []string{"team-a/transit", "team-b/transit"})
	keys := map[string][]visage.KeyRef{
		"ANN": {{Vault: a, Name: "faces"}, {Vault: a, Name: "spare"}}, "BEN": {{Vault: b, Name: "faces"}},
	}
	var script []string
	for who, keys := range keys {
		for _, key := range keys {
			for _, need := range []stores.Need{stores.NeedLogin, stores.NeedRights} {
				script = append(script, set.Remedy(key, need, stores.Customer{Principal: visage.PrincipalID(who)})...)
			}
		}
	}
	for range 2 {
		shell := exec.Command("sh", "-e", "-c", strings.Join(script, "\n"))
		shell.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "TOOL="+tool)
		if out, err := shell.CombinedOutput(); err != nil {
			t.Fatalf("%s\n%s%v", strings.Join(script, "\n"), out, err)
		}
	}
	field := func(who, name string) []string {
		raw, err := os.ReadFile(tool + "/auth.jwt.role.visage-" + who + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(raw)), ",")
	}
	for who, keys := range keys {
		var want, got, audiences []string
		for _, key := range keys {
			_, at, _ := strings.Cut(key.Vault, "vault.example/")
			for path, may := range map[string]string{"keys": "read", "encrypt": "update", "decrypt": "update"} {
				want = append(want, fmt.Sprintf("path %q { capabilities = [%q] }", at+"/"+path+"/"+key.Name, may))
			}
			if !slices.Contains(audiences, key.Vault) {
				audiences = append(audiences, key.Vault)
			}
		}
		policies := field(who, "token_policies")
		for _, policy := range policies {
			raw, err := os.ReadFile(tool + "/policy." + policy)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.Split(strings.TrimSpace(string(raw)), "\n")...)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("the policies %q of %s allow\n%s\nwant\n%s", policies, who, strings.Join(got, "\n"),
				strings.Join(want, "\n"))
		}
		slices.Sort(audiences)
		if got := field(who, "bound_audiences"); !slices.Equal(got, audiences) {
			t.Errorf("%s may log in with tokens for %q, want %q", who, got, audiences)
		}
	}
}

// TestRemediesKeepAnotherIssuer: the commands for a login, which an outage may lead to as well, write the configuration
// of a mount only where there is none.
func TestRemediesKeepAnotherIssuer(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/vault", []byte(vaultTool), 0o700); err != nil {
		t.Fatal(err)
	}
	who := stores.Customer{Principal: "ANN", Issuer: "https://faces.example/t/v2.0"}
	for _, before := range []string{"", "https://other.example"} {
		tool, want := t.TempDir(), who.Issuer
		at := tool + "/auth.jwt.config"
		if before != "" {
			want = before
			if err := os.Mkdir(at, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at+"/bound_issuer", []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		key := visage.KeyRef{Vault: "hashivault://vault.example/transit", Name: "faces"}
		script := strings.Join(transitSet(t, []string{"transit"}).Remedy(key, stores.NeedLogin, who), "\n")
		shell := exec.Command("sh", "-e", "-c", script)
		shell.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "TOOL="+tool)
		if out, err := shell.CombinedOutput(); err != nil {
			t.Fatalf("%s\n%s%v", script, out, err)
		}
		if got, err := os.ReadFile(at + "/bound_issuer"); err != nil || string(got) != want {
			t.Errorf("the issuer is %q, want %q: %v", got, want, err)
		}
		if _, err := os.Stat(tool + "/auth.jwt.role.visage-ANN"); err != nil {
			t.Errorf("the role: %v", err)
		}
	}
}

// transitSet is a set of transit engines, by their mounts.
func transitSet(t *testing.T, mounts []string) *stores.Set {
	t.Helper()
	var all []stores.Store
	for _, mount := range mounts {
		all = append(all, stores.Store{Address: "hashivault://vault.example/" + mount,
			Login: stores.Login{Method: "jwt"}})
	}
	set, err := stores.NewSet(all, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	return set
}

// TestPoliciesOfTransitKeys: each key has a policy of its own, in a server that ignores the case of their names.
func TestPoliciesOfTransitKeys(t *testing.T) {
	mounts := []string{"team-b/transit", "team.b", "team/b", "team", "team_b", "Team", "team?namespace=team",
		"b?namespace=team-a"}
	set := transitSet(t, mounts)
	seen := map[string]string{}
	for _, mount := range mounts {
		for _, name := range []string{"faces", "Faces", "_faces", "b.faces", "b_faces", "b-faces"} {
			r := set.Revocation(visage.KeyRef{Vault: "hashivault://vault.example/" + mount, Name: name},
				stores.Customer{Principal: "PRINCIPAL"})
			policy := strings.ToLower(r.Take[len(r.Take)-1])
			if other := seen[policy]; other != "" {
				t.Errorf("%q is for %s and for %s of %s", policy, other, name, mount)
			}
			seen[policy] = name + " of " + mount
		}
	}
}

// TestRemediesOfKeysInAWS: each key has a policy of its own, also one with replicas in several regions. A policy
// replaces the one of its name.
func TestRemediesOfKeysInAWS(t *testing.T) {
	var all []stores.Store
	for _, region := range []string{"eu-central-1", "eu-west-1"} {
		all = append(all, stores.Store{Address: "awskms://" + region + "/111122223333",
			Login: stores.Login{Method: "web-identity"}})
	}
	set, err := stores.NewSet(all, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	seen := map[string]string{}
	for _, store := range all {
		for _, name := range []string{"mrk-0123456789abcdef0123456789abcdef", "0a1b2c3d-0000-4000-8000-000000000001"} {
			commands := set.Remedy(visage.KeyRef{Vault: store.Address, Name: name}, stores.NeedRights,
				stores.Customer{Principal: "PRINCIPAL"})
			_, rest, _ := strings.Cut(commands[0], " --policy-name ")
			policy, _, _ := strings.Cut(rest, " ")
			if other := seen[policy]; other != "" || len(policy) > 128 {
				t.Errorf("the policy %q is for\n%s\nand for\n%s", policy, other, commands[0])
			}
			seen[policy] = commands[0]
		}
	}
}
