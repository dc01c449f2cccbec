package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"hash"
	"hash/crc32"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/iam/apiv1/iampb"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// cryptoKey is a key with its versions.
type cryptoKey struct {
	*kmspb.CryptoKey
	versions []*keyVersion // by number, from 1
}

type keyVersion struct {
	*kmspb.CryptoKeyVersion
	aead    cipher.AEAD
	private *rsa.PrivateKey
}

// defaultDestroy is the time from an order to destroy a version until it is gone, unless a key has another.
const defaultDestroy = 30 * 24 * time.Hour

// method carries out a method of google.cloud.kms.v1.KeyManagementService by its HTTP rule.
func (c *cloud) method(t token, r *http.Request, name, verb string, raw []byte) (proto.Message, error) {
	segments := strings.Split(name, "/")
	collection := segments[len(segments)-1]
	switch {
	case r.Method == http.MethodPost && verb == "" && collection == "cryptoKeys":
		return c.createKey(t, parent(name+"/x"), r.URL.Query().Get("cryptoKeyId"), raw)
	case r.Method == http.MethodPost && verb == "" && collection == "cryptoKeyVersions":
		return c.createVersion(t, parent(name+"/x"))
	case verb == "setIamPolicy":
		return c.setPolicy(t, name, raw)
	case len(segments) < 8 || segments[6] != "cryptoKeys":
		return nil, fail("NOT_FOUND", "Requested entity was not found.")
	}
	keyName := strings.Join(segments[:8], "/")
	k, v := c.keys[keyName], (*keyVersion)(nil)
	if len(segments) >= 10 && segments[8] == "cryptoKeyVersions" && k != nil {
		if n, err := strconv.Atoi(segments[9]); err == nil && n >= 1 && n <= len(k.versions) {
			v = k.versions[n-1]
		}
	}
	ofVersion := len(segments) >= 10
	permission := map[string]string{
		"": "cloudkms.cryptoKeys.get", "encrypt": "cloudkms.cryptoKeyVersions.useToEncrypt",
		"decrypt":           "cloudkms.cryptoKeyVersions.useToDecrypt",
		"asymmetricDecrypt": "cloudkms.cryptoKeyVersions.useToDecrypt",
	}[verb]
	switch {
	case ofVersion && collection == "publicKey":
		permission = "cloudkms.cryptoKeyVersions.viewPublicKey"
	case ofVersion && verb == "":
		permission = "cloudkms.cryptoKeyVersions.get"
	}
	if r.Method == http.MethodPatch || permission == "" {
		permission = "cloudkms.cryptoKeyVersions.update"
	}
	if err := c.allow(t, permission, keyName); err != nil {
		return nil, err
	}
	if k == nil || ofVersion && v == nil {
		return nil, fail("NOT_FOUND", "%s not found.", name)
	}
	switch {
	case verb == "encrypt":
		return c.encrypt(k, v, raw)
	case verb == "decrypt" && v == nil:
		return c.decrypt(k, raw)
	case verb == "asymmetricDecrypt" && v != nil:
		return c.asymmetricDecrypt(v, raw)
	case verb == "updatePrimaryVersion" && v == nil:
		return k.setPrimary(raw)
	case verb == "destroy" && v != nil:
		v.State, v.DestroyTime = kmspb.CryptoKeyVersion_DESTROY_SCHEDULED,
			timestamppb.New(time.Now().Add(k.DestroyScheduledDuration.AsDuration()))
		return v.CryptoKeyVersion, nil
	case verb == "restore" && v != nil:
		v.State, v.DestroyTime = kmspb.CryptoKeyVersion_DISABLED, nil
		return v.CryptoKeyVersion, nil
	case r.Method == http.MethodPatch && v != nil:
		var want kmspb.CryptoKeyVersion
		if err := protojson.Unmarshal(raw, &want); err != nil {
			return nil, fail("INVALID_ARGUMENT", "%v", err)
		}
		v.State = want.State
		return v.CryptoKeyVersion, nil
	case r.Method == http.MethodGet && v != nil && collection == "publicKey":
		return v.public()
	case r.Method == http.MethodGet && v != nil:
		return v.CryptoKeyVersion, nil
	case r.Method == http.MethodGet:
		return k.CryptoKey, nil
	}
	return nil, fail("UNIMPLEMENTED", "%s %s %s", r.Method, name, verb)
}

func (c *cloud) createKey(t token, ring, id string, raw []byte) (proto.Message, error) {
	k := &cryptoKey{CryptoKey: &kmspb.CryptoKey{}}
	if err := protojson.Unmarshal(raw, k.CryptoKey); err != nil || id == "" {
		return nil, fail("INVALID_ARGUMENT", "crypto_key_id %q, %v", id, err)
	}
	k.Name = ring + "/cryptoKeys/" + id
	if err := c.allow(t, "cloudkms.cryptoKeys.create", ring); err != nil {
		return nil, err
	}
	if c.keys[k.Name] != nil {
		return nil, fail("ALREADY_EXISTS", "CryptoKey %s already exists.", k.Name)
	}
	if k.DestroyScheduledDuration == nil {
		k.DestroyScheduledDuration = durationpb.New(defaultDestroy)
	}
	if k.VersionTemplate == nil {
		k.VersionTemplate = &kmspb.CryptoKeyVersionTemplate{}
	}
	if k.VersionTemplate.Algorithm == 0 && k.Purpose == kmspb.CryptoKey_ENCRYPT_DECRYPT {
		k.VersionTemplate.Algorithm = kmspb.CryptoKeyVersion_GOOGLE_SYMMETRIC_ENCRYPTION
	}
	if k.VersionTemplate.ProtectionLevel == 0 {
		k.VersionTemplate.ProtectionLevel = kmspb.ProtectionLevel_SOFTWARE
	}
	k.CreateTime = timestamppb.Now()
	v, err := k.newVersion()
	if err != nil {
		return nil, err
	}
	if k.Purpose == kmspb.CryptoKey_ENCRYPT_DECRYPT {
		k.Primary = v.CryptoKeyVersion
	}
	c.keys[k.Name] = k
	return k.CryptoKey, nil
}

func (c *cloud) createVersion(t token, name string) (proto.Message, error) {
	if err := c.allow(t, "cloudkms.cryptoKeyVersions.create", name); err != nil {
		return nil, err
	}
	k := c.keys[name]
	if k == nil {
		return nil, fail("NOT_FOUND", "CryptoKey %s not found.", name)
	}
	v, err := k.newVersion()
	if err != nil {
		return nil, err
	}
	return v.CryptoKeyVersion, nil
}

// newVersion adds a version, as the key's template says.
func (k *cryptoKey) newVersion() (*keyVersion, error) {
	v := &keyVersion{CryptoKeyVersion: &kmspb.CryptoKeyVersion{
		Name:  k.Name + "/cryptoKeyVersions/" + strconv.Itoa(len(k.versions)+1),
		State: kmspb.CryptoKeyVersion_ENABLED, Algorithm: k.VersionTemplate.Algorithm,
		ProtectionLevel: k.VersionTemplate.ProtectionLevel, CreateTime: timestamppb.Now(),
	}}
	k.versions = append(k.versions, v)
	if rest, found := strings.CutPrefix(v.Algorithm.String(), "RSA_DECRYPT_OAEP_"); found {
		size, _, _ := strings.Cut(rest, "_")
		bits, err := strconv.Atoi(size)
		if err != nil {
			return nil, err
		}
		v.private, err = rsa.GenerateKey(rand.Reader, bits)
		return v, err
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	v.aead, err = cipher.NewGCM(block)
	return v, err
}

func (c *cloud) setPolicy(t token, name string, raw []byte) (proto.Message, error) {
	if err := c.allow(t, "cloudkms.cryptoKeys.setIamPolicy", name); err != nil {
		return nil, err
	}
	var request iampb.SetIamPolicyRequest
	if err := protojson.Unmarshal(raw, &request); err != nil {
		return nil, fail("INVALID_ARGUMENT", "%v", err)
	}
	c.policies[name] = request.Policy
	return request.Policy, nil
}

func (k *cryptoKey) setPrimary(raw []byte) (proto.Message, error) {
	var request kmspb.UpdateCryptoKeyPrimaryVersionRequest
	if err := protojson.Unmarshal(raw, &request); err != nil {
		return nil, fail("INVALID_ARGUMENT", "%v", err)
	}
	n, err := strconv.Atoi(request.CryptoKeyVersionId)
	if err != nil || n < 1 || n > len(k.versions) {
		return nil, fail("NOT_FOUND", "CryptoKeyVersion %q not found.", request.CryptoKeyVersionId)
	}
	k.Primary = k.versions[n-1].CryptoKeyVersion
	return k.CryptoKey, nil
}

// usable fails unless a version may be used.
func (c *cloud) usable(v *keyVersion) error {
	if v.State == kmspb.CryptoKeyVersion_ENABLED || c.lags && v.State == kmspb.CryptoKeyVersion_DISABLED {
		return nil
	}
	return fail("FAILED_PRECONDITION", "%s is not enabled, current state is: %s.", v.Name, v.State)
}

// sums fails unless data has the checksum that a request says.
func sums(what string, data []byte, sum *wrapperspb.Int64Value) error {
	if sum != nil && sum.Value != checksum(data).Value {
		return fail("INVALID_ARGUMENT", "The checksum in field %s_crc32c did not match the data in field %s.", what,
			what)
	}
	return nil
}

func checksum(data []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))))
}

func (c *cloud) encrypt(k *cryptoKey, v *keyVersion, raw []byte) (proto.Message, error) {
	var request kmspb.EncryptRequest
	if err := protojson.Unmarshal(raw, &request); err != nil {
		return nil, fail("INVALID_ARGUMENT", "%v", err)
	}
	if err := sums("plaintext", request.Plaintext, request.PlaintextCrc32C); err != nil {
		return nil, err
	}
	aad := request.AdditionalAuthenticatedData
	if err := sums("additional_authenticated_data", aad, request.AdditionalAuthenticatedDataCrc32C); err != nil {
		return nil, err
	}
	if v == nil {
		n, err := strconv.Atoi(k.Primary.GetName()[strings.LastIndexByte(k.Primary.GetName(), '/')+1:])
		if err != nil {
			return nil, fail("FAILED_PRECONDITION", "%s has no primary version.", k.Name)
		}
		v = k.versions[n-1]
	}
	if err := c.usable(v); err != nil {
		return nil, err
	}
	if v.aead == nil || k.Purpose != kmspb.CryptoKey_ENCRYPT_DECRYPT {
		return nil, fail("FAILED_PRECONDITION", "%s has the purpose %s.", k.Name, k.Purpose)
	}
	number := v.Name[strings.LastIndexByte(v.Name, '/')+1:]
	n, _ := strconv.Atoi(number) // of newVersion
	sealed := make([]byte, 4+v.aead.NonceSize())
	binary.BigEndian.PutUint32(sealed, uint32(n))
	_, _ = rand.Read(sealed[4:]) // never fails
	sealed = v.aead.Seal(sealed, sealed[4:], request.Plaintext, aad)
	return &kmspb.EncryptResponse{
		Name: v.Name, Ciphertext: sealed, CiphertextCrc32C: checksum(sealed),
		VerifiedPlaintextCrc32C:                   request.PlaintextCrc32C != nil,
		VerifiedAdditionalAuthenticatedDataCrc32C: request.AdditionalAuthenticatedDataCrc32C != nil,
		ProtectionLevel:                           v.ProtectionLevel,
	}, nil
}

func (c *cloud) decrypt(k *cryptoKey, raw []byte) (proto.Message, error) {
	var request kmspb.DecryptRequest
	if err := protojson.Unmarshal(raw, &request); err != nil {
		return nil, fail("INVALID_ARGUMENT", "%v", err)
	}
	if err := sums("ciphertext", request.Ciphertext, request.CiphertextCrc32C); err != nil {
		return nil, err
	}
	aad := request.AdditionalAuthenticatedData
	if err := sums("additional_authenticated_data", aad, request.AdditionalAuthenticatedDataCrc32C); err != nil {
		return nil, err
	}
	wrong := fail("INVALID_ARGUMENT", "Decryption failed: verify that 'name' refers to the correct CryptoKey.")
	if len(request.Ciphertext) < 17 {
		return nil, wrong
	}
	n := int(binary.BigEndian.Uint32(request.Ciphertext))
	if n < 1 || n > len(k.versions) || k.versions[n-1].aead == nil {
		return nil, wrong
	}
	v := k.versions[n-1]
	if err := c.usable(v); err != nil {
		return nil, err
	}
	nonce, sealed := request.Ciphertext[4:4+v.aead.NonceSize()], request.Ciphertext[4+v.aead.NonceSize():]
	plaintext, err := v.aead.Open(nil, nonce, sealed, aad)
	if err != nil {
		return nil, fail("INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid.")
	}
	return &kmspb.DecryptResponse{Plaintext: plaintext, PlaintextCrc32C: checksum(plaintext),
		UsedPrimary: k.Primary.GetName() == v.Name, ProtectionLevel: v.ProtectionLevel}, nil
}

func (c *cloud) asymmetricDecrypt(v *keyVersion, raw []byte) (proto.Message, error) {
	var request kmspb.AsymmetricDecryptRequest
	if err := protojson.Unmarshal(raw, &request); err != nil {
		return nil, fail("INVALID_ARGUMENT", "%v", err)
	}
	if err := sums("ciphertext", request.Ciphertext, request.CiphertextCrc32C); err != nil {
		return nil, err
	}
	if err := c.usable(v); err != nil {
		return nil, err
	}
	if v.private == nil {
		return nil, fail("FAILED_PRECONDITION", "%s is not for decryption.", v.Name)
	}
	plaintext, err := rsa.DecryptOAEP(v.digest(), nil, v.private, request.Ciphertext, nil)
	if err != nil {
		return nil, fail("INVALID_ARGUMENT", "Decryption failed.")
	}
	return &kmspb.AsymmetricDecryptResponse{Plaintext: plaintext, PlaintextCrc32C: checksum(plaintext),
		VerifiedCiphertextCrc32C: request.CiphertextCrc32C != nil, ProtectionLevel: v.ProtectionLevel}, nil
}

func (v *keyVersion) digest() hash.Hash {
	if strings.HasSuffix(v.Algorithm.String(), "SHA512") {
		return sha512.New()
	}
	return sha256.New()
}

func (v *keyVersion) public() (proto.Message, error) {
	if v.private == nil {
		return nil, fail("FAILED_PRECONDITION", "%s has no public key.", v.Name)
	}
	der, err := x509.MarshalPKIXPublicKey(&v.private.PublicKey)
	if err != nil {
		return nil, err
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return &kmspb.PublicKey{Name: v.Name, Pem: text, PemCrc32C: checksum([]byte(text)), Algorithm: v.Algorithm,
		ProtectionLevel: v.ProtectionLevel}, nil
}
