//go:build linux

package replicas_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestTwoReplicas takes two replicas through what a customer and an operator do.
func TestTwoReplicas(t *testing.T) {
	t.Parallel() // most of the time it waits
	photo := portrait(t)
	c := newCluster(t, 2, false, newDatabase(t))
	c.startAll()
	a, b := newSite(t, c.replicas[0]), newSite(t, c.replicas[1])
	if a.op.ClientSecret != b.op.ClientSecret || a.op.TenantID != b.op.TenantID {
		t.Fatal("the replicas have operators of their own")
	}

	person := a.enrol(photo)
	for _, s := range []*site{b, a} {
		s.wantFound(photo, person)
	}
	must(a.face(t.Context(), "DELETE", "persongroups/guests/persons/"+person, nil)).want(t, 200)
	for _, s := range []*site{b, a} { // at once
		s.wantFound(photo)
	}

	former := *b.client
	fresh := must(a.arm(t.Context(), "POST", account("default")+"/regenerateKey", `{"keyName":"key1"}`)).want(t, 200)
	a.key, b.key = fresh.text("key1"), fresh.text("key1")
	b.wantFound(photo)
	soon(t, "the end of the former key at the other replica", func() bool {
		return must(former.face(t.Context(), "GET", "persongroups/guests", nil)).status == 401
	})

	revokedForBoth(t, a, b, photo)

	person = a.person(photo)
	a.train()
	var listed struct {
		Value []struct{ State, Listen string }
	}
	err := json.Unmarshal(c.replicas[1].run(t, "cluster", "-o", "json"), &listed)
	if err != nil || len(listed.Value) != 2 || listed.Value[0].Listen != "https://"+c.replicas[1].listen ||
		listed.Value[1].State != "serving" {
		t.Errorf("visage cluster lists %+v (%v)", listed, err)
	}

	// A is killed while it trains.
	must(a.face(t.Context(), "POST", "persongroups/guests/train", nil)).want(t, 202)
	c.replicas[0].kill()
	soon(t, "the training that the killed replica began", func() bool {
		return must(b.face(t.Context(), "GET", "persongroups/guests/training", nil)).text("status") == "succeeded"
	})
	b.wantFound(photo, person)

	if err := c.replicas[0].start(); err != nil {
		t.Fatal(err)
	}
	again := newSite(t, c.replicas[0])
	again.wantFound(photo, person)
	for _, r := range c.replicas {
		r.stop()
		if damage := r.damage.String(); damage != "" {
			t.Errorf("replica %s found damage:\n%s", r.name, damage)
		}
	}
}

// revokedForBoth gives a resource a customer's key at one replica. The other one opens its data, and both refuse it
// while the key is disabled.
func revokedForBoth(t *testing.T, a, b *site, photo []byte) {
	t.Helper()
	a.vaultFor("safe")
	own := a.resourceUnder("vip")
	one := &site{own, t, a.name}
	person := one.enrol(photo)
	other := &site{b.of(own.key), t, b.name}
	serves := func(s *site) bool {
		found, _, err := s.identified(t.Context(), "guests", photo)
		return err == nil && slices.Equal(found, []string{person})
	}
	soon(t, "the customer's key at the other replica", func() bool { return serves(other) })
	for _, on := range []bool{false, true} {
		enabled := fmt.Sprintf(`{"attributes":{"enabled":%t}}`, on)
		must(a.vault(t.Context(), "safe", "PATCH", "/keys/vip/", enabled)).want(t, 200)
		for _, s := range []*site{one, other} {
			soon(t, fmt.Sprintf("the customer's key, enabled: %t, at replica %s", on, s.name), func() bool {
				got := must(s.face(t.Context(), "GET", "persongroups/guests", nil))
				return on && serves(s) || !on && got.status == 403 && got.text("error.code") == "EncryptionKeyRevoked"
			})
		}
	}
}

// site is what somebody does at one replica.
type site struct {
	*client
	t    *testing.T
	name string
}

func newSite(t *testing.T, r *replica) *site {
	t.Helper()
	c, err := r.client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.http.CloseIdleConnections)
	keys := must(c.arm(t.Context(), http.MethodPost, account("default")+"/listKeys", nil)).want(t, 200)
	c.key = keys.text("key1")
	return &site{c, t, r.name}
}

// enrol stores a person in a group that it makes, trains, and returns the person's id.
func (s *site) enrol(photo []byte) string {
	s.t.Helper()
	ctx := s.t.Context()
	group := `{"name":"guests","recognitionModel":"recognition_04"}`
	must(s.face(ctx, "PUT", "persongroups/guests", group)).want(s.t, 200)
	person := s.person(photo)
	s.train()
	return person
}

// person stores a person with a face.
func (s *site) person(photo []byte) string {
	s.t.Helper()
	ctx := s.t.Context()
	id := must(s.face(ctx, "POST", "persongroups/guests/persons", `{"name":"Ann"}`)).want(s.t, 200).text("personId")
	must(s.face(ctx, "POST", "persongroups/guests/persons/"+id+"/persistedfaces", photo)).want(s.t, 200)
	return id
}

func (s *site) train() {
	s.t.Helper()
	must(s.face(s.t.Context(), "POST", "persongroups/guests/train", nil)).want(s.t, 202)
	soon(s.t, "the training", func() bool {
		return must(s.face(s.t.Context(), "GET", "persongroups/guests/training", nil)).text("status") == "succeeded"
	})
}

// wantFound wants exactly these people to be identified, now.
func (s *site) wantFound(photo []byte, want ...string) {
	s.t.Helper()
	got, refused, err := s.identified(s.t.Context(), "guests", photo)
	if err != nil || refused.status != 0 || !slices.Equal(got, want) {
		s.t.Fatalf("replica %s identifies %q, want %q (%v %v)", s.name, got, want, refused, err)
	}
}

// vaultFor makes a vault in which the operator may do everything.
func (s *site) vaultFor(name string) {
	s.t.Helper()
	must(s.arm(s.t.Context(), "PUT", "Microsoft.KeyVault/vaults/"+name, fmt.Sprintf(`{"location":"westus2",
		"properties":{"tenantId":%[1]q,"sku":{"family":"A","name":"premium"},"enablePurgeProtection":true,
		"accessPolicies":[
		{"tenantId":%[1]q,"objectId":%[2]q,"permissions":{"keys":["all","rotate"]}}]}}`,
		s.op.TenantID, s.op.ClientID))).want(s.t, 201)
}

// resourceUnder makes a resource under a customer's key of its own name in the vault safe, and returns its client.
func (s *site) resourceUnder(name string) *client {
	t, ctx := s.t, s.t.Context()
	t.Helper()
	who := must(s.arm(ctx, "PUT", account(name), `{"kind":"Face","location":"West US 2","sku":{"name":"E0"},`+
		`"identity":{"type":"SystemAssigned"},"properties":{}}`)).want(t, 201).text("identity.principalId")
	must(s.arm(ctx, "PUT", "Microsoft.KeyVault/vaults/safe/accessPolicies/add", fmt.Sprintf(`{"properties":{
		"accessPolicies":[{"tenantId":%q,"objectId":%q,"permissions":{"keys":["get","wrapKey","unwrapKey"]}}]}}`,
		s.op.TenantID, who))).want(t, 200)
	must(s.vault(ctx, "safe", "POST", "/keys/"+name+"/create", `{"kty":"RSA","key_size":2048}`)).want(t, 200)
	must(s.arm(ctx, "PATCH", account(name), `{"properties":{"encryption":{"keySource":"Microsoft.KeyVault",`+
		`"keyVaultProperties":{"keyVaultUri":"https://safe.`+vaultDomain+`/","keyName":"`+name+`","keyVersion":""}}}}`))
	soon(t, "the key of the resource "+name, func() bool {
		now := must(s.arm(ctx, "GET", account(name), nil))
		return now.text("properties.provisioningState") == "Succeeded" &&
			now.text("properties.encryption.keySource") == "Microsoft.KeyVault"
	})
	return s.of(must(s.arm(ctx, "POST", account(name)+"/listKeys", nil)).want(t, 200).text("key1"))
}

// portrait is a photo of one person.
func portrait(t *testing.T) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "models", "node_modules", "@vladmandic", "face-api", "demo",
		"sample1.jpg"))
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no models: run make setup")
		}
		t.Skip("no models: run make setup")
	}
	defer f.Close()
	img, err := jpeg.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	part, ok := img.(interface {
		SubImage(image.Rectangle) image.Image
	})
	if !ok {
		t.Fatalf("cannot cut a part out of a %T", img)
	}
	var out bytes.Buffer
	// one of the three people on it
	if err := jpeg.Encode(&out, part.SubImage(image.Rect(1350, 100, 1800, 560)), nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
