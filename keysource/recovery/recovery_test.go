package recovery_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/keysource/recovery"
)

const instance = "01234567-89ab-cdef-0123-456789abcdef"

// people are three recipients, made once: keys of 4096 bits take long.
var people = sync.OnceValue(func() (all []*rsa.PrivateKey) {
	all = make([]*rsa.PrivateKey, 3)
	var made sync.WaitGroup
	for i := range all {
		made.Go(func() {
			key, err := rsa.GenerateKey(rand.Reader, 4096)
			if err != nil {
				panic(err)
			}
			all[i] = key
		})
	}
	made.Wait()
	return all
})

func public(keys ...*rsa.PrivateKey) (all []*rsa.PublicKey) {
	for _, k := range keys {
		all = append(all, &k.PublicKey)
	}
	return all
}

func refused(t *testing.T, what string, err error, says string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) ||
		!errors.Is(err, keysource.ErrDenied) && !errors.Is(err, keysource.ErrWrong) {
		t.Errorf("%s: got %v, want it to say %q", what, err, says)
	}
}

func TestKit(t *testing.T) {
	root := bytes.Repeat([]byte{7, 9}, 16)
	all := people()
	kit, err := recovery.Make(instance, 3, root, public(all...), 2)
	if err != nil {
		t.Fatal(err)
	}
	file, err := json.Marshal(kit)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(file, root[:8]) || !strings.Contains(string(file), recovery.Notice) {
		t.Error("the file shows the root key, or lacks its notice")
	}
	if kit, err = recovery.Parse(file); err != nil {
		t.Fatal(err)
	}
	var shares []recovery.Share
	for _, key := range all {
		s, err := kit.OpenShare(key)
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, s)
	}
	for _, some := range [][]recovery.Share{shares[:2], shares[1:], {shares[2], shares[0]}, shares} {
		if got, err := kit.Open(some); err != nil || !bytes.Equal(got, root) {
			t.Errorf("%d shares: %v", len(some), err)
		}
	}
	_, err = kit.Open(shares[:1])
	refused(t, "one share of two", err, "needs 2 different shares, and has 1")
	_, err = kit.Open([]recovery.Share{shares[0], shares[0]})
	refused(t, "one share twice", err, "needs 2 different shares, and has 1")

	other, err := recovery.Make(instance, 3, root, public(all...), 2)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.OpenShare(all[0])
	if err != nil {
		t.Fatal(err)
	}
	_, err = kit.Open([]recovery.Share{foreign, shares[1]})
	refused(t, "a share of another kit", err, "is of the kit "+other.ID)
	foreign.Kit = kit.ID
	_, err = kit.Open([]recovery.Share{foreign, shares[1]})
	refused(t, "a share that says it is of this kit", err, "do not open this kit")
	swapped := kit
	swapped.Shares = append([]recovery.Sealed(nil), kit.Shares...)
	swapped.Shares[0].Sealed = other.Shares[0].Sealed
	_, err = swapped.OpenShare(all[0])
	refused(t, "a sealed share of another kit", err, "damaged, or of another kit")
	for name, change := range map[string]func(*recovery.Kit){
		"instance":  func(k *recovery.Kit) { k.Instance = strings.Replace(instance, "0", "1", 1) },
		"version":   func(k *recovery.Kit) { k.Version++ },
		"threshold": func(k *recovery.Kit) { k.Threshold = 1 },
		"time":      func(k *recovery.Kit) { k.Made = k.Made.AddDate(1, 0, 0) },
		"recipient": func(k *recovery.Kit) { k.Shares = k.Shares[:2] },
	} {
		changed := kit
		change(&changed)
		_, err := changed.Open(shares)
		refused(t, "a kit with another "+name, err, "the kit was changed")
	}
}

func TestWhoCanReceive(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, key any) []byte {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	_, err = recovery.ParseRecipient(encode("PUBLIC KEY", &small.PublicKey))
	refused(t, "a small key", err, "RSA of 4096 to 8192 bits")
	_, err = recovery.ParseRecipient([]byte("ssh-rsa AAAA"))
	refused(t, "no PEM", err, "one PUBLIC KEY in PEM")
	all := people()
	key, err := recovery.ParseRecipient(encode("PUBLIC KEY", &all[0].PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	root := make([]byte, 32)
	_, err = recovery.Make(instance, 1, root, nil, 1)
	refused(t, "nobody", err, "1 to 255 recipients")
	_, err = recovery.Make(instance, 1, root, []*rsa.PublicKey{key, key}, 1)
	refused(t, "somebody twice", err, "named twice")
	_, err = recovery.Make(instance, 1, root, []*rsa.PublicKey{key}, 2)
	refused(t, "a threshold of too many", err, "between 1 and 1")
	kit, err := recovery.Make(instance, 1, root, []*rsa.PublicKey{key}, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = kit.OpenShare(all[1])
	refused(t, "somebody else", err, "of no recipient")
}

// FuzzParse: what is read as a kit has the form of one.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"notice":"` + recovery.Notice + `","format":1,"threshold":1,"shares":[{"number":1}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := recovery.Parse(text)
		if err == nil && (k.Threshold < 1 || len(k.Shares) < k.Threshold) {
			t.Errorf("accepted %d shares with threshold %d", len(k.Shares), k.Threshold)
		}
		if err == nil {
			if _, err := k.Open(nil); err == nil {
				t.Error("opens without a share")
			}
		}
	})
}

// TestWeakRecipient: a public key that has the length alone is refused in a sentence.
func TestWeakRecipient(t *testing.T) {
	good := people()[0].PublicKey
	even := new(big.Int).Sub(good.N, big.NewInt(1))
	for name, weak := range map[string]*rsa.PublicKey{
		"exponent 1": {N: good.N, E: 1}, "even exponent": {N: good.N, E: 4}, "even modulus": {N: even, E: 65_537},
	} {
		_, err := recovery.Make("instance", 1, make([]byte, 32), []recovery.Recipient{weak}, 1)
		if !errors.Is(err, keysource.ErrDenied) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
}
