package faceapi_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/visage-face/visage/api"
)

func TestOurOpenAPIDescribesTheTable(t *testing.T) {
	r := newFaceServer(t)
	data, err := api.OpenAPI("Visage", "test", r.plane)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, route := range r.plane.Routes {
		item := doc.Paths.Find(route.Pattern)
		if item == nil || item.GetOperation(route.Method) == nil {
			t.Errorf("%s is not described", route.Label())
			continue
		}
		if op := item.GetOperation(route.Method); op.Summary == "" || op.Security == nil ||
			op.Responses.Default() == nil {
			t.Errorf("%s lacks a summary, its security or its errors", route.Label())
		}
	}
	// The answers of the calls below are checked against our own specification.
	s := specs{}
	for _, base := range versions {
		own := *doc
		own.Paths = openapi3.NewPaths()
		for path, item := range doc.Paths.Map() {
			if rest, ok := strings.CutPrefix(path, base); ok {
				own.Paths.Set(rest, item)
			}
		}
		s[base] = &own
	}
	r.specs = s
	for _, base := range versions {
		group := base + "/persongroups/g"
		r.put(t, group, object{"name": "g"})
		r.enrol(t, group, "Ann", "ann")
		r.train(t, group)
		r.get(t, group+"?returnRecognitionModel=true")
		r.get(t, group+"/persons")
		ids := r.detect(t, base, "ann ben", "returnFaceLandmarks=true",
			"returnFaceAttributes=blur,headPose,noise,exposure,glasses,occlusion,accessories")
		r.detect(t, base, "ann ben", "detectionModel=detection_03", "returnFaceAttributes=mask,glasses,occlusion")
		r.post(t, base+"/identify", object{"faceIds": ids, "personGroupId": "g"})
		r.post(t, base+"/verify", object{"faceId1": ids[0], "faceId2": ids[1]})
		r.post(t, base+"/group", object{"faceIds": ids})
		r.post(t, base+"/findsimilars", object{"faceId": ids[0], "faceIds": ids, "mode": "matchFace"})
		r.put(t, base+"/facelists/l", object{"name": "l"})
		r.addFace(t, base+"/facelists/l/persistedfaces", "ann")
		r.get(t, base+"/facelists/l")
		r.get(t, base+"/facelists")
		r.post(t, base+"/facelists/l/migration", object{"recognitionModel": "recognition_03"})
		r.get(t, base+"/facelists/l/migration")
		r.get(t, base+"/facelists/l/migration/missing")
		r.do(t, call{method: "DELETE", path: group}).want(t, 200, "")
		r.do(t, call{method: "DELETE", path: base + "/facelists/l"}).want(t, 200, "")
	}
}

// TestAttributesAreComponents checks that the attributes of a face have names in the document, from which client
// generators make types.
func TestAttributesAreComponents(t *testing.T) {
	data, err := api.OpenAPI("Visage", "test", newFaceServer(t).plane)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"faceAnswer", "attributesAnswer", "blurLevel", "exposureLevel", "noiseLevel", "headPose", "mask", "occlusion",
		"accessory",
	} {
		if doc.Components.Schemas["face."+name] == nil {
			t.Errorf("the document has no schema face.%s", name)
		}
	}
	blur := doc.Components.Schemas["face.attributesAnswer"].Value.Properties["blur"]
	if blur.Ref != "#/components/schemas/face.blurLevel" || len(blur.Value.Properties["blurLevel"].Value.Enum) != 3 {
		t.Errorf("blur is described as %+v", blur)
	}
}

// TestEveryOfficialOperationIsServed checks the official specifications.
func TestEveryOfficialOperationIsServed(t *testing.T) {
	official := loadSpecs(t)
	if len(official) == 0 {
		t.Skip("the official specifications are not on this machine")
	}
	served := map[string]bool{}
	for _, route := range newFaceServer(t).plane.Routes {
		served[route.Label()] = true
	}
	// Contract §9 to §11: retired, missing from the stable version, or under other paths there.
	gone := []string{"/snapshots", "/operations/", "/persons", "/dynamicpersongroups", "/detectLiveness", "/session/"}
	for base, doc := range official {
	paths:
		for path, item := range doc.Paths.Map() {
			for _, prefix := range gone {
				if strings.HasPrefix(path, prefix) {
					continue paths
				}
			}
			for method := range item.Operations() {
				if !served[method+" "+base+path] {
					t.Errorf("%s %s%s is not served", method, base, path)
				}
			}
		}
	}
}

func TestOpenAPIIsTheSameEveryTime(t *testing.T) {
	r := newFaceServer(t)
	first, err := api.OpenAPI("Visage", "test", r.plane)
	if err != nil {
		t.Fatal(err)
	}
	second, err := api.OpenAPI("Visage", "test", r.plane)
	if err != nil || string(first) != string(second) || !json.Valid(first) {
		t.Errorf("two documents of one table differ, or are invalid: %v", err)
	}
}
