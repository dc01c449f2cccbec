package keyvault_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/fips140"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keyvault"
)

// The key and the answers below are those of the Wycheproof project for RSAES-OAEP with SHA-256 and MGF1 with SHA-256,
// 2048 bits (rsa_oaep_2048_sha256_mgf1sha256_test.json, tests 3, 5 and 7).
const (
	knownN = "orRRoH0KpfluRVZxUTVQUUqKW0YuvvcXCU-h_ugiJOY3-XRtP3yv0xh42AMltu9aFwD2WQO0aUKeidbqyIRQl7WrOTGJ25JRLtincRoSU_rNIPecFegkfz0-QuRuSMmOJUov6XZTE6A-_48X4aApOXofomqNzib0kO2BKZYV2YFMItphBCjgnH2WWFlCZvXAIdD87KCNlFoSvoLeTR7Oa0wDFFtdNJXU7VQR64eNrwX9evw-Ca2g8RJkIvWQl1oZaYFvSGmLy7obTZyuedRg2Pn4Xnl1AF2bwixOWsD3waRdElaaYoB9O5oC5aUw53MGb0U9H1tMLpz3ggKD90K51Q"
	knownD = "JM3GIxf11ypva6bMljKJmwHR_yiGfXL2FoiZW8hVpOQgqEBSUAib2xPPjglUOCe3SLnSf7srTZ4gr4xaaoYnltGkzBitFupni8G9SoO7vpxeV0U7XOc4jkGjukzit3tEOKIp6VT3INrgNT3AiKyKdrJtwnb44beFHd1jmK0W_y54GVEjubA26UXDjJ0SQ09t92_iI1nrPhrJwBFnj8km-tOuR1pP__9V_rLRR-nIlPTA4ppZnnYkYkgtlov0J4CUX8DSwxxXPEQxuPT-i4xnvsgVq9RPeobtyhwjCHNzWNLCrl4uDi2t9zCYAmI3flixO32ZkgYKC8hwzP20qTGe4Q"
	knownP = "3EMQUPeC6JT7UkgkfZjLfVi40eJPO1XQQcVuTeCGsNW7AovaQu610jTVaB5YCdQV5qKJrUz794-Xj2w1gU9Q7r_xxbgKafeI6B5rq13ap4Np1lnRQ-xvF-eYE6V1z62cVpFWuQET4ukRCtnntIock0im5lMyEZEpDqNs-zpbGPE"
	knownQ = "vRqB55d_mJgSInOuMiK1mOpfsZ606rw4MIpeMhlmA7LlAP-3n1uIaBZhHevEcvrEVUQHC-sFfJQTeKaGivO3oD0_mIDsR9XgiblPveVCq6mujXLFcIjXq_WxMfOQmPe8Fg-QU2q8lJL9Tgbz7XKZ1Ll7sDZ3IH2VZp8UDPvCDyU"
)

var knownAnswers = map[string]string{
	"54657374":       "5eab3f0741e63986ed647d53e1cd71df041986900803d0f99c68355d249a15a47dc5b4f70a191477654299e5a2731f3b4eec76dea18262fc696ac794e5f66cbfcddac4472c578e246c26707598055584540b839836b1404c5611ae558a984cee8fd036cea924e0be2474a940f61e0acc14fcae95ebdc59942a9ce9af9a9c81999f7f6815f057ffdc2533cb15d6391d1e2d95f16f9c04209c889a4c359c7d2926d28a66e2b030a416b928d2825627998e5191fb4983a6e65024262d94fc09187a2d78162122433251d1bfcc8e507d06eba2d229c10031261da32ab8ccd15f1c5f9fbf07ed158483d736a110af4b44d6a4da60d6cb519b4454213cf9f0dc560f2b",
	"4d657373616765": "121196e51a3f4476bfb6adddfdeb3a25dad72d1ea315d652f331a43631ad36724b3d14532110dc44e407b1184618f115677b33751fb0e8786ba220cfa7fc3fce22822eabdd4fc2761c7f34a04e8f13c1021c31adc123a32d871f0da6cdacab9c020222da52afd5c307a6e55e4566944403fda426ee2c6c973ccaaafe2d081ed8c5b1dc00662424e395faed86c9ae19a3a95950c83d2a9ad5c7e7f670faeb123acef07fe7795ad298aafe543504d7811336b3e2ecb1622bc90599a185b34700f8f4c52a651d73ea57e8cfa80e61d9da61f36951c7194ae4dee3c6e67b5757a39685dd3fe01cb87620a54666ff8132e93d7081d38ddc9f079431075e96cca78f59",
	"e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff": "096958786ee7972050d67a9e4b69d6c6af7db7cc674386df725770dd29129b826e39552330104c8d71e6cc3a3014dd2f61b54153af51b0438d447ee939f9e3c13bb8b00a37dea6a068f6c9d27e848b1be7a1eeeb3ee50b78036fba95ae46948ca5b13f356ea24db10f60dc09e4b8bad8f766b668ef72524432080a0ce00ed676d6d5e354984b1078520412525848156d06f0652469f95791baa3d9a798ae537094f76f976faecd5c9ce0c930a75910c63dacf63485cb4b5e7bdbcf4d80e74037eaa1a8fe4b52930bec6be99cf6ac88cf5878dbf6859d456a95dbc34654eec425de84ca2a535d517403a9aada827e7d0093ecfc97ed056a7652825e9a45cb2dcb",
}

func unbase64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	ok(t, err)
	return b
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	ok(t, err)
	return b
}

func knownKey(t *testing.T) keyvault.JWK {
	return keyvault.JWK{
		Type: "RSA", N: unbase64(t, knownN), E: []byte{1, 0, 1}, D: unbase64(t, knownD), P: unbase64(t, knownP),
		Q: unbase64(t, knownQ),
	}
}

func TestKnownAnswers(t *testing.T) {
	r := newRig(t)
	want := keyvault.ImportedKey{JWK: knownKey(t), Attributes: keyvault.Attributes{Enabled: true}}
	k, err := r.ImportKey(t.Context(), caller(alice), key("k"), want)
	if err != nil || !bytes.Equal(k.Public.N, want.JWK.N) || !bytes.Equal(k.Public.E, []byte{1, 0, 1}) {
		t.Fatalf("import: %+v, %v", k.Ref, err)
	}
	for message, sealed := range knownAnswers {
		_, out, err := r.Use(t.Context(), caller(alice), key("k"), keyvault.Unwrap, "RSA-OAEP-256", unhex(t, sealed))
		if err != nil || !bytes.Equal(out, unhex(t, message)) {
			t.Errorf("got %x, %v, want %s", out, err, message)
		}
		if fips140.Enforced() {
			continue
		}
		_, _, err = r.Use(t.Context(), caller(alice), key("k"), keyvault.Unwrap, "RSA-OAEP", unhex(t, sealed))
		wantRefusal(t, err, visage.Invalid, "BadParameter", "")
	}
}

// TestImportsFitTogether: parts that do not belong together are refused, whichever is wrong.
func TestImportsFitTogether(t *testing.T) {
	r := newRig(t)
	scalar := bytes.Repeat([]byte{7}, 32)
	curve, err := ecdh.P256().NewPrivateKey(scalar)
	ok(t, err)
	point := curve.PublicKey().Bytes() // 4, x, y
	ec := keyvault.JWK{Type: "EC", Curve: "P-256", D: scalar, X: point[1:33], Y: point[33:]}
	change := func(j keyvault.JWK, part func(*keyvault.JWK) *[]byte) keyvault.JWK {
		p := part(&j)
		*p = slices.Clone(*p)
		(*p)[len(*p)-1] ^= 2
		return j
	}
	for _, c := range []struct {
		name string
		jwk  keyvault.JWK
		fits bool
	}{
		{"RSA", knownKey(t), true},
		{"RSA, another n", change(knownKey(t), func(j *keyvault.JWK) *[]byte { return &j.N }), false},
		{"RSA, another d", change(knownKey(t), func(j *keyvault.JWK) *[]byte { return &j.D }), false},
		{"RSA, another p", change(knownKey(t), func(j *keyvault.JWK) *[]byte { return &j.P }), false},
		{"RSA, another q", change(knownKey(t), func(j *keyvault.JWK) *[]byte { return &j.Q }), false},
		{"RSA, another e", change(knownKey(t), func(j *keyvault.JWK) *[]byte { return &j.E }), false},
		{"RSA, public parts alone", keyvault.JWK{Type: "RSA", N: knownKey(t).N, E: []byte{1, 0, 1}}, false},
		{"RSA of 512 bits", keyvault.JWK{Type: "RSA", N: bytes.Repeat([]byte{255}, 64), E: []byte{1, 0, 1}, D: []byte{3},
			P: []byte{5}, Q: []byte{7}}, false},
		{"EC", ec, true},
		{"EC, another x", change(ec, func(j *keyvault.JWK) *[]byte { return &j.X }), false},
		{"EC, another y", change(ec, func(j *keyvault.JWK) *[]byte { return &j.Y }), false},
		{"EC, another d", change(ec, func(j *keyvault.JWK) *[]byte { return &j.D }), false},
		{"EC, d of zero", keyvault.JWK{Type: "EC", Curve: "P-256", D: make([]byte, 32), X: ec.X, Y: ec.Y}, false},
		{"EC, d above the order", keyvault.JWK{Type: "EC", Curve: "P-256", D: bytes.Repeat([]byte{255}, 32), X: ec.X, Y: ec.Y}, false},
		{"EC, d too long", keyvault.JWK{Type: "EC", Curve: "P-256", D: bytes.Repeat([]byte{255}, 99), X: ec.X, Y: ec.Y}, false},
		{"EC of another curve", keyvault.JWK{Type: "EC", Curve: "P-384", D: ec.D, X: ec.X, Y: ec.Y}, false},
		{"oct", keyvault.JWK{Type: "oct", D: scalar}, false},
		{"nothing", keyvault.JWK{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := keyvault.ImportedKey{JWK: c.jwk, Attributes: keyvault.Attributes{Enabled: true}}
			_, err := r.ImportKey(t.Context(), caller(alice), key("k"), want)
			if c.fits {
				ok(t, err)
				return
			}
			wantRefusal(t, err, visage.Invalid, "BadParameter", "")
		})
	}
}

func FuzzParsePeriod(f *testing.F) {
	for _, s := range []string{"P90D", "P2Y", "P1Y2M3W4D", "p7d", "P", "P0D", "PT48H", "P-1D", "P99999D", "P1D2Y", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := keyvault.ParsePeriod(s)
		if err != nil {
			if p != "" {
				t.Errorf("%q: got %q with the error", s, p)
			}
			return
		}
		if again, err := keyvault.ParsePeriod(string(p)); err != nil || again != p {
			t.Errorf("%q comes back as %q, %v", p, again, err)
		}
	})
}
