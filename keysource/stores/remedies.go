package stores

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource/kmip"
	"github.com/visage-face/visage/keysource/pkcs11"
)

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quote makes a word of a shell's command of any text: names of keys are those that somebody gave.
func quote(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// awsRemedy returns the commands of docs/operations/key-stores.md for one resource, for the command line of AWS.
func awsRemedy(s Store, key visage.KeyRef, need Need, c Customer) []string {
	_, at, _ := strings.Cut(s.Address, "://")
	region, account, _ := strings.Cut(at, "/")
	role, err := awsRole(s, c.Principal)
	if err != nil {
		return nil // the description was checked when it was added
	}
	arn := strings.SplitN(role, ":", 6)
	partition, owner := arn[1], arn[4] // of the role, whose account may be another than that of the key
	name := role[strings.LastIndex(role, "/")+1:]
	issuer := strings.TrimPrefix(c.Issuer, "https://")
	switch need {
	case NeedLogin:
		if s.Login.Method != "web-identity" {
			return nil
		}
		audience := s.Login.Audience
		provider := fmt.Sprintf("arn:%s:iam::%s:oidc-provider/%s", partition, owner, issuer)
		return []string{
			fmt.Sprintf("aws iam create-open-id-connect-provider --url %s --client-id-list %s", quote(c.Issuer),
				quote(audience)),
			fmt.Sprintf("aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn %s "+
				"--client-id %s", quote(provider), quote(audience)), // where the provider exists
			fmt.Sprintf("aws iam create-role --role-name %s --assume-role-policy-document "+
				`'{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": `+
				`"sts:AssumeRoleWithWebIdentity", `+
				`"Principal": {"Federated": "%s"}, `+
				`"Condition": {"StringEquals": {"%[3]s:sub": "%[4]s", "%[3]s:aud": "%[5]s"}}}]}'`,
				quote(name), provider, issuer, c.Principal, audience),
			"# where the role exists, update-assume-role-policy replaces its whole trust: name all audiences in it",
		}
	case NeedRights:
		put := "put-role-policy --role-name " + quote(name)
		if s.Login.Method != "web-identity" {
			put = "put-user-policy --user-name USER"
		}
		// A policy replaces the one of its name. Keys of several regions have the same id in each.
		return []string{fmt.Sprintf("aws iam %s --policy-name visage-%[3]s-%[5]s --policy-document "+
			`'{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", `+
			`"Action": ["kms:DescribeKey", "kms:Encrypt", "kms:Decrypt"], `+
			`"Resource": "arn:%[2]s:kms:%[3]s:%[4]s:key/%[5]s"}]}'`, put, partition, region, account, key.Name)}
	case NeedType:
		return []string{fmt.Sprintf("aws kms create-key --region %s --query KeyMetadata.KeyId --output text", region)}
	case NeedKey:
		return []string{
			fmt.Sprintf("aws kms cancel-key-deletion --region %s --key-id %s   # if its deletion is scheduled", region,
				key.Name),
			fmt.Sprintf("aws kms create-key --region %s --query KeyMetadata.KeyId --output text   # or another key",
				region),
		}
	case NeedEnabled:
		return []string{fmt.Sprintf("aws kms enable-key --region %s --key-id %s", region, key.Name)}
	}
	return nil
}

// googleRemedy returns the commands of docs/operations/key-stores.md for one resource, for the command line of Google.
func googleRemedy(s Store, key visage.KeyRef, need Need, c Customer) []string {
	part := strings.Split(s.Address, "/") // gcpkms: "" projects PROJECT locations LOCATION keyRings KEYRING
	project, location, ring := part[3], part[5], part[7]
	at := fmt.Sprintf("--keyring %s --location %s --project %s", ring, location, project)
	switch need {
	case NeedLogin:
		if s.Login.Method != "workload-identity" {
			return nil
		}
		// projects NUMBER locations global workloadIdentityPools POOL providers PROVIDER
		of := strings.Split(s.Login.Provider, "/")
		pool, provider := of[5], of[7]
		create := fmt.Sprintf("gcloud iam workload-identity-pools providers create-oidc %s --location global "+
			"--workload-identity-pool %s --project %s --issuer-uri %s --attribute-mapping "+
			"google.subject=assertion.sub "+
			`--attribute-condition "assertion.iss == '%[4]s' && assertion.sub in ['%[5]s']"`, provider, pool, of[1],
			c.Issuer, c.Principal)
		if audience := s.Login.Audience; audience != s.kind.audience(s) {
			create += " --allowed-audiences " + quote(audience)
		}
		return []string{
			fmt.Sprintf("gcloud iam workload-identity-pools create %s --location global --project %s", pool, of[1]),
			create,
			"# where the provider exists, update-oidc instead of create-oidc: name all resources in the condition",
		}
	case NeedRights:
		if s.Login.Method != "workload-identity" {
			return nil
		}
		of := strings.Split(s.Login.Provider, "/")
		member := fmt.Sprintf("principal://iam.googleapis.com/%s/subject/%s", strings.Join(of[:6], "/"), c.Principal)
		if s.Login.ServiceAccount != "" {
			member = "serviceAccount:" + s.Login.ServiceAccount
		}
		roles := []string{"cryptoKeyEncrypterDecrypter", "viewer"}
		if key.Version != "" { // it may be an RSA key: this role decrypts with both kinds
			roles = []string{"cryptoKeyEncrypterDecrypter", "publicKeyViewer", "viewer"}
		}
		var commands []string
		for _, role := range roles {
			commands = append(commands, fmt.Sprintf("gcloud kms keys add-iam-policy-binding %s %s "+
				"--role roles/cloudkms.%s --member %s", key.Name, at, role, quote(member)))
		}
		return commands
	case NeedKey:
		return []string{
			fmt.Sprintf("gcloud kms keyrings create %s --location %s --project %s", ring, location, project),
			fmt.Sprintf("gcloud kms keys create %s %s --purpose encryption --protection-level hsm "+
				"--destroy-scheduled-duration 30d", key.Name, at),
		}
	case NeedType:
		return []string{"# the purpose of a key stays as it is: make one under another name, and name the version of " +
			"an RSA key"}
	case NeedEnabled:
		return []string{fmt.Sprintf("gcloud kms keys versions enable %s --key %s %s", cmp.Or(key.Version, "VERSION"),
			key.Name, at)}
	}
	return nil
}

// vaultRemedy returns the commands of docs/operations/key-stores.md for one resource, for the command line of Azure.
func vaultRemedy(s Store, key visage.KeyRef, need Need, c Customer) []string {
	if need == NeedLogin {
		return []string{fmt.Sprintf("az ad app federated-credential create --id %s --parameters "+
			`'{"name": "visage-%s", "issuer": "%s", "subject": "%[2]s", "audiences": ["%[4]s"]}'`, s.Login.ClientID,
			c.Principal, c.Issuer, s.Login.Audience)}
	}
	return AzureRemedy(key, need, s.Login.ClientID)
}

// AzureRemedy returns commands by which the owner of a vault in Azure gives an application what it needs, one a line;
// nil: there are none.
func AzureRemedy(key visage.KeyRef, need Need, client string) []string {
	host := key.Vault
	if u, err := url.Parse(key.Vault); err == nil {
		host = u.Hostname()
	}
	vault, _, _ := strings.Cut(host, ".")
	at := fmt.Sprintf("--vault-name %s --name %s", quote(vault), quote(key.Name))
	set := "az keyvault key set-attributes " + at
	if key.Version != "" { // without it, the newest one
		set += " --version " + quote(key.Version)
	}
	switch need {
	case NeedRights:
		return []string{fmt.Sprintf("az role assignment create --assignee %s --role "+
			`"Key Vault Crypto Service Encryption User" --scope `+
			"$(az keyvault show --name %s --query id --output tsv)/keys/%s", client, quote(vault), quote(key.Name))}
	case NeedKey, NeedType: // where there is a key of that name, a new version of it
		return []string{"az keyvault key create " + at + " --kty RSA --size 2048"}
	case NeedEnabled:
		return []string{set + " --enabled true"}
	case NeedProtection:
		return []string{fmt.Sprintf("az keyvault update --name %s --enable-purge-protection true", quote(vault))}
	case NeedOperations:
		return []string{set + " --ops wrapKey unwrapKey"}
	}
	return nil
}

// tokenRemedy returns the command of docs/operations/hsm.md that makes the key of one resource, for OpenSC, where the
// token has none; MODULE is the library of the token on the customer's machine. A second key of the label would make it
// ambiguous, and the attributes of a key can be changed by the token's own tool alone, if at all.
func tokenRemedy(s Store, key visage.KeyRef, need Need, c Customer) []string {
	if need == NeedLogin {
		return nil // the PIN is the operator's
	}
	object, err := s.Login.object(pkcs11.Label(key.Name), c.Principal)
	if err != nil {
		return nil // the identity is off
	}
	switch need {
	case NeedRights:
		return []string{"# let the user of the PIN see and use the key " + object + ", with the token's own tool"}
	case NeedEnabled:
		return []string{"# set CKA_DECRYPT of the key " + object + " to true, with the token's own tool"}
	case NeedOperations:
		return []string{"# set CKA_ENCRYPT (of a pair, of its public key) and CKA_DECRYPT of the key " + object +
			" to true, with the token's own tool"}
	case NeedProtection:
		return []string{
			"# a key that may be destroyed: set CKA_DESTROYABLE of " + object + " to false, with the token's own tool",
			"# a key that could be extracted stays unfit: make one under another name",
		}
	case NeedType:
		return []string{"# the type and the size of a key stay as they are: make one under another name"}
	}
	return []string{fmt.Sprintf("pkcs11-tool --module MODULE --token-label %s --login --keygen --key-type AES:32 "+
		"--label %s --id 01 --private --sensitive --usage-decrypt",
		quote(cmp.Or(pkcs11.TokenLabel(s.Address), "LABEL")),
		quote(object))}
}

// kmipRemedy returns the requests of docs/operations/hsm.md for one resource, in the words of the standard: the client
// of each vendor has its own commands.
func kmipRemedy(s Store, key visage.KeyRef, need Need, c Customer) []string {
	object, err := s.Login.object(kmip.Name(key.Name), c.Principal)
	if err != nil {
		return nil // the identity is off
	}
	switch need {
	case NeedLogin:
		return nil // the certificate is the operator's
	case NeedRights:
		return []string{fmt.Sprintf("let the certificate of the service do Locate, Get Attributes, Encrypt "+
			"and Decrypt "+
			"with the key whose Name is %s", object)}
	case NeedEnabled:
		return []string{fmt.Sprintf("Activate: the key whose Name is %s", object)}
	case NeedProtection, NeedOperations, NeedType: // a second key of the name would make it ambiguous
		return []string{"# these attributes stay as they were made: Create a key with another Name than " + object}
	}
	return []string{
		fmt.Sprintf("Create: Symmetric Key, Cryptographic Algorithm AES, Cryptographic Length 256, "+
			"Cryptographic Usage Mask Encrypt Decrypt, Name %s, Sensitive true, Extractable false", object),
		"Activate: the Unique Identifier that Create has returned",
	}
}
