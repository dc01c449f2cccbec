package vaultapi_test

import (
	"bytes"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/visage-face/visage/audit"
)

// wantError compares an error of the official client with the status and codes it must have.
func wantError(t *testing.T, err error, status int, code, inner string) {
	t.Helper()
	answer, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok || answer.StatusCode != status || answer.ErrorCode != code {
		t.Errorf("got %v, want %d %s", err, status, code)
		return
	}
	if inner != "" && !strings.Contains(answer.Error(), `"`+inner+`"`) {
		t.Errorf("got %v, want the inner code %s", err, inner)
	}
}

// must ends the test when a call failed.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func createRSA(t *testing.T, c *azkeys.Client, name string) azkeys.KeyBundle {
	t.Helper()
	res, err := c.CreateKey(t.Context(), name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res.KeyBundle
}

func TestClientWrapsAndUnwraps(t *testing.T) {
	r := newServedVaults(t)
	c := r.client(r.base, alice)
	k := createRSA(t, c, "k1")
	if got, want := string(*k.Key.KID), r.base+"keys/k1/"+k.Key.KID.Version(); got != want {
		t.Errorf("kid %s, want %s", got, want)
	}
	if len(k.Key.N) != 256 || k.Attributes.RecoverableDays == nil || *k.Attributes.RecoverableDays != 90 ||
		*k.Attributes.RecoveryLevel != "Recoverable+Purgeable" {
		t.Errorf("got a key of %d bytes, attributes %+v", len(k.Key.N), k.Attributes)
	}
	if len(r.asked) != 1 || r.asked[0].TenantID != tenant || r.asked[0].Scopes[0] != r.aud+"/.default" {
		t.Errorf("the challenge led to requests for the tokens %+v", r.asked)
	}
	secret := []byte("a data key of thirty-two bytes!!")
	algorithms := []azkeys.EncryptionAlgorithm{azkeys.EncryptionAlgorithmRSAOAEP256}
	for _, alg := range []azkeys.EncryptionAlgorithm{azkeys.EncryptionAlgorithmRSAOAEP,
		azkeys.EncryptionAlgorithmRSA15} {
		if !fips140.Enforced() {
			algorithms = append(algorithms, alg)
			continue
		}
		_, err := c.WrapKey(t.Context(), "k1", "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: secret}, nil)
		wantError(t, err, http.StatusBadRequest, "BadParameter", "")
	}
	for _, alg := range algorithms {
		for _, version := range []string{"", k.Key.KID.Version()} {
			params := azkeys.KeyOperationParameters{Algorithm: &alg, Value: secret}
			wrapped := must[azkeys.WrapKeyResponse](t)(c.WrapKey(t.Context(), "k1", version, params, nil))
			if *wrapped.KID != *k.Key.KID {
				t.Errorf("%s: wrapped with %s, want %s", alg, *wrapped.KID, *k.Key.KID)
			}
			params.Value = wrapped.Result
			back := must[azkeys.UnwrapKeyResponse](t)(c.UnwrapKey(t.Context(), "k1", version, params, nil))
			if string(back.Result) != string(secret) {
				t.Errorf("%s: got %q back", alg, back.Result)
			}
			wrapped.Result[7] ^= 1
			_, err := c.UnwrapKey(t.Context(), "k1", version, params, nil)
			wantError(t, err, http.StatusBadRequest, "BadParameter", "")
		}
	}
	events := r.audit.Events()
	if e := events[len(events)-1]; e.Details[audit.DetailOperation] != "KeyUnwrap" ||
		e.KeyID+"/"+e.KeyVersion != string(*k.Key.KID) || e.Actor != (audit.Actor{Kind: audit.Identity, ID: alice}) ||
		e.RequestID == "" || e.Code != "BadParameter" {
		t.Errorf("the audit has %+v", e)
	}
}

func TestClientSignsAndVerifies(t *testing.T) {
	r := newServedVaults(t)
	c := r.client(r.base, alice)
	createRSA(t, c, "rsa")
	curves := map[azkeys.CurveName]azkeys.SignatureAlgorithm{azkeys.CurveNameP256: azkeys.SignatureAlgorithmES256,
		azkeys.CurveNameP384: azkeys.SignatureAlgorithmES384, azkeys.CurveNameP521: azkeys.SignatureAlgorithmES512}
	algorithms := map[string][]azkeys.SignatureAlgorithm{"rsa": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}}
	for curve, alg := range curves {
		params := azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC), Curve: &curve}
		name := "ec-" + string(curve)
		must[azkeys.CreateKeyResponse](t)(c.CreateKey(t.Context(), name, params, nil))
		algorithms[name] = []azkeys.SignatureAlgorithm{alg}
	}
	sizes := map[string]int{"256": 32, "384": 48, "512": 64}
	for name, all := range algorithms {
		for _, alg := range all {
			digest := make([]byte, sizes[string(alg[2:])])
			digest[0] = 1
			s := must[azkeys.SignResponse](t)(c.Sign(t.Context(), name, "",
				azkeys.SignParameters{Algorithm: &alg, Value: digest}, nil))
			params := azkeys.VerifyParameters{Algorithm: &alg, Digest: digest, Signature: s.Result}
			if ok := must[azkeys.VerifyResponse](t)(c.Verify(t.Context(), name, "", params, nil)); !*ok.Value {
				t.Errorf("%s %s: the signature is invalid", name, alg)
			}
			digest[0] = 2
			if ok := must[azkeys.VerifyResponse](t)(c.Verify(t.Context(), name, "", params, nil)); *ok.Value {
				t.Errorf("%s %s: the signature is valid for another digest", name, alg)
			}
			_, err := c.Sign(t.Context(), name, "", azkeys.SignParameters{Algorithm: &alg, Value: digest[1:]}, nil)
			wantError(t, err, http.StatusBadRequest, "BadParameter", "")
		}
	}
	digest := sha256.Sum256(nil)
	_, err := c.Sign(t.Context(), "rsa", "", azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256),
		Value: digest[:]}, nil)
	wantError(t, err, http.StatusBadRequest, "BadParameter", "")
	_, err = c.WrapKey(t.Context(), "ec-P-256", "", azkeys.KeyOperationParameters{
		Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: []byte{1}}, nil)
	wantError(t, err, http.StatusForbidden, "Forbidden", "")
}

func TestClientDeletesRecoversAndPurges(t *testing.T) {
	r := newServedVaults(t)
	c := r.client(r.base, alice)
	made := createRSA(t, c, "k1")
	gone := must[azkeys.DeleteKeyResponse](t)(c.DeleteKey(t.Context(), "k1", nil))
	if gone.RecoveryID == nil || *gone.RecoveryID != r.base+"deletedkeys/k1" ||
		gone.ScheduledPurgeDate.Sub(*gone.DeletedDate).Hours() != 90*24 {
		t.Errorf("deleted: %+v", gone.DeletedKey)
	}
	_, err := c.GetKey(t.Context(), "k1", "", nil)
	wantError(t, err, http.StatusNotFound, "KeyNotFound", "")
	_, err = c.CreateKey(t.Context(), "k1", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil)
	wantError(t, err, http.StatusConflict, "Conflict", "ObjectIsDeletedButRecoverable")
	must[azkeys.GetDeletedKeyResponse](t)(c.GetDeletedKey(t.Context(), "k1", nil))
	must[azkeys.RecoverDeletedKeyResponse](t)(c.RecoverDeletedKey(t.Context(), "k1", nil))
	back := must[azkeys.GetKeyResponse](t)(c.GetKey(t.Context(), "K1", "", nil))
	if *back.Key.KID != *made.Key.KID {
		t.Errorf("recovered %s, want %s", *back.Key.KID, *made.Key.KID)
	}
	must[azkeys.DeleteKeyResponse](t)(c.DeleteKey(t.Context(), "k1", nil))
	must[azkeys.PurgeDeletedKeyResponse](t)(c.PurgeDeletedKey(t.Context(), "k1", nil))
	_, err = c.GetDeletedKey(t.Context(), "k1", nil)
	wantError(t, err, http.StatusNotFound, "KeyNotFound", "")
	if again := createRSA(t, c, "k1"); *again.Key.KID == *made.Key.KID {
		t.Error("a version was used again")
	}
}

func TestClientPages(t *testing.T) {
	r := newServedVaults(t)
	c := r.client(r.base, alice)
	var want []string
	for i := range 30 {
		name := "key-" + string(rune('a'+i/10)) + string(rune('0'+i%10))
		want = append(want, name)
		must[azkeys.CreateKeyResponse](t)(c.CreateKey(t.Context(), name,
			azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil))
	}
	var got []string
	pages := 0
	for pager := c.NewListKeyPropertiesPager(nil); pager.More(); pages++ {
		page := must[azkeys.ListKeyPropertiesResponse](t)(pager.NextPage(t.Context()))
		for _, k := range page.Value {
			got = append(got, k.KID.Name())
			if k.KID.Version() != "" {
				t.Errorf("%s has a version", *k.KID)
			}
		}
	}
	if !slices.Equal(got, want) || pages != 2 {
		t.Errorf("%d pages of %v", pages, got)
	}
	pager := c.NewListKeyPropertiesVersionsPager("nobody", nil)
	if page := must[azkeys.ListKeyPropertiesVersionsResponse](t)(pager.NextPage(t.Context())); len(page.Value) != 0 {
		t.Errorf("an unknown key has %d versions", len(page.Value))
	}
}

// openssl runs a program that shares no code with the vault.
func openssl(t *testing.T, args ...string) []byte {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = t.TempDir()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v", args[0], err)
	}
	return out
}

// TestClientImportsTransferBlob has the official client make a key exchange key, and import a key that was wrapped for
// it.
func TestClientImportsTransferBlob(t *testing.T) {
	r := newServedVaults(t)
	c := r.client(r.base, alice)
	exchange, err := c.CreateKey(t.Context(), "exchange", azkeys.CreateKeyParameters{
		Kty: to.Ptr(azkeys.KeyTypeRSA), KeyOps: []*azkeys.KeyOperation{to.Ptr(azkeys.KeyOperation("import"))},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	target, aesKey := filepath.Join(t.TempDir(), "target.der"), bytes.Repeat([]byte{7}, 32)
	openssl(t, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-outform", "DER", "-out", target)
	plain := openssl(t, "pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-in", target, "-outform", "DER")
	if err := os.WriteFile(target, plain, 0o600); err != nil {
		t.Fatal(err)
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &rsa.PublicKey{
		N: new(big.Int).SetBytes(exchange.Key.N), E: int(new(big.Int).SetBytes(exchange.Key.E).Int64()),
	}, aesKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	wrapped = append(wrapped, openssl(t, "enc", "-e", "-id-aes256-wrap-pad", "-K", hex.EncodeToString(aesKey),
		"-iv", "A65959A6", "-in", target)...)
	blob := fmt.Sprintf(`{"schema_version":"1.0.0","header":{"kid":%q,"alg":"dir","enc":"CKM_RSA_AES_KEY_WRAP",`+
		`"hash":"SHA-256"},"ciphertext":%q,"generator":"test"}`, *exchange.Key.KID,
		base64.RawURLEncoding.EncodeToString(wrapped))
	made, err := c.ImportKey(t.Context(), "faces", azkeys.ImportKeyParameters{
		Key: &azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeEC), Crv: to.Ptr(azkeys.CurveNameP256), T: []byte(blob)},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if *made.Key.Kty != azkeys.KeyTypeEC || *made.Key.Crv != azkeys.CurveNameP256 || made.Key.D != nil {
		t.Errorf("the key is of type %s on %s", *made.Key.Kty, *made.Key.Crv)
	}
	_, err = c.ImportKey(t.Context(), "faces", azkeys.ImportKeyParameters{
		HSM: to.Ptr(true), Key: &azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeECHSM), T: []byte(blob)},
	}, nil)
	wantError(t, err, http.StatusBadRequest, "BadParameter", "")
	_, err = c.WrapKey(t.Context(), "exchange", "", azkeys.KeyOperationParameters{
		Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: []byte("data key"),
	}, nil)
	wantError(t, err, http.StatusForbidden, "Forbidden", "")
}
