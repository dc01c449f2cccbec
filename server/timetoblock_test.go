package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
	"github.com/visage-face/visage/test/keystores"
)

// realTimeVariable is the number of resources for each store in the tests that wait for minutes of real time.
const realTimeVariable = "VISAGE_REAL_TIME"

// realTime skips a test that waits for minutes, unless it is asked for.
func realTime(t *testing.T) (resources int) {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv(realTimeVariable))
	if err != nil || n < 1 {
		t.Skip("it waits for minutes of real time: make prove-vault runs it, or " + realTimeVariable + "=40, the " +
			"number of resources for each store")
	}
	return n
}

// azureForm is a vault of another instance that stands for Azure, with one application for all resources.
type azureForm struct {
	*federated
	subjects []any
}

func (a *azureForm) grant(t *testing.T, who visage.PrincipalID, _ ...string) {
	t.Helper()
	a.subjects = append(a.subjects, map[string]any{"issuer": a.from.URL, "subject": string(who)})
	a.Manage(t, http.MethodPut, principalsPath+"/"+string(a.objectID)+"/federatedSubjects",
		map[string]any{"value": a.subjects})
	a.vault(t, "safe", "local", true, a.objectID)
}

func (a *azureForm) revoke(t *testing.T, key string) { a.allow(t, visage.KeyRef{Name: key}, false) }

// blocked is a resource under a key of its own.
type blocked struct {
	name, apiKey string
	id           sealed.SpaceID
	key          visage.KeyRef
}

// timedStore is a server whose resources have keys in one store.
type timedStore struct {
	name      string
	w         *officer
	revoke    func(t *testing.T, key string)
	resources []blocked

	admin sync.Mutex // the administrators of stores do one thing at a time
	took  []time.Duration
}

// timedIn puts n resources under keys in a store that the operator has configured.
func timedIn(t *testing.T, name string, n int, store customerStore) *timedStore {
	t.Helper()
	w := newStoreWalk(t, store)
	s := &timedStore{name: name, w: w.officer, revoke: store.revoke}
	for i := range n {
		r := blocked{name: fmt.Sprintf("vip%d", i)}
		w.resource(t, r.name)
		s.add(t, r, func(who visage.PrincipalID) visage.KeyRef {
			key := store.makeKey(t, fmt.Sprintf("faces%d", i))
			store.grant(t, who, key)
			return visage.KeyRef{Vault: w.address, Name: key}
		})
	}
	return s
}

// timedHere puts n resources under keys in a vault of the same server.
func timedHere(t *testing.T, n int) *timedStore {
	t.Helper()
	w := &storeWalk{officer: &officer{Server: servertest.Start(t, server.Config{Rate: 1000, AutoApprove: true})}}
	w.vault(t, "safe", "local", true, "")
	w.keys = vaultClient(t, w.Server, "safe")
	s := &timedStore{name: "vault of this instance", w: w.officer}
	keys := map[string]visage.KeyRef{}
	s.revoke = func(t *testing.T, key string) { w.allow(t, keys[key], false) }
	for i := range n {
		r := blocked{name: fmt.Sprintf("vip%d", i)}
		w.resource(t, r.name)
		s.add(t, r, func(who visage.PrincipalID) visage.KeyRef {
			w.permit(t, who)
			key := w.key(t, fmt.Sprintf("faces%d", i))
			keys[key.Name] = key
			return key
		})
	}
	return s
}

// permit lets an identity use the keys of the vault, beside those that may already.
func (o *officer) permit(t *testing.T, who visage.PrincipalID) {
	t.Helper()
	body := fmt.Sprintf(`{"properties":{"accessPolicies":[{"tenantId":%q,"objectId":%q,"permissions":`+
		`{"keys":["get","wrapKey","unwrapKey"]}}]}}`, o.Operator().TenantID, who)
	path := strings.Replace(vaultPath, "?", "/accessPolicies/add?", 1)
	if status := arm(t, o.Server, http.MethodPut, fmt.Sprintf(path, o.Operator().SubscriptionID, "safe"),
		body); status/100 != 2 {
		t.Fatalf("permit: %d", status)
	}
}

func (s *timedStore) add(t *testing.T, r blocked, key func(visage.PrincipalID) visage.KeyRef) {
	t.Helper()
	id, who, err := s.w.Identify(t.Context(), r.name)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := s.w.Keys(t.Context(), r.name)
	if err != nil {
		t.Fatal(err)
	}
	r.id, r.apiKey, r.key = id, keys.Key1, key(who)
	if _, err := s.w.Custody().Enable(t.Context(), r.id, r.key, who); err != nil {
		t.Fatalf("%s: enable: %v", s.name, err)
	}
	one := &officer{Server: s.w.Server, space: r.id}
	one.until(t, "the active key", active)
	s.resources = append(s.resources, r)
}

// ask sends a request for data of a resource, and returns the code of its refusal; empty: it is answered.
func (s *timedStore) ask(ctx context.Context, r blocked) (code string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.w.URL+"/face/v1.2/persongroups", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Ocp-Apim-Subscription-Key", r.apiKey)
	res, err := s.w.Client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode == http.StatusOK {
		return "", err
	}
	var refused struct{ Error struct{ Code string } }
	if err := json.Unmarshal(raw, &refused); err != nil || refused.Error.Code == "" {
		return "", fmt.Errorf("status %d %s", res.StatusCode, raw)
	}
	return refused.Error.Code, nil
}

// block revokes the key of a resource and measures the time until its data is refused.
func (s *timedStore) block(t *testing.T, r blocked) {
	if code, err := s.ask(t.Context(), r); code != "" || err != nil {
		t.Errorf("%s: before it is revoked: %s %v", s.name, code, err)
		return
	}
	s.admin.Lock()
	start := time.Now()
	s.revoke(t, r.key.Name)
	s.admin.Unlock()
	for {
		code, err := s.ask(t.Context(), r)
		took := time.Since(start)
		switch {
		case err != nil || code != "" && code != "EncryptionKeyRevoked":
			t.Errorf("%s: after it is revoked: %s %v", s.name, code, err)
			return
		case code != "":
			s.admin.Lock()
			defer s.admin.Unlock()
			s.took = append(s.took, took)
			return
		case took > 2*time.Minute:
			t.Errorf("%s: a revoked key opens data after %v", s.name, took)
			return
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// TestTimeToBlockInStores revokes keys in every store whose server runs here, each at a time of its own, and measures
// in real time, by requests for data over HTTPS, how long it takes until the data is refused. The stores are measured
// at the same time.
func TestTimeToBlockInStores(t *testing.T) {
	const promised, typical = 60 * time.Second, 45 * time.Second
	n := realTime(t)
	all := []*timedStore{
		timedHere(t, n),
		timedIn(t, "Azure's form", n, &azureForm{federated: newFederated(t)}),
		timedIn(t, "transit", n, transit{keystores.StartVault(t)}),
		timedIn(t, "AWS KMS", n, newAWSStore(t)),
		timedIn(t, "Google Cloud KMS", n, google{keystores.StartCloudKMS(t)}),
		timedIn(t, "PKCS#11", n, &hsm{HSM: keystores.StartSoftHSM(t)}),
		timedIn(t, "KMIP", n, keyManager{keystores.StartKMIP(t)}),
	}
	var work sync.WaitGroup
	for _, s := range all {
		for _, r := range s.resources {
			wait := time.Minute + rand.N(2*time.Minute) // no change of the start is left, and polls are at random
			work.Go(func() {
				time.Sleep(wait)
				s.block(t, r)
			})
		}
	}
	work.Wait()
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "store\trevocations\tp50\tp99\tmax")
	for _, s := range all {
		if len(s.took) != n {
			t.Errorf("%s: %d of %d revocations were measured", s.name, len(s.took), n)
			continue
		}
		slices.Sort(s.took)
		p50, p99, most := s.took[(n-1)/2], s.took[(n-1)*99/100], s.took[n-1]
		round := func(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", s.name, n, round(p50), round(p99), round(most))
		t.Attr(strings.ReplaceAll(strings.ReplaceAll(s.name, " ", "-"), "#", ""),
			fmt.Sprintf("p50 %s p99 %s max %s", round(p50), round(p99), round(most)))
		if p99 > typical || most > promised {
			t.Errorf("%s: p99 %v, max %v", s.name, p99, most)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table.String())
}

// TestFailoverInRealTime silences the first store of a resource with two while its data is read all the time: no read
// fails, and the key of the second store serves in time. Two pairs of stores are silenced at the same time.
func TestFailoverInRealTime(t *testing.T) {
	const promised = 65 * time.Second
	realTime(t)
	vault := transit{keystores.StartVault(t)}
	kms := newAWSStore(t)
	var work sync.WaitGroup
	for _, pair := range []struct {
		name    string
		first   customerStore
		silence func()
	}{
		{"transit", vault, func() { vault.Seal(true) }},
		{"AWS-KMS", kms, func() { kms.Down(true) }},
	} {
		s := timedIn(t, pair.name, 1, pair.first)
		r := s.resources[0]
		one := &officer{Server: s.w.Server, space: r.id}
		_, who, err := s.w.Identify(t.Context(), r.name)
		if err != nil {
			t.Fatal(err)
		}
		one.vault(t, "spare", "local", true, who)
		one.keys = vaultClient(t, one.Server, "spare")
		if _, err := s.w.Custody().AddStore(t.Context(), r.id, one.key(t, "faces"), who); err != nil {
			t.Fatal(err)
		}
		settled := one.until(t, "both keys", func(s custody.Status) bool { return active(s) && len(s.Stores) == 2 })
		if !settled.Serves(0) || settled.Serves(1) {
			t.Errorf("%s: before the silence: %+v", pair.name, settled)
		}
		wait := rand.N(30 * time.Second)
		work.Go(func() {
			time.Sleep(wait)
			pair.silence()
			start, reads := time.Now(), 0
			for {
				if code, err := s.ask(t.Context(), r); code != "" || err != nil {
					t.Errorf("%s: %v after the silence began: %s %v", pair.name, time.Since(start), code, err)
					return
				}
				reads++
				now, err := s.w.Custody().Status(t.Context(), r.id)
				switch took := time.Since(start); {
				case err != nil:
					t.Error(err)
					return
				case now.Serving == 1:
					if now.Serves(0) || !now.Serves(1) {
						t.Errorf("%s: after the fail-over: %+v", pair.name, now)
					}
					t.Logf("%s: the second store serves after %v; %d reads, none failed", pair.name, took, reads)
					t.Attr(pair.name, fmt.Sprintf("after %v, %d reads", took.Round(100*time.Millisecond), reads))
					if took > promised {
						t.Errorf("%s: the second store serves after %v", pair.name, took)
					}
					return
				case took > 2*promised:
					t.Errorf("%s: the second store does not serve: %+v", pair.name, now)
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	work.Wait()
}
