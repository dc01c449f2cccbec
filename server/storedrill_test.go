package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/custody"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/drill"
	"github.com/visage-face/visage/test/keystores"
)

// TestRehearsalInAStore rehearses a revocation by the holder of a key in a store: on a copy that was moved to another
// key, so that the running server feels nothing; and with the resource's own key.
func TestRehearsalInAStore(t *testing.T) {
	// WHO stands for the identity, KEY for the key, and HOST for the host and port of the store.
	const (
		binding = "-iam-policy-binding KEY --keyring faces --location europe-west3 --project visage-test --role roles/"
		member  = " --member principal://iam.googleapis.com/projects/123456789012/locations/global/" +
			"workloadIdentityPools/visage/subject/WHO"
		policy = `printf 'path "transit/keys/KEY" { capabilities = ["read"] }\n` +
			`path "transit/encrypt/KEY" { capabilities = ["update"] }\n` +
			`path "transit/decrypt/KEY" { capabilities = ["update"] }\n' | vault policy write visage-transit.KEY -`
		named = "the key whose Name is visage-WHO-KEY"
	)
	relabel := func(to, from string) string {
		const command = "p11tool --provider MODULE --login --set-label %s " +
			"'pkcs11:token=Keys%%20of%%20tests;object=%s;type=%s'"
		return fmt.Sprintf(command, to, from, "secret-key") + "\n# or, if it is an RSA key:\n" +
			fmt.Sprintf(command, to, from, "private")
	}
	for name, c := range map[string]struct {
		store      func(*testing.T) customerStore
		take, give string
	}{
		"transit": {func(t *testing.T) customerStore { return transit{keystores.StartVault(t)} },
			"export VAULT_ADDR=https://HOST\nvault policy delete visage-transit.KEY",
			"export VAULT_ADDR=https://HOST\n" + policy},
		"AWS": {func(t *testing.T) customerStore { return newAWSStore(t) },
			"aws kms disable-key --region eu-central-1 --key-id KEY",
			"aws kms enable-key --region eu-central-1 --key-id KEY"},
		"Google": {func(t *testing.T) customerStore { return google{keystores.StartCloudKMS(t)} },
			"gcloud kms keys remove" + binding + "cloudkms.cryptoKeyEncrypterDecrypter" + member +
				"\n# and the role of RSA keys, if the key has it:\n" +
				"gcloud kms keys remove" + binding + "cloudkms.cryptoKeyDecrypter" + member,
			"gcloud kms keys add" + binding + "cloudkms.cryptoKeyEncrypterDecrypter" + member},
		"token": {func(t *testing.T) customerStore { return &hsm{HSM: keystores.StartSoftHSM(t)} },
			relabel("revoked-visage-WHO-KEY", "visage-WHO-KEY"), relabel("visage-WHO-KEY", "revoked-visage-WHO-KEY")},
		"KMIP": {func(t *testing.T) customerStore { return keyManager{keystores.StartKMIP(t)} },
			"take the right to Get Attributes, Encrypt and Decrypt with " + named +
				" from the certificate of the service",
			"give the certificate of the service the right back to Get Attributes, Encrypt and Decrypt with " + named},
	} {
		t.Run(name, func(t *testing.T) { rehearseInStore(t, c.store(t), c.take, c.give, name == "transit") })
	}
}

// rehearseInStore rehearses with a store; whole: also what is alike in all stores.
func rehearseInStore(t *testing.T, store customerStore, take, give string, whole bool) {
	w := newStoreWalk(t, store)
	faces, spare := store.makeKey(t, "faces"), store.makeKey(t, "spare")
	both := []string{faces, spare}
	store.grant(t, w.who, both...)
	if says := w.protect(t, "vip", faces, ""); says != "" {
		t.Fatalf("enable: %s", says)
	}
	w.until(t, "the active key", active)
	status, body, _ := w.face(t, http.MethodPut, "/face/v1.2/persongroups/g", `{"name":"g"}`)
	if status != http.StatusOK {
		t.Fatalf("make a group: %d %s", status, body)
	}
	var copied atomic.Pointer[server.Server]
	room, source, err := w.Rehearsals(visage.Caller{}, copied.Store)
	if err != nil {
		t.Fatal(err)
	}
	used := visage.KeyRef{Vault: w.address, Name: spare}
	var asked []string
	plan := drill.Plan{Resource: "vip", Key: used.String(), Wait: time.Minute,
		Ask: func(do drill.Deed, commands []string) {
			asked = append(asked, string(do)+": "+strings.Join(commands, "\n"))
			if do == drill.Revoke {
				store.revoke(t, spare)
			} else {
				store.grant(t, w.who, both...)
			}
			copied.Load().Custody().Recheck(used)
		}}
	var steps []drill.Step
	report, err := room.Run(t.Context(), source, plan, func(s drill.Step) { steps = append(steps, s) })
	if err != nil {
		t.Fatal(err)
	}
	if !report.Passed || !strings.Contains(report.Road, spare) || !slices.Contains(steps, drill.StepMove) {
		t.Errorf("%+v, steps %q", report, steps)
	}
	_, host, _ := strings.Cut(w.address, "://")
	host, _, _ = strings.Cut(host, "/")
	fill := strings.NewReplacer("WHO", string(w.who), "KEY", spare, "HOST", host)
	want := []string{"revoke: " + fill.Replace(take), "give-back: " + fill.Replace(give)}
	if !slices.Equal(asked, want) {
		t.Errorf("asked for\n%s\nwant\n%s", strings.Join(asked, "\n"), strings.Join(want, "\n"))
	}
	if s, err := w.Custody().Status(t.Context(), w.space); err != nil || s.Condition != custody.Active ||
		s.Key.Name != faces {
		t.Errorf("the running server: %+v, %v", s, err)
	}

	if !whole {
		return
	}
	// The resource's own key: the copy stays under it.
	used.Name, spare, steps = faces, faces, nil
	plan.Key = used.String()
	report, err = room.Run(t.Context(), source, plan, func(s drill.Step) { steps = append(steps, s) })
	if err != nil || !report.Passed || slices.Contains(steps, drill.StepMove) {
		t.Errorf("with its own key: %+v, steps %q, %v", report, steps, err)
	}
	// Nobody revokes the key: the rehearsal ends at its bound, and says so.
	plan.Wait, plan.Ask = time.Nanosecond, func(drill.Deed, []string) {}
	report, err = room.Run(t.Context(), source, plan, nil)
	if err != nil || report.Passed || len(report.Checks) != 1 || report.Checks[0].Name != drill.CheckRefused {
		t.Errorf("without a revocation: %+v, %v", report, err)
	}
}

// TestRehearsalWithAKeyThatCannotBeUsed: a key that the resource may not use, and one of a vault of the instance.
func TestRehearsalWithAKeyThatCannotBeUsed(t *testing.T) {
	store := transit{keystores.StartVault(t)}
	w := newStoreWalk(t, store)
	store.makeKey(t, "faces")
	store.makeKey(t, "other")
	store.grant(t, w.who, "faces")
	if says := w.protect(t, "vip", "faces", ""); says != "" {
		t.Fatalf("enable: %s", says)
	}
	w.until(t, "the active key", active)
	room, source, err := w.Rehearsals(visage.Caller{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, says := range map[string]string{
		w.address + "/keys/other": "KeyVaultAccessDenied",
		strings.Replace(w.URL, "https://", "https://safe.vault.", 1) + "/keys/k": "of this instance",
		"hashivault://127.0.0.1:1/transit/keys/k":                                "InvalidKeyVaultProperties",
	} {
		report, err := room.Run(t.Context(), source, drill.Plan{Resource: "vip", Key: key,
			Ask: func(drill.Deed, []string) { t.Error("the holder is asked") }}, nil)
		if err == nil || report != nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %+v, %v", key, report, err)
		}
	}
}
