package sdk_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/visage-face/visage/server/servertest"
)

// photo is one picture in the form of the scripts. Face selects one of its faces; 0 is the largest.
type photo struct {
	File string `json:"file"`
	URL  string `json:"url"`
	Face int    `json:"face"`
}

// person is enrolled from Photos and recognised on Probe.
type person struct {
	Name   string  `json:"name"`
	Photos []photo `json:"photos"`
	Probe  photo   `json:"probe"`
}

// cast is the people on the photos.
type cast struct {
	People   []person `json:"people"`
	Stranger photo    `json:"stranger"`
	Crowd    photo    `json:"crowd"`
}

// family is the cast of the shared test data, with different photos for enrolment and recognition.
func family(dir string) cast {
	at := func(name string) photo { return photo{File: filepath.Join(dir, name)} }
	return cast{
		People: []person{
			{Name: "father", Photos: []photo{at("Family1-Dad1.jpg"), at("Family1-Dad2.jpg")},
				Probe: at("Family1-Dad3.jpg")},
			{Name: "mother", Photos: []photo{at("Family1-Mom1.jpg")}, Probe: at("Family1-Mom2.jpg")},
			{Name: "neighbour", Photos: []photo{at("Family2-Lady1.jpg")}, Probe: at("Family2-Lady2.jpg")},
		},
		Stranger: at("Family3-Man1.jpg"),
		Crowd:    at("identification1.jpg"),
	}
}

// madeUp is a cast for servertest's recogniser, which needs no networks: photos of synthetic people.
func madeUp(t *testing.T) cast {
	t.Helper()
	dir := t.TempDir()
	taken := 0
	of := func(names ...string) photo {
		taken++
		file := filepath.Join(dir, fmt.Sprintf("photo%d.png", taken))
		if err := os.WriteFile(file, servertest.Photo(taken, names...), 0o600); err != nil {
			t.Fatalf("make a photo: %v", err)
		}
		return photo{File: file}
	}
	return cast{
		People: []person{
			{Name: "ada", Photos: []photo{of("ada"), of("ada")}, Probe: of("ada")},
			{Name: "grace", Photos: []photo{of("grace")}, Probe: of("grace")},
			{Name: "mary", Photos: []photo{of("mary")}, Probe: of("mary")},
		},
		Stranger: of("nobody"),
		Crowd:    of("ada", "grace", "mary"),
	}
}

// strangers is the cast of the npm package's sample photos. Only one person is on two photos; the others are recognised
// on the photo of their enrolment, which tests the protocol but not the recognition.
func strangers(dir string) cast {
	at := func(name string, face int) photo { return photo{File: filepath.Join(dir, name), Face: face} }
	return cast{
		People: []person{
			{Name: "one", Photos: []photo{at("sample1.jpg", 1)}, Probe: at("sample3.jpg", 0)},
			{Name: "two", Photos: []photo{at("sample4.jpg", 0)}, Probe: at("sample4.jpg", 0)},
			{Name: "three", Photos: []photo{at("sample6.jpg", 0)}, Probe: at("sample6.jpg", 0)},
		},
		Stranger: at("sample5.jpg", 0),
		Crowd:    at("sample5.jpg", 0),
	}
}

// photographed chooses a cast of real photos among those available.
func photographed(t *testing.T) cast {
	t.Helper()
	shared := os.Getenv("VISAGE_SHARED")
	if shared == "" {
		shared = filepath.Join(module, "..", "shared")
	}
	if dir := filepath.Join(shared, "testdata", "faces"); exists(filepath.Join(dir, "identification1.jpg")) {
		return family(dir)
	}
	if dir := filepath.Join(module, "models", "node_modules", "@vladmandic", "face-api",
		"demo"); exists(filepath.Join(dir, "sample1.jpg")) {
		return strangers(dir)
	}
	missing(t, "no photos: neither the shared test data nor the npm package's samples; run make setup")
	return cast{}
}

// publish serves every photo of the cast on loopback, fills in the addresses and returns the cast as JSON for the
// scripts.
func (c cast) publish(t *testing.T) string {
	t.Helper()
	c.People = slices.Clone(c.People) // a cast may be published twice at the same time
	for i := range c.People {
		c.People[i].Photos = slices.Clone(c.People[i].Photos)
	}
	files := make(map[string]string) // by path of the address
	mux := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeFile(w, r, file)
	})
	publish := func(p *photo, base string) {
		name := filepath.Base(p.File)
		files["/"+name] = p.File
		p.URL = base + "/" + url.PathEscape(name)
	}
	server := httptest.NewUnstartedServer(mux)
	base := "http://" + server.Listener.Addr().String()
	for i := range c.People {
		for j := range c.People[i].Photos {
			publish(&c.People[i].Photos[j], base)
		}
		publish(&c.People[i].Probe, base)
	}
	publish(&c.Stranger, base)
	publish(&c.Crowd, base)
	server.Start()
	t.Cleanup(server.Close)
	out, err := json.Marshal(c)
	if err != nil {
		t.Fatalf("write the cast down: %v", err)
	}
	return string(out)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// module is the module's folder, two above this one.
var module = func() string {
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		panic("find the module: " + err.Error())
	}
	return dir
}()

// missing skips with a reason on a developer's machine and fails in CI.
func missing(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}
