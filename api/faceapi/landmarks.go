package faceapi

import "github.com/visage-face/visage/face"

// landmarks are the 27 points of contract §3.4.
type landmarks struct {
	PupilLeft           point `json:"pupilLeft"`
	PupilRight          point `json:"pupilRight"`
	NoseTip             point `json:"noseTip"`
	MouthLeft           point `json:"mouthLeft"`
	MouthRight          point `json:"mouthRight"`
	EyebrowLeftOuter    point `json:"eyebrowLeftOuter"`
	EyebrowLeftInner    point `json:"eyebrowLeftInner"`
	EyeLeftOuter        point `json:"eyeLeftOuter"`
	EyeLeftTop          point `json:"eyeLeftTop"`
	EyeLeftBottom       point `json:"eyeLeftBottom"`
	EyeLeftInner        point `json:"eyeLeftInner"`
	EyebrowRightInner   point `json:"eyebrowRightInner"`
	EyebrowRightOuter   point `json:"eyebrowRightOuter"`
	EyeRightInner       point `json:"eyeRightInner"`
	EyeRightTop         point `json:"eyeRightTop"`
	EyeRightBottom      point `json:"eyeRightBottom"`
	EyeRightOuter       point `json:"eyeRightOuter"`
	NoseRootLeft        point `json:"noseRootLeft"`
	NoseRootRight       point `json:"noseRootRight"`
	NoseLeftAlarTop     point `json:"noseLeftAlarTop"`
	NoseRightAlarTop    point `json:"noseRightAlarTop"`
	NoseLeftAlarOutTip  point `json:"noseLeftAlarOutTip"`
	NoseRightAlarOutTip point `json:"noseRightAlarOutTip"`
	UpperLipTop         point `json:"upperLipTop"`
	UpperLipBottom      point `json:"upperLipBottom"`
	UnderLipTop         point `json:"underLipTop"`
	UnderLipBottom      point `json:"underLipBottom"`
}

// point is a place in pixels of the upright picture, with one decimal.
type point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

func pointOf(p face.Point) point { return point{round(p.X, 10), round(p.Y, 10)} }

func landmarksOf(l *face.Landmarks) *landmarks {
	return &landmarks{
		PupilLeft:           pointOf(l.PupilLeft),
		PupilRight:          pointOf(l.PupilRight),
		NoseTip:             pointOf(l.NoseTip),
		MouthLeft:           pointOf(l.MouthLeft),
		MouthRight:          pointOf(l.MouthRight),
		EyebrowLeftOuter:    pointOf(l.EyebrowLeftOuter),
		EyebrowLeftInner:    pointOf(l.EyebrowLeftInner),
		EyeLeftOuter:        pointOf(l.EyeLeftOuter),
		EyeLeftTop:          pointOf(l.EyeLeftTop),
		EyeLeftBottom:       pointOf(l.EyeLeftBottom),
		EyeLeftInner:        pointOf(l.EyeLeftInner),
		EyebrowRightInner:   pointOf(l.EyebrowRightInner),
		EyebrowRightOuter:   pointOf(l.EyebrowRightOuter),
		EyeRightInner:       pointOf(l.EyeRightInner),
		EyeRightTop:         pointOf(l.EyeRightTop),
		EyeRightBottom:      pointOf(l.EyeRightBottom),
		EyeRightOuter:       pointOf(l.EyeRightOuter),
		NoseRootLeft:        pointOf(l.NoseRootLeft),
		NoseRootRight:       pointOf(l.NoseRootRight),
		NoseLeftAlarTop:     pointOf(l.NoseLeftAlarTop),
		NoseRightAlarTop:    pointOf(l.NoseRightAlarTop),
		NoseLeftAlarOutTip:  pointOf(l.NoseLeftAlarOutTip),
		NoseRightAlarOutTip: pointOf(l.NoseRightAlarOutTip),
		UpperLipTop:         pointOf(l.UpperLipTop),
		UpperLipBottom:      pointOf(l.UpperLipBottom),
		UnderLipTop:         pointOf(l.UnderLipTop),
		UnderLipBottom:      pointOf(l.UnderLipBottom),
	}
}
