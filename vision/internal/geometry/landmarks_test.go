package geometry_test

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/visage-face/visage/vision/internal/geometry"
)

// points returns the 27 points by their names.
func points(l geometry.Landmarks) map[string]geometry.Point {
	m := make(map[string]geometry.Point)
	v := reflect.ValueOf(l)
	for i := range v.NumField() {
		m[v.Type().Field(i).Name] = v.Field(i).Interface().(geometry.Point)
	}
	return m
}

func TestThereAre27Landmarks(t *testing.T) {
	if n := reflect.TypeFor[geometry.Landmarks]().NumField(); n != 27 {
		t.Errorf("there are %d landmarks", n)
	}
}

// Landmarks move, turn and grow with the shape.
func TestLandmarksFollowTheShape(t *testing.T) {
	for name, shapes := range referenceShapes(t) {
		sin, cos := math.Sincos(0.4)
		m := geometry.Affine{A: 3 * cos, B: -3 * sin, C: 17, D: 3 * sin, E: 3 * cos, F: -40}
		for _, s := range shapes {
			before := points(geometry.LandmarksOf(&s))
			for i := range s {
				s[i] = m.Apply(s[i])
			}
			for k, got := range points(geometry.LandmarksOf(&s)) {
				if want := m.Apply(before[k]); !near(got, want, 1e-6) {
					t.Fatalf("%s: %s is %v, want %v", name, k, got, want)
				}
			}
		}
	}
}

// On faces that look ahead, what is called left is left, what is called top is above, and so on.
func TestLandmarksOfRealFaces(t *testing.T) {
	tested := 0
	for name, shapes := range referenceShapes(t) {
		for _, s := range shapes {
			pose, ok := geometry.PoseOf(&s)
			if !ok || math.Abs(pose.Yaw) > 15 || math.Abs(pose.Roll) > 15 || math.Abs(pose.Pitch) > 15 {
				continue
			}
			tested++
			l := geometry.LandmarksOf(&s)
			for k, p := range points(l) {
				if !strings.Contains(k, "Left") {
					continue
				}
				if q := points(l)[strings.Replace(k, "Left", "Right", 1)]; p.X >= q.X {
					t.Errorf("%s: %s is at %v, not left of %v", name, k, p, q)
				}
			}
			for _, column := range [][]geometry.Point{
				{l.EyeLeftTop, l.PupilLeft, l.EyeLeftBottom}, {l.EyeRightTop, l.PupilRight, l.EyeRightBottom},
				{l.NoseRootLeft, l.NoseLeftAlarTop, l.NoseLeftAlarOutTip, l.MouthLeft},
				{l.NoseRootRight, l.NoseRightAlarTop, l.NoseRightAlarOutTip, l.MouthRight},
				{l.NoseTip, l.UpperLipTop, l.UpperLipBottom, l.UnderLipBottom},
			} {
				for i := 1; i < len(column); i++ {
					if column[i-1].Y >= column[i].Y {
						t.Errorf("%s: %v is not above %v", name, column[i-1], column[i])
					}
				}
			}
			pupils := l.PupilRight.X - l.PupilLeft.X
			wings := (l.NoseRightAlarOutTip.X - l.NoseLeftAlarOutTip.X) / pupils
			if wings < 0.5 || wings > 0.9 {
				t.Errorf("%s: the nose is %.2f of the pupils' distance wide", name, wings)
			}
		}
	}
	if tested < 10 {
		t.Errorf("only %d faces look ahead", tested)
	}
}

func TestFivePoints(t *testing.T) {
	var s geometry.Shape
	for i := range s {
		s[i] = geometry.Point{X: float64(i), Y: float64(-i)}
	}
	want := [5]geometry.Point{{X: 38.5, Y: -38.5}, {X: 44.5, Y: -44.5}, {X: 30, Y: -30}, {X: 48, Y: -48},
		{X: 54, Y: -54}}
	if got := s.Five(); got != want {
		t.Errorf("five points are %v, want %v", got, want)
	}
}
