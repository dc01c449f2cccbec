package faceapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/visage-face/visage/api/faceapi"
)

// Rules of the contract that servers often violate, contract §12, in its order.

func TestTrap01RepeatedSlashesAreNotRedirected(t *testing.T) {
	r := newFaceServer(t)
	for _, path := range []string{"//face/v1.0/detect", "/face//v1.2///detect", "///face/v1.2/detect/"} {
		r.do(t, call{method: "POST", path: path, image: "ann"}).want(t, 200, "")
	}
}

func TestTrap02EverySuccessIsTheOneTheClientsKnow(t *testing.T) {
	r := newFaceServer(t)
	for _, base := range versions {
		for _, path := range []string{"/facelists/x", "/largefacelists/x", "/persongroups/x", "/largepersongroups/x"} {
			for _, c := range []call{
				{method: "PUT", path: base + path, json: object{"name": "x"}},
				{method: "PATCH", path: base + path, json: object{"name": "y"}},
				{method: "DELETE", path: base + path},
			} {
				if a := r.do(t, c).want(t, 200, ""); a.body != "" || a.header.Get("Content-Length") != "0" ||
					a.header["Content-Type"] != nil {
					t.Errorf("%s %s: got %v %q, want an empty 200 without a content type", c.method, c.path, a.header,
						a.body)
				}
			}
		}
		r.put(t, base+"/persongroups/g", object{"name": "g"})
		// not 201
		r.do(t, call{method: "POST", path: base + "/persongroups/g/persons", json: object{"name": "x"}}).
			want(t, 200, "")
		r.do(t, call{method: "DELETE", path: base + "/persongroups/g"}).want(t, 200, "")
	}
}

func TestTrap03TrainingHasAnAbsoluteOperationLocation(t *testing.T) {
	r := newFaceServer(t)
	for _, base := range versions {
		for _, path := range []string{"/largefacelists/x-1", "/persongroups/x-1", "/largepersongroups/x-1"} {
			r.put(t, base+path, object{"name": "x"})
			for host, want := range map[string]string{
				"": "https://face.example:8443", "alice.face.example:8443": "https://alice.face.example:8443",
				"Alice.Face.example.": "https://alice.face.example:8443", "evil.example": "https://face.example:8443",
			} {
				for {
					a := r.do(t, call{method: "POST", path: "/" + base + path + "/train", host: host})
					if a.status == http.StatusConflict {
						continue // the earlier one is still running
					}
					a.want(t, 202, "")
					if got := a.header.Get("Operation-Location"); got != want+base+path+"/training" || a.body != "" {
						t.Errorf("called as %s: got %q", want, got)
					}
					if got := a.header.Get("Access-Control-Expose-Headers"); got != "Operation-Location" {
						t.Errorf("browsers may not read Operation-Location: %q", got)
					}
					break
				}
			}
			r.get(t, base+path+"/training")
		}
		for _, path := range []string{"/largefacelists/x-1", "/persongroups/x-1", "/largepersongroups/x-1"} {
			for r.do(t, call{method: "DELETE", path: base + path}).status == http.StatusConflict {
			}
		}
	}
}

func TestTrap04NotFoundIs400WhereItIsAnArgument(t *testing.T) {
	r := newFaceServer(t)
	for _, base := range versions {
		face := r.detect(t, base, "ann")[0]
		for _, row := range []struct {
			path   string
			body   object
			status int
			code   string
		}{
			{"/identify", object{"faceIds": []string{face}, "personGroupId": "none"}, 400, "PersonGroupNotFound"},
			{"/findsimilars", object{"faceId": nobody, "faceIds": []string{face}}, 400, "FaceNotFound"},
			{"/findsimilars", object{"faceId": face, "faceListId": "none"}, 400, "FaceListNotFound"},
			{"/verify", object{"faceId1": nobody, "faceId2": face}, 404, "FaceNotFound"},
		} {
			r.do(t, call{method: "POST", path: base + row.path, json: row.body}).want(t, row.status, row.code)
		}
		r.do(t, call{method: "GET", path: base + "/persongroups/none"}).want(t, 404, "PersonGroupNotFound")
		r.put(t, base+"/persongroups/g", object{"name": "g"})
		r.do(
			t, call{method: "POST", path: base + "/identify",
				json: object{"faceIds": []string{nobody}, "personGroupId": "g"}},
		).want(t, 400, "FaceNotFound")
		r.do(t, call{method: "DELETE", path: base + "/persongroups/g"}).want(t, 200, "")
	}
}

func TestTrap05NeverTrainedIs404OnTrainingAnd400InIdentify(t *testing.T) {
	r := newFaceServer(t)
	for _, base := range versions {
		r.put(t, base+"/largepersongroups/g", object{"name": "g"})
		face := r.detect(t, base, "ann")[0]
		r.do(t, call{method: "GET", path: base + "/largepersongroups/g/training"}).
			want(t, 404, "LargePersonGroupNotTrained")
		r.do(
			t, call{method: "POST", path: base + "/identify",
				json: object{"faceIds": []string{face}, "largePersonGroupId": "g"}},
		).
			want(t, 400, "LargePersonGroupNotTrained")
		r.do(t, call{method: "DELETE", path: base + "/largepersongroups/g"}).want(t, 200, "")
	}
}

func TestTrap06DefaultNumberOfCandidatesDiffersByVersion(t *testing.T) {
	r := newFaceServer(t)
	group := "/face/v1.2/persongroups/g"
	r.put(t, group, object{"name": "g"})
	for i := range 12 {
		r.enrol(t, group, fmt.Sprint("Ann ", i), fmt.Sprint("ann.", i))
	}
	r.train(t, group)
	face := r.detect(t, versions[0], "ann")[0]
	for base, want := range map[string]int{"/face/v1.0": 1, "/face/v1.2": 10} {
		a := r.post(t, base+"/identify",
			object{"faceIds": []string{face}, "personGroupId": "g", "confidenceThreshold": 0})
		if got := strings.Count(a.body, "personId"); got != want {
			t.Errorf("%s: got %d candidates, want %d", base, got, want)
		}
	}
}

func TestTrap07WhatOlderClientsSend(t *testing.T) {
	r := newFaceServer(t)
	for _, base := range versions {
		legacy := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
		r.do(t, call{method: "PUT", path: base + "/persongroups/g", json: `{"name":"g"}`, header: legacy}).
			want(t, 200, "")
		// of an empty body
		r.do(t, call{method: "POST", path: base + "/persongroups/g/train", header: legacy}).want(t, 202, "")
		r.do(t, call{method: "GET", path: base + "/persongroups/g", header: legacy}).want(t, 200, "")
		for r.do(t, call{method: "DELETE", path: base + "/persongroups/g", header: legacy}).
			status == http.StatusConflict {
		}
		for _, query := range []string{
			"returnFaceAttributes=HeadPose%2CBlur%2CExposure%2CNoise",
			"returnFaceAttributes=headpose,BLUR,exposure,noise",
			"RETURNFACEATTRIBUTES=headPose,%20blur,,exposure,noise,",
		} {
			a := r.do(t, call{method: "POST", path: base + "/detect?" + query, image: "ann"}).want(t, 200, "")
			for _, name := range []string{"headPose", "blurLevel", "exposureLevel", "noiseLevel"} {
				if !strings.Contains(a.body, `"`+name+`"`) {
					t.Errorf("%s: got %s without %s", query, a.body, name)
				}
			}
		}
		req, err := http.NewRequestWithContext(t.Context(), "POST", r.URL+base+"/detect?returnFaceId=True",
			&endless{strings.NewReader("ann")})
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(faceapi.KeyHeader, "alice1")
		req.Header.Set("Content-Type", "application/octet-stream; q=1")
		if req.ContentLength != 0 {
			t.Fatal("the upload is not chunked")
		}
		r.send(t, req).want(t, 200, "")
	}
}

// endless hides the length of a body, so that it is sent in chunks.
type endless struct{ *strings.Reader }

func TestTrap08TargetFaceIsLeftTopWidthHeight(t *testing.T) {
	r := newFaceServer(t)
	for _, base := range versions {
		r.put(t, base+"/facelists/l", object{"name": "l"})
		// The second face of the photo lies at left 100, top 10.
		r.addFace(t, base+"/facelists/l/persistedfaces?targetFace=100,10,100,100", "ben ann")
		r.do(
			t, call{method: "POST", path: base + "/facelists/l/persistedfaces?targetFace=10,400,100,100",
				image: "ben ann"},
		).want(t, 400, "InvalidImage")
		face := r.detect(t, base, "ann")[0]
		if a := r.post(t, base+"/findsimilars", object{"faceId": face, "faceListId": "l"}); !strings.Contains(a.body,
			"persistedFaceId") {
			t.Errorf("%s: the wrong face was added: %s", base, a.body)
		}
		if a := r.do(t, call{method: "POST", path: base + "/detect", image: "ann"}); !strings.Contains(a.body,
			`{"top":10,"left":0,`) {
			t.Errorf("%s: got %s", base, a.body)
		}
		r.do(t, call{method: "DELETE", path: base + "/facelists/l"}).want(t, 200, "")
	}
}

func TestTrap09MalformedIDsAre400OnPutAnd404Elsewhere(t *testing.T) {
	r := newFaceServer(t)
	for _, base := range versions {
		for path, code := range map[string]string{
			"/facelists/X.Y": "FaceListNotFound", "/largefacelists/X.Y": "LargeFaceListNotFound",
			"/persongroups/X.Y": "PersonGroupNotFound", "/largepersongroups/X.Y": "LargePersonGroupNotFound",
		} {
			r.do(t, call{method: "PUT", path: base + path, json: object{"name": "x"}}).want(t, 400, "BadArgument")
			for _, method := range []string{"GET", "DELETE"} {
				r.do(t, call{method: method, path: base + path}).want(t, 404, code)
			}
			r.do(t, call{method: "PATCH", path: base + path, json: object{"name": "x"}}).want(t, 404, code)
		}
	}
}

func TestTrap10UnconfiguredClientsGetRecognition01(t *testing.T) {
	r := newFaceServer(t)
	legacy := "?returnFaceId=true&returnFaceLandmarks=false&recognitionModel=recognition_01&returnRecognitionModel=true" +
		"&detectionModel=detection_01&faceIdTimeToLive=86400"
	for _, base := range versions {
		for _, query := range []string{legacy, "?returnRecognitionModel=true"} {
			a := r.do(t, call{method: "POST", path: base + "/detect" + query, image: "ann"}).want(t, 200, "")
			if !strings.Contains(a.body, `"recognitionModel":"recognition_01"`) {
				t.Errorf("%s%s: got %s", base, query, a.body)
			}
		}
		r.put(t, base+"/persongroups/g", object{"name": "g"})
		if a := r.get(t, base+"/persongroups/g?returnRecognitionModel=true"); !strings.Contains(a.body,
			"recognition_01") {
			t.Errorf("%s: got %s", base, a.body)
		}
		r.do(t, call{method: "DELETE", path: base + "/persongroups/g"}).want(t, 200, "")
	}
}

// Further ground rules, contract §1.

func TestPathsAndUUIDsMatchInAnyCaseAndChosenIDsDoNot(t *testing.T) {
	r := newFaceServer(t)
	r.put(t, "/face/v1.2/PersonGroups/g", object{"name": "g"})
	person := r.enrol(t, "/face/v1.2/persongroups/g", "Ann")
	r.addFace(t, "/Face/V1.2/personGroups/g/Persons/"+person+"/persistedFaces", "ann")
	r.do(t, call{method: "GET", path: "/face/v1.2/persongroups/G"}).want(t, 404, "PersonGroupNotFound")
	a := r.do(t, call{method: "GET", path: "/face/v1.2/persongroups/g/persons/" + strings.ToUpper(person)}).
		want(t, 200, "")
	if !strings.Contains(a.body, `"personId":"`+person+`"`) {
		t.Errorf("got %s", a.body)
	}
}

func TestClientRequestIDIsEchoed(t *testing.T) {
	r := newFaceServer(t)
	a := r.do(
		t, call{method: "GET", path: "/face/v1.2/facelists", header: http.Header{"X-Ms-Client-Request-Id": {nobody}}},
	)
	if got := a.header.Get("x-ms-client-request-id"); got != nobody {
		t.Errorf("got %q", got)
	}
	a = r.do(
		t, call{method: "GET", path: "/face/v1.2/facelists",
			header: http.Header{"X-Ms-Client-Request-Id": {strings.Repeat("x", 1000)}}},
	)
	if got := a.header.Get("x-ms-client-request-id"); got != "" {
		t.Errorf("echoed %d characters", len(got))
	}
}
