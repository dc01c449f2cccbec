package server_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/visage-face/visage/sealed/backup"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// TestVerifiedCopies records how the verification of copies ended: the console shows the last of each, and what is no
// copy of this instance is refused.
func TestVerifiedCopies(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	b := s.Browser(t, "")
	none := b.Get("/console/operations").Body
	for _, how := range []string{"visage backup verify", "visage keyring verify"} {
		if !strings.Contains(none, how) {
			t.Errorf("before a verification, the page does not name %q", how)
		}
	}
	keyring := b.Submit("/console/operations", "/console/operations/keyring", nil)
	is, err := backup.CheckWhole(t.Context(), strings.NewReader(keyring.Body))
	if err != nil || !is.Keyring || time.Since(is.Taken).Abs() > time.Hour {
		t.Fatalf("the copy of the keyring: %+v, %v", is, err)
	}
	cut := strings.NewReader(keyring.Body[:len(keyring.Body)-1])
	if again, err := backup.CheckWhole(t.Context(), cut); err == nil || again != is {
		t.Errorf("a copy without its last byte: %+v, %v", again, err)
	}
	type result map[string]any
	of := func(what string, intact bool, more result) result {
		r := result{"copy": what, "instance": is.Instance, "taken": is.Taken, "intact": intact}
		for name, value := range more {
			r[name] = value
		}
		return r
	}
	tell := func(token string, r result) int {
		body, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/subscriptions/"+
			s.Operator().SubscriptionID+"/providers/Visage.Operations/verified?api-version=2025-09-01",
			bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		res, err := s.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	token := s.Token(t, "https://management.azure.com")
	for name, wrong := range map[string]result{
		"another copy":     of("photo", true, nil),
		"another instance": of("keyring", true, result{"instance": "00000000-0000-0000-0000-000000000001"}),
		"no instance":      of("keyring", true, result{"instance": nil}),
		"the future":       of("backup", true, result{"taken": time.Now().Add(time.Hour)}),
		"no time":          of("backup", true, result{"taken": nil}),
		"a time like text": of("backup", true, result{"taken": "yesterday"}),
	} {
		if status := tell(token, wrong); status != http.StatusBadRequest {
			t.Errorf("%s: status %d, want 400", name, status)
		}
	}
	if page := b.Get("/console/operations").Body; !strings.Contains(page, "visage keyring verify") {
		t.Error("what was refused is shown as verified")
	}
	for _, r := range []result{of("keyring", false, nil), of("keyring", true, nil), of("backup", false, nil)} {
		if status := tell(token, r); status != http.StatusNoContent {
			t.Fatalf("%v: status %d, want 204", r, status)
		}
	}
	const damaged = "The backup of "
	page := b.Get("/console/operations").Body
	for _, want := range []string{"<span>Intact</span>", "<span>Damaged</span>", damaged} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q: %s", want, page)
		}
	}
	if strings.Contains(page, "The copy of the keyring of ") {
		t.Error("a damaged copy of the keyring is told after one that is intact")
	}
	if page := b.Get("/console").Body; !strings.Contains(page, damaged) {
		t.Errorf("the first page does not tell that a backup is damaged: %s", page)
	}
	if status := tell(token, of("backup", true, nil)); status != http.StatusNoContent {
		t.Fatalf("another backup: %d", status)
	}
	if page := b.Get("/console").Body; strings.Contains(page, damaged) {
		t.Error("an intact backup does not end the alert")
	}
	if list := b.Get("/console/audit?kind=backup.verify").Body; strings.Count(list, "/console/audit/events/") != 4 {
		t.Errorf("entries of the audit log: %s", list)
	}
}
