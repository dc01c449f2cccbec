package faceapi_test

import (
	"net/http"
	"strings"
	"testing"
)

const (
	nobody    = "11111111-2222-4333-8444-555555555555" // a UUID that names nothing
	malformed = "not-a-uuid"
)

// fixture is the objects that the rows of the error tables refer to by name; see fill.
type fixture struct {
	names *strings.Replacer
}

// newFixture creates one object of each kind: g, empty, and other (of another model) are groups of both kinds, and
// lists of both; g is trained.
func newFixture(t *testing.T, r *faceServer, base string) fixture {
	t.Helper()
	var replaced []string
	for _, kind := range []string{"/persongroups/", "/largepersongroups/"} {
		r.put(t, base+kind+"g", object{"name": "g"})
		r.put(t, base+kind+"empty", object{"name": "empty"})
		r.put(t, base+kind+"other", object{"name": "other", "recognitionModel": "recognition_04"})
		person := r.enrol(t, base+kind+"g", "Ann", "ann")
		replaced = append(replaced, "{person of "+kind+"g}", person, "{faceless of "+kind+"g}",
			r.enrol(t, base+kind+"g", "Ben"))
		replaced = append(replaced, "{person of "+kind+"other}", r.enrol(t, base+kind+"other", "Ann", "ann"))
		r.train(t, base+kind+"g")
		r.train(t, base+kind+"other")
	}
	for _, kind := range []string{"/facelists/", "/largefacelists/"} {
		r.put(t, base+kind+"l", object{"name": "l"})
		r.put(t, base+kind+"empty", object{"name": "empty"})
		r.put(t, base+kind+"other", object{"name": "other", "recognitionModel": "recognition_04"})
		replaced = append(replaced, "{face of "+kind+"l}", r.addFace(t, base+kind+"l/persistedfaces", "ann"))
		r.addFace(t, base+kind+"other/persistedfaces", "ann")
	}
	r.train(t, base+"/largefacelists/l")
	r.train(t, base+"/largefacelists/other")
	ids := r.detect(t, base, "ann ben")
	replaced = append(replaced, "{face}", ids[0], "{face2}", ids[1], "{nobody}", nobody, "{malformed}", malformed)
	many := strings.Repeat(`"`+ids[0]+`",`, 1000)
	replaced = append(replaced, "{1001 faces}", many+`"`+ids[0]+`"`, "{11 faces}", many[:10*39]+`"`+ids[0]+`"`)
	return fixture{strings.NewReplacer(replaced...)}
}

func (f fixture) fill(s string) string { return f.names.Replace(s) }

// TestErrors has a row for every code of the contract on every operation that may return it. Paths begin after the
// version; bodies that begin with a brace are JSON, others are photos.
func TestErrors(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	rows := []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		// Detect, contract §4.
		{"no url", "POST", "/detect", `{}`, 400, "BadArgument"},
		{"null url", "POST", "/detect", `{"url":null}`, 400, "BadArgument"},
		{"url is no string", "POST", "/detect", `{"url":5}`, 400, "BadArgument"},
		{"unknown field", "POST", "/detect", `{"url":"http://photos.example/","size":1}`, 400, "BadArgument"},
		{"url is no address", "POST", "/detect", `{"url":"photo.jpg"}`, 400, "InvalidURL"},
		{"url is empty", "POST", "/detect", `{"url":""}`, 400, "InvalidURL"},
		{"url of another scheme", "POST", "/detect", `{"url":"file:///etc/passwd"}`, 400, "InvalidURL"},
		{"no picture", "POST", "/detect", `!format`, 400, "InvalidImage"},
		{"broken picture", "POST", "/detect", `!broken`, 400, "InvalidImage"},
		{"too few bytes", "POST", "/detect", `!few`, 400, "InvalidImageSize"},
		{"too many pixels", "POST", "/detect", `!large`, 400, "InvalidImageSize"},
		{"recognition fails", "POST", "/detect", `!fail`, 500, "InternalServerError"},
		{"recognition panics", "POST", "/detect", `!panic`, 500, "InternalServerError"},
		{"unknown recognition model", "POST", "/detect?recognitionModel=recognition_99", "ann", 400, "BadArgument"},
		{"unknown detection model", "POST", "/detect?detectionModel=detection_99", "ann", 400, "BadArgument"},
		{"unknown attribute", "POST", "/detect?returnFaceAttributes=beauty", "ann", 400, "BadArgument"},
		{"landmarks of detection_02", "POST", "/detect?detectionModel=detection_02&returnFaceLandmarks=true", "ann",
			400, "BadArgument"},
		{"attributes of detection_02", "POST", "/detect?detectionModel=detection_02&returnFaceAttributes=blur", "ann",
			400, "BadArgument"},
		{"quality of recognition_01", "POST", "/detect?returnFaceAttributes=qualityForRecognition", "ann", 400,
			"BadArgument"},
		{"short life", "POST", "/detect?faceIdTimeToLive=59", "ann", 400, "BadArgument"},
		{"long life", "POST", "/detect?faceIdTimeToLive=86401", "ann", 400, "BadArgument"},
		{"life in words", "POST", "/detect?faceIdTimeToLive=day", "ann", 400, "BadArgument"},
		{"flag in words", "POST", "/detect?returnFaceId=yes", "ann", 400, "BadArgument"},
		{"retired attribute", "POST", "/detect?returnFaceAttributes=emotion", "ann", 403, "InvalidRequest"},
		{"retired among others", "POST", "/detect?returnFaceAttributes=blur,Gender", "ann", 403, "InvalidRequest"},
		{"attribute that needs approval", "POST", "/detect?returnFaceAttributes=age", "ann", 403, "InvalidRequest"},
		{"attribute without a network", "POST", "/detect?recognitionModel=recognition_02&returnFaceAttributes=glasses",
			"ann", 403, "InvalidRequest"},

		// Verify, contract §5.1.
		{"verify nothing", "POST", "/verify", `{}`, 400, "BadArgument"},
		{"verify one face", "POST", "/verify", `{"faceId1":"{face}"}`, 400, "BadArgument"},
		{"verify malformed", "POST", "/verify", `{"faceId1":"{malformed}","faceId2":"{face}"}`, 400, "BadArgument"},
		{"verify both forms", "POST", "/verify", `{"faceId1":"{face}","faceId2":"{face}","personId":"{nobody}"}`, 400,
			"BadArgument"},
		{"verify both groups", "POST", "/verify",
			`{"faceId":"{face}","personId":"{nobody}","personGroupId":"g","largePersonGroupId":"g"}`, 400,
			"BadArgument"},
		{"verify malformed group", "POST", "/verify", `{"faceId":"{face}","personId":"{nobody}","personGroupId":"G!"}`,
			400, "BadArgument"},
		{"verify malformed person", "POST", "/verify",
			`{"faceId":"{face}","personId":"{malformed}","personGroupId":"g"}`, 400, "BadArgument"},
		{"verify other model", "POST", "/verify",
			`{"faceId":"{face}","personId":"{person of /persongroups/other}","personGroupId":"other"}`, 400,
			"BadArgument"},
		{"verify unknown face", "POST", "/verify", `{"faceId1":"{face}","faceId2":"{nobody}"}`, 404, "FaceNotFound"},
		{"verify unknown face with person", "POST", "/verify",
			`{"faceId":"{nobody}","personId":"{person of /persongroups/g}","personGroupId":"g"}`, 404, "FaceNotFound"},
		{"verify unknown group", "POST", "/verify", `{"faceId":"{face}","personId":"{nobody}","personGroupId":"none"}`,
			400, "PersonGroupNotFound"},
		{"verify unknown large group", "POST", "/verify",
			`{"faceId":"{face}","personId":"{nobody}","largePersonGroupId":"none"}`, 400, "LargePersonGroupNotFound"},
		{"verify unknown person", "POST", "/verify", `{"faceId":"{face}","personId":"{nobody}","personGroupId":"g"}`,
			400, "PersonNotFound"},
		{"verify unknown person of large group", "POST", "/verify",
			`{"faceId":"{face}","personId":"{nobody}","largePersonGroupId":"g"}`, 400, "PersonNotFound"},
		{"verify faceless person", "POST", "/verify",
			`{"faceId":"{face}","personId":"{faceless of /persongroups/g}","personGroupId":"g"}`, 404,
			"PersistedFaceNotFound"},
		{"verify person of the directory", "POST", "/verify", `{"faceId":"{face}","personId":"{nobody}"}`, 404,
			"PersonNotFound"},
		{"verify unknown field", "POST", "/verify", `{"faceId1":"{face}","faceId2":"{face}","faceId3":"{face}"}`, 400,
			"BadArgument"},
		{"verify wrong type", "POST", "/verify", `{"faceId1":["{face}"],"faceId2":"{face}"}`, 400, "BadArgument"},

		// Identify, contract §5.2.
		{"identify no scope", "POST", "/identify", `{"faceIds":["{face}"]}`, 400,
			"PersonGroupIdAndLargePersonGroupIdBothNull"},
		{"identify both groups", "POST", "/identify",
			`{"faceIds":["{face}"],"personGroupId":"g","largePersonGroupId":"g"}`, 400,
			"PersonGroupIdAndLargePersonGroupIdBothNotNull"},
		{"identify empty persons", "POST", "/identify", `{"faceIds":["{face}"],"personIds":[]}`, 400,
			"MissingIdentificationScopeParameters"},
		{"identify group and persons", "POST", "/identify",
			`{"faceIds":["{face}"],"personGroupId":"g","personIds":["*"]}`, 400,
			"IncompatibleIdentificationScopeParametersCombination"},
		{"identify in dynamic group", "POST", "/identify", `{"faceIds":["{face}"],"dynamicPersonGroupId":"g"}`, 400,
			"DynamicPersonGroupNotFound"},
		{"identify in the directory", "POST", "/identify", `{"faceIds":["{face}"],"personIds":["{nobody}"]}`, 404,
			"PersonNotFound"},
		{"identify malformed persons", "POST", "/identify", `{"faceIds":["{face}"],"personIds":["{malformed}"]}`, 400,
			"BadArgument"},
		{"identify nobody", "POST", "/identify", `{"faceIds":[],"personGroupId":"g"}`, 400, "BadArgument"},
		{"identify without faceIds", "POST", "/identify", `{"personGroupId":"g"}`, 400, "BadArgument"},
		{"identify eleven", "POST", "/identify", `{"faceIds":[{11 faces}],"personGroupId":"g"}`, 400, "BadArgument"},
		{"identify malformed face", "POST", "/identify", `{"faceIds":["{malformed}"],"personGroupId":"g"}`, 400,
			"BadArgument"},
		{"identify malformed group", "POST", "/identify", `{"faceIds":["{face}"],"personGroupId":"G!"}`, 400,
			"BadArgument"},
		{"identify no candidates", "POST", "/identify",
			`{"faceIds":["{face}"],"personGroupId":"g","maxNumOfCandidatesReturned":0}`, 400, "BadArgument"},
		{"identify too many candidates", "POST", "/identify",
			`{"faceIds":["{face}"],"personGroupId":"g","maxNumOfCandidatesReturned":101}`, 400, "BadArgument"},
		{"identify negative threshold", "POST", "/identify",
			`{"faceIds":["{face}"],"personGroupId":"g","confidenceThreshold":-0.1}`, 400, "BadArgument"},
		{"identify great threshold", "POST", "/identify",
			`{"faceIds":["{face}"],"personGroupId":"g","confidenceThreshold":1.1}`, 400, "BadArgument"},
		{"identify unknown face", "POST", "/identify", `{"faceIds":["{nobody}"],"personGroupId":"g"}`, 400,
			"FaceNotFound"},
		{"identify in unknown group", "POST", "/identify", `{"faceIds":["{face}"],"personGroupId":"none"}`, 400,
			"PersonGroupNotFound"},
		{"identify in unknown large group", "POST", "/identify", `{"faceIds":["{face}"],"largePersonGroupId":"none"}`,
			400, "LargePersonGroupNotFound"},
		{"identify in untrained group", "POST", "/identify", `{"faceIds":["{face}"],"personGroupId":"empty"}`, 400,
			"PersonGroupNotTrained"},
		{"identify in untrained large group", "POST", "/identify",
			`{"faceIds":["{face}"],"largePersonGroupId":"empty"}`, 400, "LargePersonGroupNotTrained"},
		{"identify with another model", "POST", "/identify", `{"faceIds":["{face}"],"personGroupId":"other"}`, 400,
			"BadArgument"},

		// Find similar, contract §5.3.
		{"similar to nothing", "POST", "/findsimilars", `{"faceIds":["{face}"]}`, 400, "BadArgument"},
		{"similar nowhere", "POST", "/findsimilars", `{"faceId":"{face}"}`, 400, "BadArgument"},
		{"similar in two sources", "POST", "/findsimilars",
			`{"faceId":"{face}","faceListId":"l","largeFaceListId":"l"}`, 400, "BadArgument"},
		{"similar bad mode", "POST", "/findsimilars", `{"faceId":"{face}","faceListId":"l","mode":"matchAll"}`, 400,
			"BadArgument"},
		{"similar no candidates", "POST", "/findsimilars",
			`{"faceId":"{face}","faceListId":"l","maxNumOfCandidatesReturned":0}`, 400, "BadArgument"},
		{"similar too many candidates", "POST", "/findsimilars",
			`{"faceId":"{face}","faceListId":"l","maxNumOfCandidatesReturned":1001}`, 400, "BadArgument"},
		{"similar among none", "POST", "/findsimilars", `{"faceId":"{face}","faceIds":[]}`, 400, "BadArgument"},
		{"similar among too many", "POST", "/findsimilars", `{"faceId":"{face}","faceIds":[{1001 faces}]}`, 400,
			"BadArgument"},
		{"similar malformed face", "POST", "/findsimilars", `{"faceId":"{malformed}","faceListId":"l"}`, 400,
			"BadArgument"},
		{"similar malformed list", "POST", "/findsimilars", `{"faceId":"{face}","faceListId":"L!"}`, 400,
			"BadArgument"},
		{"similar unknown face", "POST", "/findsimilars", `{"faceId":"{nobody}","faceListId":"l"}`, 400,
			"FaceNotFound"},
		{"similar among unknown faces", "POST", "/findsimilars", `{"faceId":"{face}","faceIds":["{nobody}"]}`, 400,
			"FaceNotFound"},
		{"similar in unknown list", "POST", "/findsimilars", `{"faceId":"{face}","faceListId":"none"}`, 400,
			"FaceListNotFound"},
		{"similar in unknown large list", "POST", "/findsimilars", `{"faceId":"{face}","largeFaceListId":"none"}`, 400,
			"LargeFaceListNotFound"},
		{"similar in empty list", "POST", "/findsimilars", `{"faceId":"{face}","faceListId":"empty"}`, 400,
			"FaceListNotReady"},
		{"similar in untrained list", "POST", "/findsimilars", `{"faceId":"{face}","largeFaceListId":"empty"}`, 400,
			"LargeFaceListNotTrained"},
		{"similar with another model", "POST", "/findsimilars", `{"faceId":"{face}","faceListId":"other"}`, 400,
			"BadArgument"},

		// Group, contract §5.4.
		{"group one", "POST", "/group", `{"faceIds":["{face}"]}`, 400, "BadArgument"},
		{"group too many", "POST", "/group", `{"faceIds":[{1001 faces}]}`, 400, "BadArgument"},
		{"group malformed", "POST", "/group", `{"faceIds":["{face}","{malformed}"]}`, 400, "BadArgument"},
		{"group unknown", "POST", "/group", `{"faceIds":["{face}","{nobody}"]}`, 400, "FaceNotFound"},

		// Unknown paths.
		{"unknown operation", "GET", "/nothing", "", 404, "404"},
		{"snapshots", "POST", "/snapshots", `{}`, 404, "404"},
		{"list of snapshots", "GET", "/snapshots", "", 404, "404"},
		{"operation of a snapshot", "GET", "/operations/{nobody}", "", 404, "404"},
		{"person directory", "GET", "/persons", "", 404, "404"},
		{"wrong method", "GET", "/detect", "", 405, "405"},
		{"one face of a small list", "GET", "/facelists/l/persistedfaces/{face of /facelists/l}", "", 405, "405"},
		{"training of a small list", "GET", "/facelists/l/training", "", 404, "404"},
	}
	for _, f := range []struct{ path, code, child, childID string }{
		{"/facelists/", "FaceList", "", ""}, {"/largefacelists/", "LargeFaceList", "", ""},
		{"/persongroups/", "PersonGroup", "", ""}, {"/largepersongroups/", "LargePersonGroup", "", ""},
	} {
		add := func(name, method, path, body string, status int, code string) {
			rows = append(rows, struct {
				name, method, path, body string
				status                   int
				code                     string
			}{f.path + " " + name, method, f.path + path, body, status, code})
		}
		group := strings.HasSuffix(f.code, "Group")
		// Existing groups are named "g", existing lists "l".
		one := "l"
		if group {
			one = "g"
		}
		for id, name := range map[string]string{"A": "upper case", long(65): "long", "a.b": "dot",
			"%C3%A9": "not ASCII", "a%2Fb": "slash"} {
			add("PUT "+name+" id", "PUT", id, `{"name":"x"}`, 400, "BadArgument")
			add("GET "+name+" id", "GET", id, "", 404, f.code+"NotFound")
			add("PATCH "+name+" id", "PATCH", id, `{"name":"x"}`, 404, f.code+"NotFound")
			add("DELETE "+name+" id", "DELETE", id, "", 404, f.code+"NotFound")
		}
		add("PUT existing", "PUT", one, `{"name":"x"}`, 409, f.code+"Exists")
		for name, body := range map[string]string{
			"no name": `{}`, "null name": `{"name":null}`, "empty name": `{"name":""}`,
			"long name":     `{"name":"` + long(129) + `"}`,
			"long userData": `{"name":"x","userData":"` + long(16385) + `"}`,
			"bad model":     `{"name":"x","recognitionModel":"recognition_99"}`,
			"no object":     `{"name":{}}`, "broken": `{"name":"x"`, "unknown field": `{"name":"x","colour":"red"}`,
			"two bodies": `{"name":"x"}{}`,
			"name twice": `{"name":"x","name":"y"}`, "number": `{"name":7}`,
		} {
			add("PUT "+name, "PUT", "new", body, 400, "BadArgument")
		}
		for name, body := range map[string]string{
			"empty name": `{"name":""}`, "long name": `{"name":"` + long(129) + `"}`,
			"long userData": `{"userData":"` + long(16385) + `"}`,
			"model":         `{"recognitionModel":"recognition_02"}`, "broken": `{`,
		} {
			add("PATCH "+name, "PATCH", one, body, 400, "BadArgument")
		}
		if strings.HasPrefix(f.code, "Large") {
			add("PATCH nothing", "PATCH", one, `{}`, 400, "BadArgument")
		}
		add("GET unknown", "GET", "none", "", 404, f.code+"NotFound")
		add("PATCH unknown", "PATCH", "none", `{"name":"x"}`, 404, f.code+"NotFound")
		add("DELETE unknown", "DELETE", "none", "", 404, f.code+"NotFound")
		if f.code != "FaceList" {
			add("GET training of unknown", "GET", "none/training", "", 404, f.code+"NotFound")
			add("POST train of unknown", "POST", "none/train", "", 404, f.code+"NotFound")
			add("GET training of untrained", "GET", "empty/training", "", 404, f.code+"NotTrained")
		}
		faces := one + "/persistedfaces"
		if group {
			add("POST person to unknown", "POST", "none/persons", `{"name":"x"}`, 404, f.code+"NotFound")
			add("POST person without name", "POST", "g/persons", `{}`, 400, "BadArgument")
			add("POST person with long name", "POST", "g/persons", `{"name":"`+long(129)+`"}`, 400, "BadArgument")
			add("GET persons of unknown", "GET", "none/persons", "", 404, f.code+"NotFound")
			for _, id := range []string{"{nobody}", "{malformed}"} {
				add("GET person "+id, "GET", "g/persons/"+id, "", 404, "PersonNotFound")
				add("PATCH person "+id, "PATCH", "g/persons/"+id, `{"name":"x"}`, 404, "PersonNotFound")
				add("DELETE person "+id, "DELETE", "g/persons/"+id, "", 404, "PersonNotFound")
				add("POST face to person "+id, "POST", "g/persons/"+id+"/persistedfaces", "ann", 404, "PersonNotFound")
			}
			faces = "g/persons/{person of " + f.path + "g}/persistedfaces"
			add("POST face to unknown", "POST", "none/persons/{nobody}/persistedfaces", "ann", 404, f.code+"NotFound")
		} else {
			add("POST face to unknown", "POST", "none/persistedfaces", "ann", 404, f.code+"NotFound")
		}
		if f.code != "FaceList" {
			for _, id := range []string{"{nobody}", "{malformed}"} {
				add("GET face "+id, "GET", faces+"/"+id, "", 404, "PersistedFaceNotFound")
				add("PATCH face "+id, "PATCH", faces+"/"+id, `{"userData":"x"}`, 404, "PersistedFaceNotFound")
			}
		}
		add("DELETE unknown face", "DELETE", faces+"/{nobody}", "", 404, "PersistedFaceNotFound")
		add("DELETE malformed face", "DELETE", faces+"/{malformed}", "", 404, "PersistedFaceNotFound")
		add("POST photo of nobody", "POST", faces, " ", 400, "InvalidImage")
		add("POST photo too blurred for a template", "POST", faces, "?blurred", 400, "InvalidImage")
		add("POST photo of two", "POST", faces, "ann ben", 400, "InvalidImage")
		add("POST broken photo", "POST", faces, "!broken", 400, "InvalidImage")
		add("POST small photo", "POST", faces, "!few", 400, "InvalidImageSize")
		add("POST no url", "POST", faces, `{}`, 400, "BadArgument")
		add("POST bad url", "POST", faces, `{"url":"x"}`, 400, "InvalidURL")
		add("POST long userData", "POST", faces+"?userData="+long(1025), "ann", 400, "BadArgument")
		add("POST bad detection model", "POST", faces+"?detectionModel=x", "ann", 400, "BadArgument")
		add("POST target that meets no face", "POST", faces+"?targetFace=500,500,10,10", "ann ben", 400, "InvalidImage")
		for name, target := range map[string]string{
			"outside": "990,10,100,100", "of three": "1,2,3", "of five": "1,2,3,4,5", "of words": "a,b,c,d",
			"of fractions": "1.5,2,3,4",
			"negative":     "-1,0,10,10", "empty": "", "flat": "0,0,0,10", "overflowing": "99999999999999999999,0,1,1",
		} {
			add("POST target "+name, "POST", faces+"?targetFace="+target, "ann ben", 400, "BadArgument")
		}
	}
	for _, base := range versions {
		t.Run(base, func(t *testing.T) {
			r := newFaceServer(t)
			f := newFixture(t, r, base)
			for _, row := range rows {
				t.Run(row.name, func(t *testing.T) {
					c := call{method: row.method, path: base + f.fill(row.path)}
					switch {
					case strings.HasPrefix(row.body, "{"):
						c.json = f.fill(row.body)
					default:
						c.image = row.body
					}
					r.do(t, c).want(t, row.status, row.code)
				})
			}
			// The store is unchanged: it has the same people as before.
			for path, n := range map[string]int{"/facelists": 3, "/largefacelists": 3, "/persongroups": 3,
				"/largepersongroups": 3, "/largepersongroups/g/persons": 2} {
				if got := decode[[]map[string]any](t, r.get(t, base+path)); len(got) != n {
					t.Errorf("%s: got %v after refusals, want %d", path, got, n)
				}
			}
		})
	}
}

// TestErrorsWhileTraining checks the codes that occur only during a training.
func TestErrorsWhileTraining(t *testing.T) {
	for _, base := range versions {
		r := newFaceServer(t, idle)
		probe := r.detect(t, base, "ann")[0]
		for _, f := range []struct{ path, code, person string }{
			{"/largefacelists/x", "LargeFaceList", ""}, {"/persongroups/x", "PersonGroup", ""},
			{"/largepersongroups/x", "LargePersonGroup", ""},
		} {
			path := base + f.path
			r.put(t, path, object{"name": "x"})
			faces := path + "/persistedfaces"
			if strings.HasSuffix(f.code, "Group") {
				faces = path + "/persons/" + r.enrol(t, path, "Ann", "ann") + "/persistedfaces"
			}
			face := r.addFace(t, faces, "ann")
			r.do(t, call{method: "POST", path: path + "/train"}).want(t, 202, "")
			code := f.code + "TrainingNotFinished"
			r.do(t, call{method: "POST", path: path + "/train"}).want(t, 409, code)
			r.do(t, call{method: "PATCH", path: path, json: object{"name": "y"}}).want(t, 409, code)
			r.do(t, call{method: "DELETE", path: path}).want(t, 409, code)
			r.do(t, call{method: "POST", path: faces, image: "ann"}).want(t, 409, code)
			r.do(t, call{method: "DELETE", path: faces + "/" + face}).want(t, 409, code)
		}
		r.do(
			t, call{method: "POST", path: base + "/identify",
				json: object{"faceIds": []string{probe}, "personGroupId": "x"}},
		).
			want(t, 409, "PersonGroupTrainingNotFinished")
		r.do(
			t, call{method: "POST", path: base + "/identify",
				json: object{"faceIds": []string{probe}, "largePersonGroupId": "x"}},
		).
			want(t, 409, "LargePersonGroupTrainingNotFinished")
		r.do(
			t, call{method: "POST", path: base + "/findsimilars",
				json: object{"faceId": probe, "largeFaceListId": "x"}},
		).
			want(t, 409, "LargeFaceListTrainingNotFinished")
	}
}

// TestQuotas checks the limits that a test can reach.
func TestQuotas(t *testing.T) {
	r := newFaceServer(t)
	for i := range 64 {
		r.put(t, "/face/v1.2/facelists/"+strings.Repeat("x", i+1), object{"name": "x"})
	}
	r.do(t, call{method: "PUT", path: "/face/v1.2/facelists/y", json: object{"name": "x"}}).
		want(t, 403, "QuotaExceeded")
	group := "/face/v1.2/persongroups/g"
	r.put(t, group, object{"name": "g"})
	person := group + "/persons/" + r.enrol(t, group, "Ann")
	for range 248 {
		r.addFace(t, person+"/persistedfaces", "ann")
	}
	r.do(t, call{method: "POST", path: person + "/persistedfaces", image: "ann"}).want(t, 403, "QuotaExceeded")
}

func TestLivenessIsRefusedAsAFeature(t *testing.T) {
	r := newFaceServer(t)
	for _, c := range []call{
		{method: "POST", path: "/face/v1.2/detectLiveness-sessions", json: object{"livenessOperationMode": "Passive"}},
		{method: "GET", path: "/face/v1.2/detectLiveness-sessions/" + nobody},
		{method: "DELETE", path: "/face/v1.2/detectLiveness-sessions/" + nobody},
		{method: "POST", path: "/face/v1.2/detectLivenessWithVerify-sessions", image: "multipart",
			header: http.Header{"Content-Type": {"multipart/form-data; boundary=x"}}},
		{method: "GET", path: "/face/v1.2/detectLivenessWithVerify-sessions/" + nobody},
		{method: "DELETE", path: "/face/v1.2/detectLivenessWithVerify-sessions/" + nobody},
		{method: "GET", path: "/face/v1.2/sessionImages/" + nobody},
		{method: "POST", path: "/face/v1.2/detect", json: object{"sessionImageId": nobody}},
	} {
		a := r.do(t, c).want(t, 403, "InvalidRequest")
		if !strings.Contains(a.body, `"innererror":{"code":"UnsupportedFeature"`) {
			t.Errorf("%s %s: got %s", c.method, c.path, a.body)
		}
	}
	r.do(t, call{method: "POST", path: "/face/v1.0/detect", json: object{"sessionImageId": nobody}}).
		want(t, 400, "BadArgument")
	r.do(t, call{method: "POST", path: "/face/v1.0/detectLiveness-sessions", json: object{}}).want(t, 404, "404")
}
