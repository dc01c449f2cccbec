package faceapi

import (
	"math"
	"strings"

	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/face"
)

var detectionModel = api.Param{
	Name: "detectionModel", Text: "The detection model; default " + face.DefaultDetectionModel + ".", Value: "",
	Enum: "detection_01 detection_02 detection_03",
}

var detectQuery = []api.Param{
	{Name: "returnFaceId", Text: "Keep each face for recognition and return its id; default true.", Value: true},
	{Name: "returnFaceLandmarks", Text: "Return the 27 landmarks; default false.", Value: false},
	{Name: "returnFaceAttributes", Text: "Which attributes to return, separated by commas; default none.", Value: ""},
	{
		Name: "recognitionModel", Text: "The recognition model; default " + face.DefaultRecognitionModel + ".",
		Value: "",
		Enum:  "recognition_01 recognition_02 recognition_03 recognition_04",
	},
	{Name: "returnRecognitionModel", Text: "Return the name of the recognition model; default false.", Value: false},
	detectionModel,
	{Name: "faceIdTimeToLive", Text: "How many seconds the face ids live, 60 to 86400; default 86400.", Value: 0},
}

// faceAnswer is a detected face, contract §4.
type faceAnswer struct {
	FaceID           string            `json:"faceId,omitempty"`
	RecognitionModel string            `json:"recognitionModel,omitempty"`
	FaceRectangle    rectangle         `json:"faceRectangle"`
	FaceLandmarks    *landmarks        `json:"faceLandmarks,omitempty"`
	FaceAttributes   *attributesAnswer `json:"faceAttributes,omitempty"`
}

type rectangle struct {
	Top    int `json:"top"`
	Left   int `json:"left"`
	Width  int `json:"width"`
	Height int `json:"height"`
}

// attributesAnswer holds the attributes that were asked for, contract §3.3.
type attributesAnswer struct {
	HeadPose              *headPose      `json:"headPose,omitempty"`
	Blur                  *blurLevel     `json:"blur,omitempty"`
	Exposure              *exposureLevel `json:"exposure,omitempty"`
	Noise                 *noiseLevel    `json:"noise,omitempty"`
	QualityForRecognition string         `json:"qualityForRecognition,omitempty" enum:"low medium high"`
	// The versions write the values of glasses differently, see dialect.
	Glasses     string       `json:"glasses,omitempty"`
	Occlusion   *occlusion   `json:"occlusion,omitempty"`
	Accessories *[]accessory `json:"accessories,omitempty"` // empty when nothing is worn, absent when not asked for
	Mask        *mask        `json:"mask,omitempty"`
}

type occlusion struct {
	Forehead bool `json:"foreheadOccluded"`
	Eye      bool `json:"eyeOccluded"`
	Mouth    bool `json:"mouthOccluded"`
}

type accessory struct {
	Type       string  `json:"type" enum:"headwear glasses mask"`
	Confidence float64 `json:"confidence"`
}

type mask struct {
	Type                string `json:"type" enum:"noMask faceMask otherMaskOrOcclusion uncertain"`
	NoseAndMouthCovered bool   `json:"noseAndMouthCovered"`
}

type headPose struct {
	Pitch float64 `json:"pitch"`
	Roll  float64 `json:"roll"`
	Yaw   float64 `json:"yaw"`
}

type blurLevel struct {
	Level string  `json:"blurLevel" enum:"low medium high"`
	Value float64 `json:"value"`
}

type exposureLevel struct {
	Level string  `json:"exposureLevel" enum:"underExposure goodExposure overExposure"`
	Value float64 `json:"value"`
}

type noiseLevel struct {
	Level string  `json:"noiseLevel" enum:"low medium high"`
	Value float64 `json:"value"`
}

func (p *plane) detect(r *api.Request) (any, error) {
	q := queryOf(r)
	want := face.DetectQuery{
		ReturnFaceID:     q.flag("returnFaceId", true),
		ReturnLandmarks:  q.flag("returnFaceLandmarks", false),
		Attributes:       q.list("returnFaceAttributes"),
		RecognitionModel: q.text("recognitionModel"),
		DetectionModel:   q.text("detectionModel"),
		TimeToLive:       q.number("faceIdTimeToLive"),
	}
	returnModel := q.flag("returnRecognitionModel", false)
	if q.err != nil {
		return nil, q.err
	}
	photo, err := p.image(r, p.liveness)
	if err != nil {
		return nil, err
	}
	faces, err := p.service.Detect(r.Context(), r.Resource, photo, want)
	if err != nil {
		return nil, err
	}
	answer := make([]faceAnswer, len(faces))
	for i, f := range faces {
		answer[i] = faceAnswer{
			FaceID:        f.ID,
			FaceRectangle: rectangle{Top: f.Box.Top, Left: f.Box.Left, Width: f.Box.Width, Height: f.Box.Height},
		}
		if returnModel {
			answer[i].RecognitionModel = f.RecognitionModel
		}
		if f.Landmarks != nil {
			answer[i].FaceLandmarks = landmarksOf(f.Landmarks)
		}
		if f.Attributes != nil {
			answer[i].FaceAttributes = p.attributesOf(f.Attributes)
		}
	}
	return answer, nil
}

func (d dialect) attributesOf(a *face.Attributes) *attributesAnswer {
	answer := &attributesAnswer{QualityForRecognition: a.Quality}
	if a.HeadPose != nil {
		answer.HeadPose = &headPose{round(a.HeadPose.Pitch, 10), round(a.HeadPose.Roll, 10), round(a.HeadPose.Yaw, 10)}
	}
	if a.Blur != nil {
		answer.Blur = &blurLevel{a.Blur.Name, round(a.Blur.Value, 100)}
	}
	if a.Exposure != nil {
		answer.Exposure = &exposureLevel{a.Exposure.Name, round(a.Exposure.Value, 100)}
	}
	if a.Noise != nil {
		answer.Noise = &noiseLevel{a.Noise.Name, round(a.Noise.Value, 100)}
	}
	answer.Glasses = a.Glasses
	if d.capitals && a.Glasses != "" {
		answer.Glasses = strings.ToUpper(a.Glasses[:1]) + a.Glasses[1:]
	}
	if o := a.Occlusion; o != nil {
		answer.Occlusion = &occlusion{Forehead: o.Forehead, Eye: o.Eyes, Mouth: o.Mouth}
	}
	if a.Mask != nil {
		answer.Mask = &mask{a.Mask.Type, a.Mask.NoseAndMouthCovered}
	}
	if a.Accessories != nil {
		worn := make([]accessory, len(a.Accessories))
		for i, w := range a.Accessories {
			worn[i] = accessory{w.Type, round(w.Confidence, 100)}
		}
		answer.Accessories = &worn
	}
	return answer
}

// round rounds to 1/unit, as recordings of the service show its numbers. It never gives a negative zero.
func round(v float64, unit float64) float64 { return math.Round(v*unit)/unit + 0 }
