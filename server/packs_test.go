package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/servertest"
)

// named is a recogniser of synthetic people under a name of its own.
type named struct {
	servertest.Faces
	name string
}

// Name implements face.Recogniser.
func (n named) Name() string { return n.name }

// installed are synthetic packs of these names.
func installed(names ...string) map[string]face.Recogniser {
	all := map[string]face.Recogniser{}
	for _, n := range names {
		all[n] = named{name: n}
	}
	return all
}

// client has the key of the default resource of a server with synthetic packs.
type client struct {
	*servertest.Server
	t   *testing.T
	log *bytes.Buffer // the server's log; read it after Stop
}

// serving starts a server in dir; empty: in a new one.
func serving(t *testing.T, dir string, cfg server.Config) client {
	t.Helper()
	log := &bytes.Buffer{}
	cfg.Dir, cfg.Rate, cfg.Logger = dir, 100_000, slog.New(slog.NewTextHandler(log, nil))
	if cfg.Recognisers == nil {
		cfg.Recognisers = installed() // only those that are really installed
	}
	return client{servertest.Start(t, cfg), t, log}
}

// stop stops the server and returns its folder and what it logged.
func (c client) stop() (dir, log string) {
	c.t.Helper()
	if err := c.Stop(); err != nil {
		c.t.Fatal(err)
	}
	return c.Dir(), c.log.String()
}

// ask sends a request and returns its answer, which must have the status. body is JSON, or the bytes of a photo.
func (c client) ask(status int, method, path string, body any) map[string]any {
	c.t.Helper()
	raw, kind := []byte(nil), "application/json"
	switch b := body.(type) {
	case []byte:
		raw, kind = b, "application/octet-stream"
	case nil:
	default:
		raw = mustJSON(c.t, b)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.URL+"/face/v1.0"+path, bytes.NewReader(raw))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Ocp-Apim-Subscription-Key", c.Key)
	req.Header.Set("Content-Type", kind)
	res, err := c.Client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(res.Body); err != nil {
		c.t.Fatal(err)
	}
	if res.StatusCode != status {
		c.t.Fatalf("%s %s: %d %s, want %d", method, path, res.StatusCode, text.String(), status)
	}
	said := map[string]any{}
	if trimmed := bytes.TrimSpace(text.Bytes()); len(trimmed) > 0 && trimmed[0] == '[' {
		trimmed = slices.Concat([]byte(`{"list":`), trimmed, []byte("}"))
		text = *bytes.NewBuffer(trimmed)
	}
	if text.Len() > 0 {
		if err := json.Unmarshal(text.Bytes(), &said); err != nil {
			c.t.Fatalf("%s %s: %s: %v", method, path, text.String(), err)
		}
	}
	return said
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// face detects the one face of a photo and returns its id.
func (c client) face(model string, photo []byte) string {
	c.t.Helper()
	said := c.ask(200, "POST", "/detect?recognitionModel="+model, photo)
	return said["list"].([]any)[0].(map[string]any)["faceId"].(string)
}

// group makes a group with one person of a photo and returns the person's id.
func (c client) group(id, model string, photo []byte) string {
	c.t.Helper()
	c.ask(200, "PUT", "/largepersongroups/"+id, map[string]any{"name": id, "recognitionModel": model})
	person := c.ask(200, "POST", "/largepersongroups/"+id+"/persons",
		map[string]any{"name": "Ann"})["personId"].(string)
	c.ask(200, "POST", "/largepersongroups/"+id+"/persons/"+person+"/persistedfaces", photo)
	return person
}

// verify compares a face with a person of a group.
func (c client) verify(status int, faceID, person, group string) map[string]any {
	c.t.Helper()
	return c.ask(status, "POST", "/verify",
		map[string]any{"faceId": faceID, "personId": person, "largePersonGroupId": group})
}

// page returns one of the pages for machines.
func (c client) page(path string) string {
	c.t.Helper()
	res, err := c.Client.Get(c.URL + path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(res.Body); err != nil {
		c.t.Fatal(err)
	}
	return text.String()
}

// wantLines wants every line among those of a page.
func (c client) wantLines(path string, lines ...string) {
	c.t.Helper()
	page := c.page(path)
	for _, l := range lines {
		if !slices.Contains(strings.Split(page, "\n"), l) {
			c.t.Errorf("%s lacks %q:\n%s", path, l, page)
		}
	}
}

const allModels = "recognition_01, recognition_02, recognition_03, recognition_04"

// formerStore makes the data of a program from before packs were remembered: a group with Ann, and no record of packs.
func formerStore(t *testing.T) (dir, ann string) {
	t.Helper()
	c := serving(t, "", server.Config{Recognisers: installed(server.FormerPack), Pack: server.FormerPack})
	ann = c.group("old", "recognition_04", servertest.Photo(1, "Ann"))
	dir, _ = c.stop()
	forgetChoice(t, dir)
	return dir, ann
}

// forgetChoice removes the record of packs from a stopped server's store, as if it were from before.
func forgetChoice(t *testing.T, dir string) {
	t.Helper()
	store := openStopped(t, dir)
	choices := sealed.NewTable[struct{}]("server/packs", 1)
	if err := store.Space(sealed.Operator).
		Update(t.Context(), func(tx sealed.Tx) error { return choices.In().Delete(tx, "choice") }); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestANewStoreTakesTheNewPack(t *testing.T) {
	c := serving(t, "", server.Config{Recognisers: installed(server.FormerPack, server.NewStorePack, "other")})
	c.wantLines("/readyz", "ok", "model pack "+server.NewStorePack+": "+allModels)
	c.wantLines("/metrics", `visage_model_pack_info{model="recognition_01",pack="`+server.NewStorePack+`"} 1`)
	if page := c.page("/readyz"); strings.Contains(page, server.FormerPack) {
		t.Errorf("more than the new pack is open:\n%s", page)
	}
	dir, _ := c.stop()
	// The server keeps it, whatever else is installed.
	c = serving(t, dir, server.Config{Recognisers: installed(server.FormerPack, server.NewStorePack, "other")})
	c.wantLines("/readyz", "model pack "+server.NewStorePack+": "+allModels)
}

// TestAFormerStoreKeepsItsPack checks that such a store opens and answers as before, logs that, and changes packs only
// by configuration.
func TestAFormerStoreKeepsItsPack(t *testing.T) {
	dir, ann := formerStore(t)
	both := installed(server.FormerPack, "better")
	c := serving(t, dir, server.Config{Recognisers: both})
	c.wantLines("/readyz", "model pack "+server.FormerPack+": "+allModels)
	if v := c.verify(200, c.face("recognition_04", servertest.Photo(2, "Ann")), ann, "old"); v["isIdentical"] != true {
		t.Errorf("Ann is no longer recognised: %v", v)
	}
	_, log := c.stop()
	if moves := "docs/operations/packs.md describes the change"; strings.Count(log, moves) != 1 {
		t.Errorf("the log does not say once %q:\n%s", moves, log)
	}

	c = serving(t, dir, server.Config{Recognisers: both, Models: map[string]string{"recognition_04": "better"}})
	before := c.page("/readyz")
	c.wantLines("/readyz", "model pack better: recognition_04",
		"model pack "+server.FormerPack+": recognition_01, recognition_02, recognition_03")
	_, log = c.stop()
	if !strings.Contains(log, "recognition models changed packs") {
		t.Errorf("the change is not in the log:\n%s", log)
	}

	c = serving(t, dir, server.Config{Recognisers: both}) // without a setting, as before
	if now := c.page("/readyz"); now != before {
		t.Errorf("the store forgot its packs:\n%s, and before\n%s", now, before)
	}
	if _, log = c.stop(); strings.Contains(log, "recognition models changed packs") {
		t.Errorf("the log reports a change although there was none:\n%s", log)
	}
	changes := 0
	for _, e := range auditEntries(t, dir) {
		if e["operation"] == "model-packs" {
			changes++
			if want := "recognition_04=" + server.FormerPack; !strings.HasSuffix(e["before"], want) ||
				!strings.HasSuffix(e["after"], "recognition_04=better") {
				t.Errorf("the audit log has a change from %s to %s", e["before"], e["after"])
			}
		}
	}
	if changes != 1 {
		t.Errorf("%d changes in the audit log, want 1", changes)
	}
}

// TestPacksAreNeverMixed checks that templates of different packs are never compared, and that each pack continues to
// serve its own.
func TestPacksAreNeverMixed(t *testing.T) {
	dir, ann := formerStore(t)
	both := installed(server.FormerPack, "better")
	cfg := server.Config{Recognisers: both}
	c := serving(t, dir, cfg)
	old := c.face("recognition_04", servertest.Photo(2, "Ann"))
	c.ask(200, "PUT", "/facelists/old", map[string]any{"name": "old", "recognitionModel": "recognition_04"})
	c.stop()
	cfg.Models = map[string]string{"recognition_04": "better"}
	c = serving(t, dir, cfg)
	now := c.face("recognition_04", servertest.Photo(2, "Ann"))
	other := c.face("recognition_03", servertest.Photo(2, "Ann")) // by the former pack, under another model
	newAnn := c.group("new", "recognition_04", servertest.Photo(3, "Ann"))
	// by the former pack, like all in the list
	c.ask(200, "POST", "/facelists/old/persistedfaces", servertest.Photo(3, "Ann"))
	incompatible := func(said map[string]any) {
		t.Helper()
		refusal := said["error"].(map[string]any)
		if message, _ := refusal["message"].(string); refusal["code"] != "BadArgument" ||
			!strings.HasPrefix(message, "recognitionModel incompatible") {
			t.Errorf("it was refused with %v", refusal)
		}
	}
	for _, id := range []string{now, other} {
		incompatible(c.verify(400, id, ann, "old"))
		incompatible(c.ask(400, "POST", "/verify", map[string]any{"faceId1": id, "faceId2": old}))
		incompatible(c.ask(400, "POST", "/findsimilars", map[string]any{"faceId": id, "faceIds": []string{old}}))
		incompatible(c.ask(400, "POST", "/findsimilars", map[string]any{"faceId": id, "faceListId": "old"}))
		incompatible(c.ask(400, "POST", "/group", map[string]any{"faceIds": []string{id, old}}))
	}
	incompatible(c.verify(400, old, newAnn, "new"))
	for _, same := range []map[string]any{c.verify(200, old, ann, "old"), c.verify(200, now, newAnn, "new")} {
		if same["isIdentical"] != true {
			t.Errorf("Ann is not Ann: %v", same)
		}
	}
	if found := c.ask(200, "POST", "/findsimilars",
		map[string]any{"faceId": old, "faceListId": "old"})["list"].([]any); len(found) != 1 {
		t.Errorf("in the old list %d faces match Ann, want 1", len(found))
	}
	// Faces added to the old group are processed by the former pack.
	c.ask(200, "POST", "/largepersongroups/old/persons/"+ann+"/persistedfaces", servertest.Photo(4, "Ann"))
	c.ask(202, "POST", "/largepersongroups/old/train", nil)
}

// TestAPackThatIsGone checks that the data of a missing pack is refused while no model needs the pack, and that the
// start is refused while a model does.
func TestAPackThatIsGone(t *testing.T) {
	dir, ann := formerStore(t)
	err := startAndFail(t, server.Config{Dir: dir, Listen: "127.0.0.1:0", Recognisers: installed("better")})
	for _, part := range []string{"recognition_01: the model pack " + server.FormerPack +
		" is not installed: looked for", filepath.Join(dir, "packs", server.FormerPack), "make setup",
		"visage models install"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the start failed with %q, which lacks %q", err, part)
		}
	}
	c := serving(t, dir, server.Config{Recognisers: installed("better"), Pack: "better"})
	c.wantLines("/readyz", "ok", "model pack better: "+allModels,
		"model pack "+server.FormerPack+": cannot be opened; what it made is refused")
	c.wantLines("/metrics", `visage_model_pack_info{model="none",pack="`+server.FormerPack+`"} 0`)
	id := c.face("recognition_04", servertest.Photo(2, "Ann"))
	said := c.verify(503, id, ann, "old")["error"].(map[string]any)
	if message := fmt.Sprint(said["message"]); said["code"] != "ServiceUnavailable" ||
		!strings.Contains(
			message, fmt.Sprintf("the model pack %q, which is not loaded on this server", server.FormerPack),
		) {
		t.Errorf("it was refused with %v", said)
	}
	if _, log := c.stop(); !strings.Contains(log, "a model pack that this store has used cannot be opened") {
		t.Errorf("the log does not say so:\n%s", log)
	}

	// Once it is installed again, the pack serves its data.
	both := installed("better", server.FormerPack)
	c = serving(t, dir, server.Config{Recognisers: both})
	c.wantLines("/readyz", "model pack better: "+allModels, "model pack "+server.FormerPack+": what it made before")
	c.ask(200, "POST", "/largepersongroups/old/persons/"+ann+"/persistedfaces", servertest.Photo(4, "Ann"))
	c.stop()

	// It can be left closed, and opened again; a pack that serves a model cannot be closed.
	err = startAndFail(
		t, server.Config{Dir: dir, Listen: "127.0.0.1:0", Recognisers: both, ClosedPacks: []string{"better"}},
	)
	if want := "closed-pack: the model pack better serves " + allModels; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	c = serving(t, dir, server.Config{Recognisers: both, ClosedPacks: []string{server.FormerPack}})
	c.wantLines("/readyz", "model pack "+server.FormerPack+": left closed; what it made is refused")
	c.ask(503, "POST", "/largepersongroups/old/persons/"+ann+"/persistedfaces", servertest.Photo(5, "Ann"))
	c.stop()
	c = serving(t, dir, server.Config{Recognisers: both, ClosedPacks: []string{"fromer"}})
	c.ask(200, "POST", "/largepersongroups/old/persons/"+ann+"/persistedfaces", servertest.Photo(5, "Ann"))
	if _, log := c.stop(); !strings.Contains(log, "closed-pack names a model pack that this store has never used") {
		t.Errorf("the mistyped name is not in the log:\n%s", log)
	}
}

// auditEntries returns the details of the audit log's entries of a stopped server.
func auditEntries(t *testing.T, dir string) []map[string]string {
	t.Helper()
	store := openStopped(t, dir)
	defer store.Close()
	var all []map[string]string
	for e, err := range audit.Read(store).Entries(t.Context(), audit.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		details := map[string]string{}
		for k, v := range e.Details {
			details[string(k)] = v
		}
		all = append(all, details)
	}
	return all
}
