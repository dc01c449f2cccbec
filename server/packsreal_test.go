package server_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/vision/pack"
)

// realPacks makes the module the working directory, where packs and the library are found, and skips a test if one of
// these packs is missing.
func realPacks(t *testing.T, names ...string) {
	t.Helper()
	t.Chdir("..")
	for _, name := range names {
		if _, err := server.FindPack(name, t.TempDir()); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("CI requires the model packs: %v", err)
			}
			t.Skip(err)
		}
	}
	if _, err := server.FindLibrary(""); err != nil {
		t.Skip(err)
	}
}

// portrait is one of the shared test photos.
func portrait(t *testing.T, name string) []byte {
	t.Helper()
	dir := os.Getenv("VISAGE_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "shared")
	}
	b, err := os.ReadFile(filepath.Join(dir, "testdata", "faces", name))
	if err != nil {
		t.Skipf("no shared test photos in %s: set VISAGE_SHARED", dir)
	}
	return b
}

// copyPack copies an installed pack to a folder, with a manifest changed by change, and the right digests.
func copyPack(t *testing.T, name, to string, change func(*pack.Manifest, map[string][]byte)) {
	t.Helper()
	folder, err := server.FindPack(name, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	from, err := pack.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	m, files := from.Manifest(), map[string][]byte{}
	m.Files = slices.Clone(m.Files)
	for _, f := range m.Files {
		if files[f.Name], err = os.ReadFile(from.Path(f.Name)); err != nil {
			t.Fatal(err)
		}
	}
	change(&m, files)
	for i, f := range m.Files {
		sum := sha256.Sum256(files[f.Name])
		m.Files[i].Bytes, m.Files[i].SHA256 = int64(len(files[f.Name])), hex.EncodeToString(sum[:])
	}
	if files[pack.ManifestName], err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(to, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRealPacksSideBySide checks with photos that a store of the former pack answers as before beside a new pack.
func TestRealPacksSideBySide(t *testing.T) {
	realPacks(t, server.FormerPack, server.NewStorePack)
	first, second := portrait(t, "Family1-Dad1.jpg"), portrait(t, "Family1-Dad2.jpg")
	c := serving(t, "", server.Config{Pack: server.FormerPack})
	dad := c.group("old", "recognition_04", first)
	before := c.verify(200, c.face("recognition_04", second), dad, "old")
	dir, _ := c.stop()
	forgetChoice(t, dir)

	c = serving(t, dir, server.Config{})
	c.wantLines("/readyz", "model pack "+server.FormerPack+": "+allModels)
	if now := c.verify(200, c.face("recognition_04", second), dad, "old"); now["confidence"] != before["confidence"] ||
		now["isIdentical"] != true {
		t.Errorf("the reopened store answers %v, before %v", now, before)
	}
	old := c.face("recognition_04", second)
	c.stop()

	other := filepath.Join(t.TempDir(), "second")
	copyPack(t, server.NewStorePack, other, func(m *pack.Manifest, _ map[string][]byte) { m.Name = "second" })
	c = serving(t, dir, server.Config{Models: map[string]string{"recognition_04": other}})
	c.wantLines("/readyz", "model pack second: recognition_04",
		"model pack "+server.FormerPack+": recognition_01, recognition_02, recognition_03")
	now := c.face("recognition_04", second)
	newDad := c.group("new", "recognition_04", first)
	for _, said := range []map[string]any{c.verify(400, now, dad, "old"), c.verify(400, old, newDad, "new")} {
		if message, _ := said["error"].(map[string]any)["message"].(string); !strings.Contains(message,
			"cannot be compared with") {
			t.Errorf("it was refused with %v", said)
		}
	}
	if v := c.verify(200, now, newDad, "new"); v["isIdentical"] != true {
		t.Errorf("the new pack does not recognise him: %v", v)
	}
	if v := c.verify(200, old, dad, "old"); v["confidence"] != before["confidence"] {
		t.Errorf("the old pack answers %v beside the new one, before %v", v, before)
	}
	c.stop()
	// The second pack is found again without a setting.
	c = serving(t, dir, server.Config{})
	c.wantLines("/readyz", "model pack second: recognition_04")
}

// TestAPackOfATakenName checks that another recogniser is refused under the name of a pack that has made templates.
func TestAPackOfATakenName(t *testing.T) {
	realPacks(t, server.NewStorePack)
	dir, _ := serving(t, "", server.Config{Pack: server.NewStorePack}).stop()
	nearer := filepath.Join(dir, "packs", server.NewStorePack) // the first place where packs are searched
	copyPack(t, server.NewStorePack, nearer,
		func(m *pack.Manifest, _ map[string][]byte) { m.Detector.MaxOverlap = 0.45 })
	serving(t, dir, server.Config{}).stop() // its templates are the same
	copyPack(t, server.NewStorePack, nearer,
		func(m *pack.Manifest, _ map[string][]byte) { m.Recogniser.Input.Mean = [3]float64{} })
	err := startAndFail(t, server.Config{Dir: dir, Listen: "127.0.0.1:0"})
	want := "recognition_01: the model pack " + server.NewStorePack + " in " + nearer + " differs from the " +
		server.NewStorePack + " that this store has used"
	if !strings.HasPrefix(err.Error(), want) {
		t.Errorf("the start failed with %v, want %s", err, want)
	}
	copyPack(t, server.NewStorePack, nearer, func(m *pack.Manifest, _ map[string][]byte) { m.Name = "other" })
	err = startAndFail(t, server.Config{Dir: dir, Listen: "127.0.0.1:0"})
	if want := "has the name other, not " + server.NewStorePack; !strings.Contains(err.Error(), want) {
		t.Errorf("the start failed with %v, want %s", err, want)
	}
	// If no model needs the pack, only its own data is refused.
	copyPack(t, server.NewStorePack, nearer,
		func(m *pack.Manifest, _ map[string][]byte) { m.Recogniser.Input.Mean = [3]float64{} })
	other := filepath.Join(t.TempDir(), "other")
	copyPack(t, server.NewStorePack, other, func(m *pack.Manifest, _ map[string][]byte) { m.Name = "other" })
	c := serving(t, dir, server.Config{Pack: other})
	c.wantLines("/readyz", "ok", "model pack "+server.NewStorePack+": cannot be opened; what it made is refused")
	if _, log := c.stop(); !strings.Contains(log, "differs from the "+server.NewStorePack+
		" that this store has used") {
		t.Errorf("the log does not say why:\n%s", log)
	}
	twice := filepath.Join(t.TempDir(), "twice")
	copyPack(t, server.NewStorePack, twice, func(*pack.Manifest, map[string][]byte) {})
	if err := os.RemoveAll(nearer); err != nil {
		t.Fatal(err)
	}
	err = startAndFail(
		t, server.Config{Dir: dir, Listen: "127.0.0.1:0", Pack: server.NewStorePack,
			Models: map[string]string{"recognition_04": twice}},
	)
	if want := "have the same name, " + server.NewStorePack; !strings.Contains(err.Error(), want) {
		t.Errorf("the start failed with %v, want %s", err, want)
	}
}

// TestAPackThatChangesUnderItsServer checks that a running server is not affected, and that the next start is refused.
func TestAPackThatChangesUnderItsServer(t *testing.T) {
	realPacks(t, server.NewStorePack)
	photo := portrait(t, "Family1-Dad1.jpg")
	folder := filepath.Join(t.TempDir(), "changing")
	var recogniser string
	copyPack(t, server.NewStorePack, folder,
		func(m *pack.Manifest, _ map[string][]byte) { m.Name, recogniser = "changing", m.Recogniser.File })
	c := serving(t, "", server.Config{Pack: folder})
	file := filepath.Join(folder, recogniser)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	c.face("recognition_04", photo)
	dir, _ := c.stop()
	err = startAndFail(t, server.Config{Dir: dir, Listen: "127.0.0.1:0"})
	if want := "the SHA-256 does not match"; !strings.Contains(err.Error(), want) {
		t.Errorf("the start failed with %v, want %s", err, want)
	}
}
