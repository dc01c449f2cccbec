package faceapi_test

import (
	"errors"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/face"
)

// fuzzServer is a faceServer that answers without a network.
func fuzzServer(f *testing.F) (*faceServer, *api.Handler) {
	r := newFaceServer(f)
	h, err := api.New(api.Config{
		Planes: []api.Plane{r.plane}, Keys: r.keys, Rate: func(visage.Resource) (float64, int) { return -1, 0 },
	})
	if err != nil {
		f.Fatal(err)
	}
	r.put(f, "/face/v1.2/persongroups/g", object{"name": "g"})
	r.put(f, "/face/v1.2/facelists/l", object{"name": "l"})
	return r, h
}

// ask sends one request of any form, and checks that the answer conforms to the contract and is not an internal
// failure.
func ask(t *testing.T, r *faceServer, h *api.Handler, method, path, query, contentType, body string) reply {
	req := httptest.NewRequest(method, "/", strings.NewReader(body))
	req.URL = &url.URL{Path: path, RawQuery: query}
	req.Header.Set("Ocp-Apim-Subscription-Key", "alice1")
	req.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	a := reply{w.Code, w.Header(), w.Body.String()}
	if a.status >= 500 {
		t.Fatalf("%s %s?%s: got %d %s", method, path, query, a.status, a.body)
	}
	r.specs.check(t, method, path, a)
	return a
}

// FuzzBodies sends bodies to every operation that takes one.
func FuzzBodies(f *testing.F) {
	r, h := fuzzServer(f)
	var calls [][2]string
	for _, route := range r.plane.Routes {
		if route.MaxBody > 0 {
			path := strings.NewReplacer("{personGroupId}", "g", "{faceListId}", "l", "{personId}", nobody,
				"{persistedFaceId}", nobody,
				"{largePersonGroupId}", "g", "{largeFaceListId}", "l").Replace(route.Pattern)
			calls = append(calls, [2]string{route.Method, path})
		}
	}
	for i, seed := range []string{
		`{"faceId1":"` + nobody + `","faceId2":"` + nobody + `"}`,
		`{"faceIds":["` + nobody + `"],"personGroupId":"g","confidenceThreshold":0.5}`,
		`{"faceId":"` + nobody + `","faceListId":"l","mode":"matchFace"}`,
		`{"name":"n","userData":"u","recognitionModel":"recognition_04"}`,
		`{"url":"mailto:x"}`, `{"sessionImageId":"x"}`, `{"personIds":["*"]}`, `{}`, `null`, `{"name":null}`,
		`{"name":"\ud800"}`, `[`, ``,
		`{"maxNumOfCandidatesReturned":-1e9}`, `{"confidenceThreshold":1e999}`, `{"faceIds":[null]}`,
	} {
		f.Add(uint8(i), seed)
		f.Add(uint8(i+len(calls)/2), seed)
	}
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		if strings.Contains(strings.ToLower(body), "http") {
			t.Skip("would be fetched")
		}
		c := calls[int(which)%len(calls)]
		ask(t, r, h, c[0], c[1], "", "application/json", body)
	})
}

// FuzzPaths sends paths and methods: none is redirected, none fails, and every answer is in the contract.
func FuzzPaths(f *testing.F) {
	r, h := fuzzServer(f)
	for _, route := range r.plane.Routes {
		f.Add(route.Method, route.Pattern)
	}
	for _, seed := range []string{
		"//face//v1.2/facelists", "/face/v1.2/facelists/../persongroups", "/face/v1.2/./facelists",
		"/FACE/V1.0/FACELISTS/", "/", "", "*",
		"/face", "/face/v1.2/facelists/%2e%2e", "/face/v1.2/facelists/\x00", "/face/v1.2/facelists/é",
		"face/v1.2/facelists",
	} {
		f.Add("GET", seed)
		f.Add("PUT", seed)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		switch method {
		case "GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS":
		default:
			method = "GET"
		}
		a := ask(t, r, h, method, path, "", "application/json", `{"name":""}`)
		if a.status >= 300 && a.status < 400 || a.header.Get("apim-request-id") == "" &&
			strings.HasPrefix(strings.ToLower(path), "/face/") {
			t.Errorf("%s %q: got %d, request id %q", method, path, a.status, a.header.Get("apim-request-id"))
		}
	})
}

// FuzzQueries sends queries to detection and enrolment.
func FuzzQueries(f *testing.F) {
	r, h := fuzzServer(f)
	for _, seed := range []string{
		"returnFaceId=true&returnFaceLandmarks=True&returnFaceAttributes=headPose%2CBlur&recognitionModel=recognition_04&faceIdTimeToLive=60",
		"targetFace=1,2,3,4&userData=%E2%82%AC&detectionModel=detection_03", "targetFace=%2C%2C%2C",
		"returnFaceAttributes=,,,", "top=%",
		"faceIdTimeToLive=-0", "targetFace=+1,2,3,4", "a;b", "returnFaceId=&returnFaceId=",
		"targetFace=9223372036854775807,1,1,1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range []string{"/face/v1.0/detect", "/face/v1.2/facelists/none/persistedfaces"} {
			ask(t, r, h, "POST", path, query, "application/octet-stream", "ann")
		}
	})
}

// FuzzTargetFace checks that accepted values are four numbers, which give the same values again.
func FuzzTargetFace(f *testing.F) {
	for _, seed := range []string{"1,2,3,4", "0,0,1,1", "-1,0,1,1", "1,2,3", "1,2,3,4,5", " 1,2,3,4", "+1,2,3,4",
		"0x1,2,3,4", "1_0,2,3,4", ",,,", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		box, err := face.ParseTargetFace(s)
		if err != nil {
			if _, ok := errors.AsType[*visage.Refusal](err); !ok {
				t.Fatalf("%q: refused with %T", s, err)
			}
			return
		}
		if box.Left < 0 || box.Top < 0 || box.Width < 1 || box.Height < 1 || box.Left+box.Width < box.Left ||
			box.Top+box.Height < box.Top {
			t.Errorf("%q: accepted as %+v", s, box)
		}
	})
}
