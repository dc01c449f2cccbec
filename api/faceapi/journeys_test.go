package faceapi_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPeopleAreRecognised enrols, trains, detects, identifies and verifies, on both versions and both kinds of group.
func TestPeopleAreRecognised(t *testing.T) {
	for _, base := range versions {
		for _, kind := range []struct{ path, id string }{{"/persongroups/", "personGroupId"},
			{"/largepersongroups/", "largePersonGroupId"}} {
			t.Run(base+kind.path, func(t *testing.T) {
				r := newFaceServer(t)
				group := base + kind.path + "family"
				r.put(t, group, object{"name": "family", "recognitionModel": "recognition_04"})
				ann := r.enrol(t, group, "Ann", "ann", "ann.1")
				ben := r.enrol(t, group, "Ben", "ben")
				if state := r.train(t, group); state.Status != "succeeded" || state.LastSuccess == nil ||
					state.Message != "" {
					t.Fatalf("training: got %+v", state)
				}
				probes := r.detect(t, base, "ben.2 ann.2 stranger", "recognitionModel=recognition_04")
				a := r.post(t, base+"/identify",
					object{kind.id: "family", "faceIds": probes, "maxNumOfCandidatesReturned": 1})
				var got []string
				for _, f := range decode[[]struct {
					FaceID     string `json:"faceId"`
					Candidates []struct {
						PersonID   string  `json:"personId"`
						Confidence float64 `json:"confidence"`
					} `json:"candidates"`
				}](t, a) {
					person := "nobody"
					for _, c := range f.Candidates {
						person = c.PersonID
						if c.Confidence < 0.5 || c.Confidence > 1 {
							t.Errorf("a candidate with confidence %g", c.Confidence)
						}
					}
					got = append(got, f.FaceID, person)
				}
				if want := []string{probes[0], ben, probes[1], ann, probes[2], "nobody"}; !slices.Equal(got, want) {
					t.Errorf("identify: got %v, want %v", got, want)
				}
				for i, same := range []bool{false, true, false} {
					a := r.post(t, base+"/verify", object{kind.id: "family", "faceId": probes[i], "personId": ann})
					if got := decode[verdict](t, a); got.IsIdentical != same {
						t.Errorf("verify of probe %d with ann: got %+v", i, got)
					}
				}
			})
		}
	}
}

type verdict struct {
	IsIdentical bool    `json:"isIdentical"`
	Confidence  float64 `json:"confidence"`
}

func TestVerifyTwoFaces(t *testing.T) {
	r := newFaceServer(t)
	for _, base := range versions {
		ids := r.detect(t, base, "ann ann.1 ben")
		same := decode[verdict](t, r.post(t, base+"/verify", object{"faceId1": ids[0], "faceId2": ids[1]}))
		other := decode[verdict](t, r.post(t, base+"/verify", object{"faceId1": ids[0], "faceId2": ids[2]}))
		if !same.IsIdentical || same.Confidence < 0.5 || other.IsIdentical || other.Confidence >= 0.5 {
			t.Errorf("%s: got %+v for one person and %+v for two", base, same, other)
		}
	}
}

func TestFindSimilarInEverySource(t *testing.T) {
	r := newFaceServer(t)
	for _, base := range versions {
		probe := r.detect(t, base, "ann.1")[0]
		candidates := r.detect(t, base, "ann ben")
		small, large := base+"/facelists/"+strings.ReplaceAll(base[6:], ".", "-"),
			base+"/largefacelists/"+strings.ReplaceAll(base[6:], ".", "-")
		r.put(t, small, object{"name": "small"})
		r.put(t, large, object{"name": "large"})
		inSmall, inLarge := r.addFace(t, small+"/persistedfaces", "ann"), r.addFace(t, large+"/persistedfaces", "ann")
		r.addFace(t, small+"/persistedfaces", "ben")
		r.addFace(t, large+"/persistedfaces", "ben")
		if state := r.train(t, large); state.Status != "succeeded" {
			t.Fatalf("training: got %+v", state)
		}
		_, id, _ := strings.Cut(small[1:], "facelists/")
		for _, row := range []struct {
			name string
			body object
			key  string
			want string
			n    int
		}{
			{"face ids", object{"faceIds": candidates}, "faceId", candidates[0], 1},
			{"face ids, any", object{"faceIds": candidates, "mode": "matchFace"}, "faceId", candidates[0], 2},
			{"face ids, any, best", object{"faceIds": candidates, "mode": "matchFace", "maxNumOfCandidatesReturned": 1},
				"faceId", candidates[0], 1},
			{"face list", object{"faceListId": id}, "persistedFaceId", inSmall, 1},
			{"face list, any", object{"faceListId": id, "mode": "matchFace"}, "persistedFaceId", inSmall, 2},
			{"large face list", object{"largeFaceListId": id, "mode": "matchPerson"}, "persistedFaceId", inLarge, 1},
			{"large face list, any", object{"largeFaceListId": id, "mode": "matchFace"}, "persistedFaceId", inLarge, 2},
		} {
			t.Run(base+" "+row.name, func(t *testing.T) {
				row.body["faceId"] = probe
				found := decode[[]map[string]any](t, r.post(t, base+"/findsimilars", row.body))
				if len(found) != row.n || found[0][row.key] != row.want {
					t.Errorf("got %v, want %d with %s first", found, row.n, row.want)
				}
				for _, f := range found {
					if len(f) != 2 || f["confidence"] == nil {
						t.Errorf("got fields %v, want %s and confidence", f, row.key)
					}
				}
			})
		}
	}
}

func TestGroupSortsFaces(t *testing.T) {
	r := newFaceServer(t)
	for _, base := range versions {
		ids := r.detect(t, base, "ann ann.1 ben ann.2 ben.1 cem")
		var got struct {
			Groups [][]string `json:"groups"`
			Messy  []string   `json:"messyGroup"`
		}
		if err := json.Unmarshal([]byte(r.post(t, base+"/group", object{"faceIds": ids}).body), &got); err != nil {
			t.Fatal(err)
		}
		for _, group := range got.Groups {
			slices.SortFunc(group, func(a, b string) int { return slices.Index(ids, a) - slices.Index(ids, b) })
		}
		want := [][]string{{ids[0], ids[1], ids[3]}, {ids[2], ids[4]}}
		if diff := cmp.Diff(want, got.Groups); diff != "" || !slices.Equal(got.Messy, ids[5:]) {
			t.Errorf("%s: messy %v, groups: %s", base, got.Messy, diff)
		}
	}
	two := r.detect(t, versions[0], "dan eve")
	if a := r.post(t, versions[0]+"/group", object{"faceIds": two}); !strings.Contains(a.body, `"groups":[]`) {
		t.Errorf("no group: got %s, want both arrays", a.body)
	}
}

func TestDetectAnswersWhatWasAskedFor(t *testing.T) {
	r := newFaceServer(t)
	for _, base := range versions {
		for _, row := range []struct{ name, query, want string }{
			{"by default", "", `[{"faceId":"ID","faceRectangle":{"top":10,"left":0,"width":100,"height":100}}]`},
			{"nothing kept", "returnFaceId=false", `[{"faceRectangle":{"top":10,"left":0,"width":100,"height":100}}]`},
			{"model", "returnRecognitionModel=true&recognitionModel=recognition_03",
				`[{"faceId":"ID","recognitionModel":"recognition_03","faceRectangle":{"top":10,"left":0,"width":100,"height":100}}]`},
			{
				"attributes",
				"returnFaceId=false&recognitionModel=recognition_04&returnFaceAttributes=headPose,blur,exposure,noise,qualityForRecognition",
				`[{"faceRectangle":{"top":10,"left":0,"width":100,"height":100},"faceAttributes":{` +
					`"headPose":{"pitch":0,"roll":3.1,"yaw":-20},"blur":{"blurLevel":"low","value":0.12},` +
					`"exposure":{"exposureLevel":"underExposure","value":0.12},"noise":{"noiseLevel":"low","value":0.12},` +
					`"qualityForRecognition":"high"}}]`},
			{"one attribute", "returnFaceId=false&returnFaceAttributes=blur",
				`[{"faceRectangle":{"top":10,"left":0,"width":100,"height":100},"faceAttributes":{"blur":{"blurLevel":"low","value":0.12}}}]`},
			{"what is worn", "returnFaceId=false&returnFaceAttributes=glasses,occlusion,accessories",
				`[{"faceRectangle":{"top":10,"left":0,"width":100,"height":100},"faceAttributes":{"glasses":"` +
					map[string]string{"/face/v1.0": "ReadingGlasses", "/face/v1.2": "readingGlasses"}[base] + `",` +
					`"occlusion":{"foreheadOccluded":true,"eyeOccluded":false,"mouthOccluded":true},` +
					`"accessories":[{"type":"headwear","confidence":0.99},{"type":"glasses","confidence":1}]}}]`},
			{"a mask", "returnFaceId=false&detectionModel=detection_03&returnFaceAttributes=mask",
				`[{"faceRectangle":{"top":10,"left":0,"width":100,"height":100},"faceAttributes":{` +
					`"mask":{"type":"faceMask","noseAndMouthCovered":true}}}]`},
		} {
			t.Run(base+" "+row.name, func(t *testing.T) {
				a := r.do(t, call{method: "POST", path: base + "/detect?" + row.query, image: "ann"}).want(t, 200, "")
				got := regexp.MustCompile(`"faceId":"[0-9a-f-]{36}"`).ReplaceAllString(a.body, `"faceId":"ID"`)
				if got != row.want {
					t.Errorf("got  %s\nwant %s", got, row.want)
				}
			})
		}
		a := r.do(
			t, call{method: "POST", path: base + "/detect?returnFaceId=false&returnFaceLandmarks=TRUE", image: "ann"},
		).want(t, 200, "")
		found := decode[[]detected](t, a)
		var marks map[string]map[string]float64
		if err := json.Unmarshal(found[0].FaceLandmarks, &marks); err != nil {
			t.Fatal(err)
		}
		if len(marks) != 27 || marks["pupilLeft"]["x"] != 1.3 || strings.Contains(a.body, "-0,") ||
			strings.Contains(a.body, "-0}") {
			t.Errorf("landmarks: got %d, %s", len(marks), a.body)
		}
		a = r.do(t, call{
			method: "POST", path: base + "/detect?returnFaceId=false&returnFaceAttributes=accessories", image: "ben",
		}).want(t, 200, "")
		if !strings.Contains(a.body, `"accessories":[]`) {
			t.Errorf("nothing worn: got %s, want an empty list", a.body)
		}
		a = r.do(t, call{method: "POST", path: base + "/detect", image: "?blurred"}).want(t, 200, "")
		if want := `[{"faceRectangle":{"top":10,"left":0,"width":100,"height":100}}]`; a.body != want {
			t.Errorf("no template: got %s, want %s", a.body, want)
		}
		if a := r.do(t, call{method: "POST", path: base + "/detect", image: " "}).want(t, 200, ""); a.body != "[]" {
			t.Errorf("nobody: got %s", a.body)
		}
	}
}

// TestListsLiveTheirLives performs every operation on lists and their faces.
func TestListsLiveTheirLives(t *testing.T) {
	for _, base := range versions {
		for _, kind := range []struct{ path, id string }{{"/facelists", "faceListId"},
			{"/largefacelists", "largeFaceListId"}} {
			t.Run(base+kind.path, func(t *testing.T) {
				r := newFaceServer(t)
				list := base + kind.path + "/a_list-1"
				r.put(t, list, object{"name": "first", "userData": "data", "recognitionModel": "recognition_02"})
				r.put(t, base+kind.path+"/b", object{"name": "second"})
				small := kind.path == "/facelists"
				faces := ""
				if small {
					faces = `,"persistedFaces":[]`
				}
				wantBody(t, r.get(t, list), `{"`+kind.id+`":"a_list-1","name":"first","userData":"data"`+faces+`}`)
				wantBody(t, r.get(t, list+"?returnRecognitionModel=true"),
					`{"`+kind.id+`":"a_list-1","name":"first","userData":"data","recognitionModel":"recognition_02"`+
						faces+`}`)
				r.do(t, call{method: "PATCH", path: list, json: object{"name": "changed"}}).want(t, 200, "")
				r.do(t, call{method: "PATCH", path: list, json: object{"userData": "other"}}).want(t, 200, "")
				wantBody(t, r.get(t, base+kind.path), `[{"`+kind.id+
					`":"a_list-1","name":"changed","userData":"other"},`+
					`{"`+kind.id+`":"b","name":"second","userData":null}]`)

				face := decode[map[string]string](t, r.do(t, call{
					method: "POST", path: list + "/persistedfaces?userData=a%20face&detectionModel=detection_03",
					image: "ann",
				}).want(t, 200, ""))["persistedFaceId"]
				if small {
					wantBody(t, r.get(t, list),
						`{"faceListId":"a_list-1","name":"changed","userData":"other","persistedFaces":[{"persistedFaceId":"`+face+`","userData":"a face"}]}`)
				} else {
					wantBody(t, r.get(t, list+"/persistedfaces"),
						`[{"persistedFaceId":"`+face+`","userData":"a face"}]`)
					wantBody(t, r.get(t, list+"/persistedfaces/"+face),
						`{"persistedFaceId":"`+face+`","userData":"a face"}`)
					r.do(
						t, call{method: "PATCH", path: list + "/persistedfaces/" + face, json: object{"userData": "x"}},
					).want(t, 200, "")
					wantBody(t, r.get(t, list+"/persistedfaces/"+face), `{"persistedFaceId":"`+face+`","userData":"x"}`)
				}
				item := call{method: "DELETE", path: list + "/persistedfaces/" + face}
				r.do(t, item).want(t, 200, "")
				r.do(t, item).want(t, 404, "PersistedFaceNotFound")
				r.do(t, call{method: "DELETE", path: list}).want(t, 200, "")
				wantBody(t, r.get(t, base+kind.path), `[{"`+kind.id+`":"b","name":"second","userData":null}]`)
			})
		}
	}
}

// TestGroupsLiveTheirLives performs every operation on groups, persons and their faces.
func TestGroupsLiveTheirLives(t *testing.T) {
	for _, base := range versions {
		for _, kind := range []struct{ path, id string }{{"/persongroups", "personGroupId"},
			{"/largepersongroups", "largePersonGroupId"}} {
			t.Run(base+kind.path, func(t *testing.T) {
				r := newFaceServer(t)
				group := base + kind.path + "/g"
				r.put(t, group, object{"name": "first", "userData": nil})
				wantBody(t, r.get(t, group+"?returnRecognitionModel=True"),
					`{"`+kind.id+`":"g","name":"first","userData":null,"recognitionModel":"recognition_01"}`)
				r.do(t, call{method: "PATCH", path: group, json: object{"name": "changed", "userData": "u"}}).
					want(t, 200, "")
				wantBody(t, r.get(t, base+kind.path), `[{"`+kind.id+`":"g","name":"changed","userData":"u"}]`)

				person := group + "/persons/" + r.enrol(t, group, "Ann")
				id := person[len(group+"/persons/"):]
				wantBody(t, r.get(t, person), `{"personId":"`+id+
					`","name":"Ann","userData":null,"persistedFaceIds":[]}`)
				face := r.addFace(t, person+"/persistedfaces?targetFace=100%2C10%2C100%2C100&userData=f", "ben ann")
				wantBody(t, r.get(t, group+"/persons"),
					`[{"personId":"`+id+`","name":"Ann","userData":null,"persistedFaceIds":["`+face+`"]}]`)
				wantBody(t, r.get(t, person+"/persistedfaces/"+face), `{"persistedFaceId":"`+face+`","userData":"f"}`)
				r.do(t, call{method: "PATCH", path: person + "/persistedfaces/" + face, json: object{"userData": "x"}}).
					want(t, 200, "")
				wantBody(t, r.get(t, person+"/persistedfaces/"+face), `{"persistedFaceId":"`+face+`","userData":"x"}`)
				r.do(t, call{method: "PATCH", path: person, json: object{"userData": "p"}}).want(t, 200, "")
				wantBody(t, r.get(t, person), `{"personId":"`+id+`","name":"Ann","userData":"p","persistedFaceIds":["`+
					face+`"]}`)

				r.do(t, call{method: "DELETE", path: person + "/persistedfaces/" + face}).want(t, 200, "")
				r.do(t, call{method: "GET", path: person + "/persistedfaces/" + face}).
					want(t, 404, "PersistedFaceNotFound")
				r.do(t, call{method: "DELETE", path: person}).want(t, 200, "")
				r.do(t, call{method: "GET", path: person}).want(t, 404, "PersonNotFound")
				wantBody(t, r.get(t, group+"/persons"), `[]`)
				r.do(t, call{method: "DELETE", path: group}).want(t, 200, "")
				wantBody(t, r.get(t, base+kind.path), `[]`)
			})
		}
	}
}

func wantBody(t testing.TB, a reply, want string) {
	t.Helper()
	if a.body != want {
		t.Errorf("got  %s\nwant %s", a.body, want)
	}
}

func TestListsAreReadInPages(t *testing.T) {
	for _, base := range versions {
		r := newFaceServer(t)
		for _, path := range []string{"/largefacelists", "/persongroups", "/largepersongroups"} {
			for _, id := range []string{"c", "a", "d", "b"} {
				r.put(t, base+path+"/"+id, object{"name": id})
			}
			for _, row := range []struct{ query, want string }{
				{"", "abcd"}, {"start=a&top=2", "bc"}, {"Start=b0&TOP=1000", "cd"}, {"start=d", ""}, {"top=1", "a"},
			} {
				var names string
				for _, c := range decode[[]map[string]any](t, r.get(t, base+path+"?"+row.query)) {
					names += c["name"].(string)
				}
				if names != row.want {
					t.Errorf("%s%s?%s: got %q, want %q", base, path, row.query, names, row.want)
				}
			}
			for _, query := range []string{
				"top=0", "top=1001", "top=-1", "top=x", "top=1.5", "top=", "top=99999999999999999999", "top=1&top=2",
				"top=%zz",
				"start=" + strings.Repeat("x", 65),
			} {
				r.do(t, call{method: "GET", path: base + path + "?" + query}).want(t, 400, "BadArgument")
			}
		}
		// Small face lists have no pages: the parameters of other lists are ignored.
		r.put(t, base+"/facelists/x", object{"name": "x"})
		if a := r.get(t, base+"/facelists?top=0&start=zzz"); a.body == "[]" {
			t.Errorf("%s/facelists was read in pages", base)
		}
	}
}

// TestTrainingTellsItsState checks contract §8.
func TestTrainingTellsItsState(t *testing.T) {
	for base, waiting := range map[string]string{"/face/v1.0": "notstarted", "/face/v1.2": "notStarted"} {
		t.Run(base, func(t *testing.T) {
			stuck := newFaceServer(t, idle)
			group := base + "/largepersongroups/g"
			stuck.put(t, group, object{"name": "g"})
			stuck.do(t, call{method: "POST", path: group + "/train"}).want(t, 202, "")
			state := decode[training](t, stuck.get(t, group+"/training"))
			if state.Status != waiting || state.LastSuccess != nil || state.LastAction == nil {
				t.Errorf("while it waits: got %+v, want %s and no success", state, waiting)
			}

			r := newFaceServer(t)
			r.put(t, group, object{"name": "g"})
			if state := r.train(t, group); state.Status != "failed" || state.Message == "" || state.LastSuccess != nil {
				t.Errorf("of an empty group: got %+v, want failed with a message", state)
			}
			r.enrol(t, group, "Ann", "ann")
			state = r.train(t, group)
			if state.Status != "succeeded" || state.LastSuccess == nil || state.Message != "" {
				t.Errorf("got %+v, want succeeded", state)
			}
			for _, stamp := range []string{state.Created, *state.LastAction, *state.LastSuccess} {
				if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil ||
					!regexp.MustCompile(`^[^.]*(\.\d{1,7})?Z$`).MatchString(stamp) {
					t.Errorf("%q is no time of the contract", stamp)
				}
			}
		})
	}
}
