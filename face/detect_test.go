package face_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/face"
	"github.com/visage-face/visage/vision"
)

var uuidV4 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestDetectAnswersWhatWasAskedFor(t *testing.T) {
	r := newService(t)
	got := must[[]face.Face](t)(r.Detect(t.Context(), r.res, []byte("ann bob"), face.DetectQuery{ReturnFaceID: true}))
	if len(got) != 2 || !uuidV4.MatchString(got[0].ID) || got[0].ID == got[1].ID {
		t.Fatalf("got %+v, want two faces with ids of their own", got)
	}
	if got[0].Landmarks != nil || got[0].Attributes != nil || got[0].RecognitionModel != "recognition_01" {
		t.Errorf("got %+v, want neither landmarks nor attributes", got[0])
	}
	if want := (face.Box{Left: 100, Top: 100, Width: 99, Height: 99}); got[1].Box != want {
		t.Errorf("box %v, want %v", got[1].Box, want)
	}

	got = must[[]face.Face](t)(r.Detect(t.Context(), r.res, []byte("ann"), face.DetectQuery{
		ReturnLandmarks: true, RecognitionModel: "recognition_04",
		Attributes: []string{"HeadPose", "blur", " exposure", "NOISE", "qualityforrecognition"},
	}))
	f := got[0]
	if f.ID != "" || f.RecognitionModel != "recognition_04" || f.Landmarks == nil || f.Landmarks.PupilLeft.X != 1 {
		t.Errorf("got %+v, want landmarks and no id", f)
	}
	want := face.Attributes{
		vision.HeadPose: face.Pose{Roll: 3}, vision.Blur: face.Level{Name: "medium", Value: 0.5},
		vision.Exposure: face.Level{Name: "goodExposure", Value: 0.5},
		vision.Noise:    face.Level{Name: "medium", Value: 0.5}, vision.Quality: vision.High,
	}
	if diff := cmp.Diff(want, f.Attributes); diff != "" {
		t.Error(diff)
	}
}

func TestDetectOfNobodyIsAnEmptyList(t *testing.T) {
	r := newService(t)
	got, err := r.Detect(t.Context(), r.res, []byte(" "), face.DetectQuery{ReturnFaceID: true})
	if err != nil || got == nil || len(got) != 0 {
		t.Errorf("got %v, %v; want an empty list", got, err)
	}
}

func TestDetectGivesNoIDToAFaceWithoutTemplate(t *testing.T) {
	r := newService(t)
	photo := []byte("?blurred ann ?cat bob")
	got := must[[]face.Face](t)(r.Detect(t.Context(), r.res, photo, face.DetectQuery{ReturnFaceID: true}))
	if len(got) != 4 || got[0].ID != "" || got[2].ID != "" {
		t.Fatalf("got %+v, want four faces, the first and the third without an id", got)
	}
	for i, name := range map[int]string{1: "ann.1", 3: "bob.1"} {
		probe := r.detect(t, name)[0]
		if v := must[face.Verdict](t)(r.Verify(t.Context(), r.res,
			face.VerifyQuery{FaceID1: got[i].ID, FaceID2: probe})); !v.Identical {
			t.Errorf("the id of face %d is not that of %s", i, name)
		}
	}
	alone := must[[]face.Face](t)(r.Detect(t.Context(), r.res, []byte("?cat"), face.DetectQuery{ReturnFaceID: true}))
	if len(alone) != 1 || alone[0].ID != "" {
		t.Errorf("got %+v, want one face without an id", alone)
	}
}

func TestDetectAsksForNoMoreThanItNeeds(t *testing.T) {
	r := newService(t)
	var asked vision.Want
	r.model.want = func(w vision.Want) { asked = w }
	must[[]face.Face](t)(r.Detect(t.Context(), r.res, []byte("ann"), face.DetectQuery{Attributes: []string{"blur"}}))
	if asked.Templates || asked.Landmarks || asked.Attributes != vision.Blur {
		t.Errorf("asked for %+v, want blur alone", asked)
	}
}

func TestDetectRefuses(t *testing.T) {
	const feature = "UnsupportedFeature"
	for _, tt := range []struct {
		name  string
		photo string
		query face.DetectQuery
		kind  visage.Kind
		code  string
	}{
		{"unknown recognition model", "ann", face.DetectQuery{RecognitionModel: "recognition_05"}, visage.Invalid,
			"BadArgument"},
		{"unknown detection model", "ann", face.DetectQuery{DetectionModel: "detection_04"}, visage.Invalid,
			"BadArgument"},
		{"model in another case", "ann", face.DetectQuery{DetectionModel: "Detection_01"}, visage.Invalid,
			"BadArgument"},
		{"time to live below the least", "ann", face.DetectQuery{TimeToLive: ptr(59)}, visage.Invalid, "BadArgument"},
		{"time to live above the most", "ann", face.DetectQuery{TimeToLive: ptr(86_401)}, visage.Invalid,
			"BadArgument"},
		{"time to live zero", "ann", face.DetectQuery{TimeToLive: ptr(0)}, visage.Invalid, "BadArgument"},
		{"unknown attribute", "ann", face.DetectQuery{Attributes: []string{"beauty"}}, visage.Invalid, "BadArgument"},
		{"landmarks of detection_02", "ann", face.DetectQuery{DetectionModel: "detection_02", ReturnLandmarks: true},
			visage.Invalid, "BadArgument"},
		{"attributes of detection_02", "ann",
			face.DetectQuery{DetectionModel: "detection_02", Attributes: []string{"blur"}},
			visage.Invalid, "BadArgument"},
		{"retired attributes of detection_02", "ann",
			face.DetectQuery{DetectionModel: "detection_02", Attributes: []string{"age"}}, visage.Invalid,
			"BadArgument"},
		{"noise of detection_03", "ann",
			face.DetectQuery{DetectionModel: "detection_03", Attributes: []string{"noise"}},
			visage.Invalid, "BadArgument"},
		{"accessories of detection_03", "ann",
			face.DetectQuery{DetectionModel: "detection_03", Attributes: []string{"accessories"}}, visage.Invalid,
			"BadArgument"},
		{"mask of detection_01", "ann", face.DetectQuery{Attributes: []string{"mask"}}, visage.Invalid, "BadArgument"},
		{"quality of recognition_01", "ann", face.DetectQuery{Attributes: []string{"qualityForRecognition"}},
			visage.Invalid, "BadArgument"},
		{"quality of recognition_02", "ann",
			face.DetectQuery{RecognitionModel: "recognition_02", Attributes: []string{"qualityForRecognition"}},
			visage.Invalid, "BadArgument"},
		{"emotion", "ann", face.DetectQuery{Attributes: []string{"emotion"}}, visage.Unsupported, "InvalidRequest"},
		{"gender", "ann", face.DetectQuery{Attributes: []string{"Gender"}}, visage.Unsupported, "InvalidRequest"},
		{"age", "ann", face.DetectQuery{Attributes: []string{"blur", "age"}}, visage.Unsupported, "InvalidRequest"},
		{"smile", "ann", face.DetectQuery{Attributes: []string{"smile"}}, visage.Unsupported, "InvalidRequest"},
		{"facialHair", "ann", face.DetectQuery{Attributes: []string{"facialhair"}}, visage.Unsupported,
			"InvalidRequest"},
		{"hair", "ann", face.DetectQuery{Attributes: []string{"hair"}}, visage.Unsupported, "InvalidRequest"},
		{"makeup", "ann", face.DetectQuery{Attributes: []string{"makeup"}}, visage.Unsupported, "InvalidRequest"},
		{"glasses", "ann", face.DetectQuery{Attributes: []string{"glasses"}}, visage.Unsupported, "InvalidRequest"},
		{"occlusion", "ann", face.DetectQuery{Attributes: []string{"occlusion"}}, visage.Unsupported, "InvalidRequest"},
		{"accessories", "ann", face.DetectQuery{Attributes: []string{"accessories"}}, visage.Unsupported,
			"InvalidRequest"},
		{"mask", "ann", face.DetectQuery{DetectionModel: "detection_03", Attributes: []string{"mask"}},
			visage.Unsupported, "InvalidRequest"},
		{"no picture", "!format", face.DetectQuery{}, visage.Invalid, "InvalidImage"},
		{"broken picture", "!broken", face.DetectQuery{}, visage.Invalid, "InvalidImage"},
		{"too few bytes", "!few", face.DetectQuery{}, visage.Invalid, "InvalidImageSize"},
		{"too many bytes", "!many", face.DetectQuery{}, visage.Invalid, "InvalidImageSize"},
		{"too many pixels", "!large", face.DetectQuery{}, visage.Invalid, "InvalidImageSize"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newService(t)
			_, err := r.Detect(t.Context(), r.res, []byte(tt.photo), tt.query)
			wantRefusal(t, err, tt.kind, tt.code)
			if refusal, ok := err.(*visage.Refusal); ok && tt.kind == visage.Unsupported {
				if refusal.InnerCode != feature || !strings.Contains(refusal.Message, "headPose, blur, exposure") {
					t.Errorf("%+v does not say what is supported", refusal)
				}
			}
		})
	}
}

// TestRefusalsNameOnlyWhatIsGiven: a program that asks for the attributes that a refusal lists must not be refused
// again.
func TestRefusalsNameOnlyWhatIsGiven(t *testing.T) {
	r := newService(t)
	for _, detection := range []string{"detection_01", "detection_03"} {
		for _, recognition := range []string{"recognition_01", "recognition_04"} {
			for _, asked := range []string{"beauty", "emotion", "glasses", "mask", "noise"} {
				q := face.DetectQuery{DetectionModel: detection, RecognitionModel: recognition,
					Attributes: []string{asked}}
				_, err := r.Detect(t.Context(), r.res, []byte("ann"), q)
				if err == nil {
					continue
				}
				_, list, found := strings.Cut(err.Error(), " supports ")
				if !found {
					t.Fatalf("%s: %v lists nothing", asked, err)
				}
				q.Attributes = strings.Split(strings.TrimSuffix(list, "."), ", ")
				if _, err := r.Detect(t.Context(), r.res, []byte("ann"), q); err != nil {
					t.Errorf("%s, %s: asked for %s, then for what the refusal lists: %v", detection, recognition, asked,
						err)
				}
			}
		}
	}
}

func TestDetectSaysWhatIsWorn(t *testing.T) {
	r := newService(t)
	r.model.supports |= vision.Glasses | vision.Occlusion | vision.Accessories | vision.Mask
	get := func(detection string, attributes ...string) face.Attributes {
		return must[[]face.Face](t)(r.Detect(t.Context(), r.res, []byte("ann"), face.DetectQuery{
			DetectionModel: detection, Attributes: attributes,
		}))[0].Attributes
	}
	want := face.Attributes{
		vision.Glasses: vision.Sunglasses, vision.Occlusion: face.Occlusion{Eyes: true},
		vision.Accessories: []face.Accessory{{Type: vision.Headwear, Confidence: 0.75}},
	}
	if diff := cmp.Diff(want, get("", "glasses", "occlusion", "accessories")); diff != "" {
		t.Error(diff)
	}
	want = face.Attributes{vision.Mask: face.Mask{Type: vision.OtherCovering, NoseAndMouth: true}}
	if diff := cmp.Diff(want, get("detection_03", "mask")); diff != "" {
		t.Error(diff)
	}
}

func TestDetectGivesDetection03ItsAttributes(t *testing.T) {
	r := newService(t)
	got := must[[]face.Face](t)(r.Detect(t.Context(), r.res, []byte("ann"), face.DetectQuery{
		DetectionModel: "detection_03", RecognitionModel: "recognition_03", ReturnLandmarks: true,
		Attributes: []string{"headPose", "qualityForRecognition"},
	}))
	want := face.Attributes{vision.HeadPose: face.Pose{Roll: 3}, vision.Quality: vision.High}
	if diff := cmp.Diff(want, got[0].Attributes); diff != "" || got[0].Landmarks == nil {
		t.Errorf("got %+v", got[0])
	}
}

func TestAFailureOfTheNetworksIsNoRefusal(t *testing.T) {
	r := newService(t)
	_, err := r.Detect(t.Context(), r.res, []byte("!fail"), face.DetectQuery{})
	if err == nil || !strings.Contains(err.Error(), "fell over") {
		t.Errorf("got %v, want the failure", err)
	}
}

func TestFaceIDsLiveAsLongAsAsked(t *testing.T) {
	for _, ttl := range []int{60, 3_600, 5_000, 86_400} {
		// Beginnings anywhere in the hour, so that the expiry falls into the same hour, the next, and one a day later.
		for _, begin := range []time.Duration{0, 29 * time.Minute, 59*time.Minute + 59*time.Second} {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(begin)
				r := newService(t)
				defer r.run(t)()
				q := face.DetectQuery{ReturnFaceID: true, TimeToLive: &ttl}
				f := must[[]face.Face](t)(r.Detect(t.Context(), r.res, []byte("ann"), q))[0]
				verify := face.VerifyQuery{FaceID1: f.ID, FaceID2: f.ID}
				time.Sleep(time.Duration(ttl)*time.Second - time.Millisecond)
				if _, err := r.Verify(t.Context(), r.res, verify); err != nil {
					t.Errorf("%d s begun at %v, a moment before the end: %v", ttl, begin, err)
				}
				time.Sleep(time.Millisecond)
				_, err := r.Verify(t.Context(), r.res, verify)
				wantRefusal(t, err, visage.NotFound, "FaceNotFound")
				time.Sleep(90 * time.Minute)
				synctest.Wait()
				if detected, _, _, err := r.Records(t.Context(), r.res, nil); detected != 0 || err != nil {
					t.Errorf("%d records are left after the sweep, %v", detected, err)
				}
			})
		}
	}
}

func TestExpiredFacesAreNotFoundBeforeTheSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newService(t) // without Run
		id := r.detect(t, "ann")[0]
		time.Sleep(24*time.Hour - time.Second)
		young := r.detect(t, "bob")[0]
		time.Sleep(time.Second)
		_, err := r.Verify(t.Context(), r.res, face.VerifyQuery{FaceID1: young, FaceID2: id})
		wantRefusal(t, err, visage.NotFound, "FaceNotFound")
		// Five bits of the id hold the hour of expiry: 32 hours later the same bits mean another hour.
		time.Sleep(8 * time.Hour)
		_, err = r.Verify(t.Context(), r.res, face.VerifyQuery{FaceID1: young, FaceID2: id})
		wantRefusal(t, err, visage.NotFound, "FaceNotFound")
		if detected, _, _, err := r.Records(t.Context(), r.res, nil); detected != 2 || err != nil {
			t.Errorf("%d records, %v; want both still stored", detected, err)
		}
	})
}

func TestFaceIDsOfOtherResourcesAreUnknown(t *testing.T) {
	r := newService(t)
	id := r.detect(t, "ann")[0]
	other := visage.Resource{ID: visage.ResourceID{2}, Tier: visage.S0}
	_, err := r.Verify(t.Context(), other, face.VerifyQuery{FaceID1: id, FaceID2: id})
	wantRefusal(t, err, visage.NotFound, "FaceNotFound")
}

func TestFaceIDsDiffer(t *testing.T) {
	r := newService(t)
	var ids []string
	for range 20 {
		ids = append(ids, r.detect(t, strings.Repeat("ann ", 9))...)
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 180 {
		t.Error("ids repeat")
	}
}
