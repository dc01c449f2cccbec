package faceapi_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/faceapi"
)

// imagePaths creates the objects that each operation on an image needs, and returns the paths.
func imagePaths(t testing.TB, r *faceServer, base string) []string {
	r.put(t, base+"/facelists/l", object{"name": "l"})
	r.put(t, base+"/largefacelists/l", object{"name": "l"})
	r.put(t, base+"/persongroups/g", object{"name": "g"})
	r.put(t, base+"/largepersongroups/g", object{"name": "g"})
	return []string{
		base + "/detect", base + "/facelists/l/persistedfaces", base + "/largefacelists/l/persistedfaces",
		base + "/persongroups/g/persons/" + r.enrol(t, base+"/persongroups/g", "Ann") + "/persistedfaces",
		base + "/largepersongroups/g/persons/" + r.enrol(t, base+"/largepersongroups/g", "Ann") + "/persistedfaces",
	}
}

func TestImagesByAddress(t *testing.T) {
	photos := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ann.jpg" {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, "ann")
	}))
	defer photos.Close()
	for _, base := range versions {
		r := newFaceServer(t)
		for _, path := range imagePaths(t, r, base) {
			r.post(t, path, object{"url": photos.URL + "/ann.jpg"})
			r.do(t, call{method: "POST", path: path, json: object{"url": photos.URL + "/none.jpg"}}).
				want(t, 400, "InvalidURL")
		}
	}
}

func TestPrivateAddressesAreRefusedUnlessAllowed(t *testing.T) {
	r := newFaceServer(t)
	strict, err := faceapi.New(faceapi.Config{Service: r.service})
	if err != nil {
		t.Fatal(err)
	}
	h, err := api.New(api.Config{Planes: []api.Plane{strict}, Keys: r.keys})
	if err != nil {
		t.Fatal(err)
	}
	r.Config.Handler = h
	called := false
	photos := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	defer photos.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(photos.URL, "http://"), ":")
	for _, address := range []string{photos.URL, "http://localhost:" + port, "http://[::1]:" + port,
		"http://0.0.0.0:" + port} {
		r.do(t, call{method: "POST", path: "/face/v1.2/detect", json: object{"url": address + "/ann.jpg"}}).
			want(t, 400, "InvalidURL")
	}
	if called {
		t.Error("the private address was called")
	}
}

func TestWrongContentTypes(t *testing.T) {
	r := newFaceServer(t)
	for _, base := range versions {
		jsonOnly := []call{
			{method: "POST", path: base + "/verify"}, {method: "POST", path: base + "/identify"},
			{method: "POST", path: base + "/group"},
			{method: "POST", path: base + "/findsimilars"}, {method: "PUT", path: base + "/facelists/x"},
			{method: "PATCH", path: base + "/facelists/x"}, {method: "POST", path: base + "/persongroups/x/persons"},
		}
		images := []call{{method: "POST", path: base + "/detect"},
			{method: "POST", path: base + "/facelists/x/persistedfaces"}}
		for i, calls := range [][]call{jsonOnly, images} {
			types := []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
				"image/jpeg", "application/xml", "json", ";;;"}
			if i == 0 {
				types = append(types, "application/octet-stream")
			}
			for _, c := range calls {
				for _, contentType := range types {
					c.json, c.header = `{"name":"x"}`, http.Header{"Content-Type": {contentType}}
					r.do(t, c).want(t, 415, "UnsupportedMediaType")
				}
			}
		}
	}
}

func TestBodiesOverTheirLimit(t *testing.T) {
	const most = 6 << 20
	for _, base := range versions {
		r := newFaceServer(t)
		for _, path := range imagePaths(t, r, base) {
			image := "ann" + strings.Repeat(" ", most-3)
			r.do(t, call{method: "POST", path: path, image: image}).want(t, 200, "")
			r.do(t, call{method: "POST", path: path, image: image + " "}).want(t, 400, "InvalidImageSize")
			req, err := http.NewRequestWithContext(t.Context(), "POST", r.URL+path,
				&endless{strings.NewReader(image + " ")})
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set(faceapi.KeyHeader, "alice1")
			req.Header.Set("Content-Type", "application/octet-stream")
			r.send(t, req).want(t, 400, "InvalidImageSize")
			r.do(t, call{method: "POST", path: path, json: `{"url":"` + strings.Repeat("x", 300<<10) + `"}`}).
				want(t, 400, "BadArgument")
		}
		long := `{"name":"` + strings.Repeat("x", 300<<10) + `"}`
		r.do(t, call{method: "PUT", path: base + "/facelists/x", json: long}).want(t, 413, "413")
		r.do(t, call{method: "POST", path: base + "/verify", json: long}).want(t, 413, "413")
	}
}

// TestLongestUserData sends the longest userData of the contract, in the form that takes the most bytes.
func TestLongestUserData(t *testing.T) {
	r := newFaceServer(t)
	body := `{"name":"` + strings.Repeat(`\u00e9`, 128) + `","userData":"` + strings.Repeat(`\u00e9`, 16_384) + `"}`
	r.do(t, call{method: "PUT", path: "/face/v1.2/facelists/x", json: body}).want(t, 200, "")
	if a := r.get(t, "/face/v1.2/facelists/x"); strings.Count(a.body, "é") != 128+16_384 {
		t.Errorf("got %d characters back", strings.Count(a.body, "é"))
	}
}
