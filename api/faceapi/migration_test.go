package faceapi_test

import (
	"slices"
	"strings"
	"testing"
)

type migration struct {
	From    string `json:"recognitionModel"`
	To      string `json:"newRecognitionModel"`
	Faces   int    `json:"faces"`
	Sent    int    `json:"sentFaces"`
	Started string `json:"startedDateTime"`
}

type missing struct {
	PersonID string   `json:"personId"`
	FaceIDs  []string `json:"persistedFaceIds"`
}

// TestACollectionMovesToAnotherModel migrates a collection of every kind from one pack to another on the wire.
func TestACollectionMovesToAnotherModel(t *testing.T) {
	for _, base := range versions {
		for _, path := range []string{"/facelists/l", "/largefacelists/l", "/persongroups/g", "/largepersongroups/g"} {
			t.Run(base+path, func(t *testing.T) {
				r := newFaceServer(t)
				at := base + path
				r.put(t, at, object{"name": "n", "recognitionModel": "recognition_01"})
				r.do(t, call{method: "GET", path: at + "/migration"}).want(t, 404, kindOf(path)+"MigrationNotFound")
				var faces []string // the path of each
				enrol := func(photo string) {
					where := at + "/persistedfaces"
					if strings.Contains(path, "groups") {
						person := r.enrol(t, at, photo)
						where = at + "/persons/" + person + "/persistedfaces"
					}
					faces = append(faces, where+"/"+r.addFace(t, where, photo))
				}
				enrol("ann")
				enrol("ben")
				r.do(t, call{method: "POST", path: at + "/migration", json: object{}}).want(t, 400, "BadArgument")
				r.post(t, at+"/migration", object{"recognitionModel": "recognition_03"})
				r.do(
					t, call{method: "POST", path: at + "/migration",
						json: object{"recognitionModel": "recognition_02"}},
				).
					want(t, 409, kindOf(path)+"MigrationExists")
				r.do(t, call{method: "PUT", path: faces[0] + "/migration", image: "ben"}).want(t, 400, "BadArgument")
				r.do(t, call{method: "PUT", path: faces[0] + "/migration?force=x", image: "ann"}).
					want(t, 400, "BadArgument")
				r.do(t, call{method: "PUT", path: faces[0] + "/migration?force=true", image: "ben"}).want(t, 200, "")
				r.do(t, call{method: "PUT", path: faces[0] + "/migration?targetFace=0,10,100,100", image: "ann ben"}).
					want(t, 200, "")
				m := decode[migration](t, r.get(t, at+"/migration"))
				if m.From != "recognition_01" || m.To != "recognition_03" || m.Faces != 2 || m.Sent != 1 ||
					m.Started == "" {
					t.Errorf("migration: %+v", m)
				}
				left := decode[[]missing](t, r.get(t, at+"/migration/missing?top=5"))
				if len(left) != 1 || !slices.Equal(left[0].FaceIDs,
					[]string{faces[1][strings.LastIndex(faces[1], "/")+1:]}) {
					t.Errorf("missing: %+v, want Ben", left)
				}
				r.do(t, call{method: "POST", path: at + "/migration/complete", json: object{}}).
					want(t, 409, kindOf(path)+"MigrationNotFinished")
				r.do(t, call{method: "PUT", path: faces[1] + "/migration", image: "ben.1"}).want(t, 200, "")
				wantBody(t, r.get(t, at+"/migration/missing"), `[]`)
				r.post(t, at+"/migration/complete", object{})
				if a := r.get(t, at+"?returnRecognitionModel=true"); !strings.Contains(a.body, "recognition_03") {
					t.Errorf("afterwards: %s", a.body)
				}
				r.post(t, at+"/migration", object{"recognitionModel": "recognition_01"})
				r.do(t, call{method: "DELETE", path: at + "/migration"}).want(t, 200, "")
				r.do(t, call{method: "DELETE", path: at + "/migration"}).want(t, 404, kindOf(path)+"MigrationNotFound")
				r.post(t, at+"/migration", object{"recognitionModel": "recognition_01"})
				r.post(t, at+"/migration/complete", object{"dropMissing": true})
				r.do(t, call{method: "DELETE", path: at}).want(t, 200, "")
			})
		}
	}
}

// kindOf returns the word with which refusal codes about a collection begin.
func kindOf(path string) string {
	return map[string]string{
		"facelists": "FaceList", "largefacelists": "LargeFaceList",
		"persongroups": "PersonGroup", "largepersongroups": "LargePersonGroup",
	}[strings.Split(path, "/")[1]]
}
