package faceapi

import (
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/face"
)

var detectionModel = api.Param{
	Name: "detectionModel", Text: "The detection model; default " + face.DefaultDetectionModel + ".", Value: "",
	Enum: "detection_01 detection_02 detection_03",
}

var detectQuery = []api.Param{
	{Name: "returnFaceId", Text: "Store the template of each face and return a face id; default true.", Value: true},
	{Name: "returnFaceLandmarks", Text: "Return the 27 landmarks; default false.", Value: false},
	{Name: "returnFaceAttributes", Text: "The attributes to return, separated by commas; default none.", Value: ""},
	{
		Name: "recognitionModel", Text: "The recognition model; default " + face.DefaultRecognitionModel + ".",
		Value: "",
		Enum:  "recognition_01 recognition_02 recognition_03 recognition_04",
	},
	{Name: "returnRecognitionModel", Text: "Return the name of the recognition model; default false.", Value: false},
	detectionModel,
	{Name: "faceIdTimeToLive", Text: "Seconds until the face ids expire, 60 to 86400; default 86400.", Value: 0},
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
	return p.dialect.detected(faces, returnModel), nil
}

// Detected returns detected faces as the answer of v1.2 has them, to be written as JSON.
func Detected(faces []face.Face) any { return dialects[len(dialects)-1].detected(faces, true) }

// detected is the answer of a detection.
func (d dialect) detected(faces []face.Face, returnModel bool) []faceAnswer {
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
			answer[i].FaceAttributes = &attributesAnswer{d, f.Attributes}
		}
	}
	return answer
}
