package geometry_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/visage-face/visage/vision/internal/geometry"
)

// project shows the generic head in a pose. The camera is away millimetres off, or infinitely far if that is 0.
func project(p geometry.Pose, scale, away float64, at geometry.Point) geometry.Shape {
	sin := func(d float64) float64 { return math.Sin(d * math.Pi / 180) }
	cos := func(d float64) float64 { return math.Cos(d * math.Pi / 180) }
	var s geometry.Shape
	for i, v := range geometry.Head() {
		x, y, z := v[0], v[1]-40, v[2]
		y, z = y*cos(p.Pitch)+z*sin(p.Pitch), z*cos(p.Pitch)-y*sin(p.Pitch) // up is towards the camera above
		x, z = x*cos(p.Yaw)-z*sin(p.Yaw), z*cos(p.Yaw)+x*sin(p.Yaw)
		x, y = x*cos(p.Roll)-y*sin(p.Roll), y*cos(p.Roll)+x*sin(p.Roll)
		f := scale
		if away > 0 {
			f *= away / (away + z)
		}
		s[i] = geometry.Point{X: at.X + f*x, Y: at.Y + f*y}
	}
	return s
}

func apart(a, b geometry.Pose) float64 {
	roll := math.Mod(math.Abs(a.Roll-b.Roll), 360)
	return max(math.Abs(a.Pitch-b.Pitch), min(roll, 360-roll), math.Abs(a.Yaw-b.Yaw))
}

func TestPoseOfKnownHeads(t *testing.T) {
	for _, c := range []struct {
		name  string
		away  float64 // of the camera, in millimetres
		noise float64 // of each coordinate, standard deviation in parts of the distance between the pupils
		most  float64 // degrees
	}{
		{"far camera", 0, 0, 1e-6},
		{"camera at 1.5 m", 1500, 0, 3},
		{"points off by 1 %", 0, 0.01, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			worst := 0.0
			for pitch := -30.0; pitch <= 30; pitch += 10 {
				for yaw := -40.0; yaw <= 40; yaw += 10 {
					for _, roll := range []float64{-170, -90, -20, 0, 15, 60, 120} {
						want := geometry.Pose{Pitch: pitch, Roll: roll, Yaw: yaw}
						s := project(want, 1.7, c.away, geometry.Point{X: 300, Y: 200})
						for i := range s {
							s[i].X += c.noise * 63 * 1.7 * r.NormFloat64()
							s[i].Y += c.noise * 63 * 1.7 * r.NormFloat64()
						}
						got, ok := geometry.PoseOf(&s)
						if d := apart(got, want); !ok || d > c.most {
							t.Errorf("pose is %+.2v (%v), want %+v within %v°", got, ok, want, c.most)
						} else {
							worst = max(worst, d)
						}
					}
				}
			}
			t.Logf("worst error %.3g°", worst)
		})
	}
}

// The signs are those of the contract: up, clockwise, and to the right of the picture are positive.
func TestPoseSigns(t *testing.T) {
	front := project(geometry.Pose{}, 1, 0, geometry.Point{})
	right := project(geometry.Pose{Yaw: 20}, 1, 0, geometry.Point{})
	if !(right[30].X > front[30].X) {
		t.Error("the tip of the nose does not move right in a turn to the right")
	}
	up := project(geometry.Pose{Pitch: 20}, 1, 0, geometry.Point{})
	if !(up[30].Y-up[27].Y < front[30].Y-front[27].Y) {
		t.Error("the tip of the nose does not rise when the face looks up")
	}
	roll := project(geometry.Pose{Roll: 20}, 1, 0, geometry.Point{})
	if !(roll[45].Y > roll[36].Y) {
		t.Error("the right eye does not sink in a roll clockwise")
	}
}

func TestPoseOfMirroredHead(t *testing.T) {
	want := geometry.Pose{Pitch: 10, Roll: 20, Yaw: 30}
	s := project(want, 2, 0, geometry.Point{X: 10, Y: 10})
	mirrored := s
	for _, pair := range [][2]int{
		{17, 26}, {19, 24}, {21, 22}, {31, 35}, {36, 45}, {39, 42}, {48, 54}, {8, 8}, {27, 27}, {28, 28}, {29, 29},
		{30, 30},
		{33, 33}, {51, 51}, {57, 57},
	} {
		a, b := s[pair[0]], s[pair[1]]
		mirrored[pair[0]] = geometry.Point{X: -b.X, Y: b.Y}
		mirrored[pair[1]] = geometry.Point{X: -a.X, Y: a.Y}
	}
	got, ok := geometry.PoseOf(&mirrored)
	if want := (geometry.Pose{Pitch: 10, Roll: -20, Yaw: -30}); !ok || apart(got, want) > 1e-6 {
		t.Errorf("mirrored pose is %+v (%v), want %+v", got, ok, want)
	}
}

func TestPoseOfNoFace(t *testing.T) {
	line, far := geometry.Shape{}, project(geometry.Pose{}, 1, 0, geometry.Point{})
	for i := range line {
		line[i] = geometry.Point{X: float64(i), Y: 2 * float64(i)}
	}
	far[30].X = math.Inf(1)
	nan := project(geometry.Pose{}, 1, 0, geometry.Point{})
	nan[36].Y = math.NaN()
	for name, s := range map[string]geometry.Shape{"one point": {}, "a line": line, "infinite": far,
		"not a number": nan} {
		if got, ok := geometry.PoseOf(&s); ok {
			t.Errorf("%s: pose is %+v, want none", name, got)
		}
	}
}
