package geometry

// Shape is the 68 points of the iBUG annotation (300-W, 2013), from 0: the jaw 0–16, the brows 17–21 and 22–26, the
// bridge of the nose 27–30, its base 31–35, the eyes 36–41 and 42–47, the lips' outside 48–59 and inside 60–67; each
// part from left to right or clockwise from its left end.
type Shape [68]Point

// Landmarks are the 27 points of the Face contract. Left and right are sides of the picture, not of the person.
type Landmarks struct {
	PupilLeft, PupilRight                                     Point
	NoseTip                                                   Point
	MouthLeft, MouthRight                                     Point
	EyebrowLeftOuter, EyebrowLeftInner                        Point
	EyeLeftOuter, EyeLeftTop, EyeLeftBottom, EyeLeftInner     Point
	EyebrowRightInner, EyebrowRightOuter                      Point
	EyeRightInner, EyeRightTop, EyeRightBottom, EyeRightOuter Point
	NoseRootLeft, NoseRootRight                               Point
	NoseLeftAlarTop, NoseRightAlarTop                         Point
	NoseLeftAlarOutTip, NoseRightAlarOutTip                   Point
	UpperLipTop, UpperLipBottom, UnderLipTop, UnderLipBottom  Point
}

// The sides of the nose are not among the 68 points. These figures place them so that they agree, within about a
// twentieth of the distance between the pupils, with the points that the Face documentation prints for its sample
// photos: the annotation marks the lower ends of the nostrils, the contract the points where the wings stand out most.
const (
	wingsApart = 1.7  // the distance of the wings, in distances of the nostrils
	wingsAbove = 0.19 // how far they are above the nostrils, in lengths of the nose
	topInwards = 0.15 // from the wing towards the tip, where it begins above
	topUpwards = 0.35 // from the wing towards the root, where it begins above
)

// LandmarksOf returns the 27 points. Pupils are the middles of the outlines of the eyes, because the 68 points do not
// show the direction of gaze.
func LandmarksOf(s *Shape) Landmarks {
	l := Landmarks{
		PupilLeft: mean(s[36:42]), PupilRight: mean(s[42:48]),
		NoseTip:   s[30],
		MouthLeft: s[48], MouthRight: s[54],
		EyebrowLeftOuter: s[17], EyebrowLeftInner: s[21],
		EyeLeftOuter: s[36], EyeLeftTop: mean(s[37:39]), EyeLeftBottom: mean(s[40:42]), EyeLeftInner: s[39],
		EyebrowRightInner: s[22], EyebrowRightOuter: s[26],
		EyeRightInner: s[42], EyeRightTop: mean(s[43:45]), EyeRightBottom: mean(s[46:48]), EyeRightOuter: s[45],
		NoseRootLeft: toward(s[39], s[27], 0.5), NoseRootRight: toward(s[42], s[27], 0.5),
		UpperLipTop: s[51], UpperLipBottom: s[62], UnderLipTop: s[66], UnderLipBottom: s[57],
	}
	middle := toward(s[31], s[35], 0.5)
	up := Point{wingsAbove * (s[27].X - s[33].X), wingsAbove * (s[27].Y - s[33].Y)}
	wing := func(nostril Point) Point {
		p := toward(middle, nostril, wingsApart)
		return Point{p.X + up.X, p.Y + up.Y}
	}
	top := func(wing, root Point) Point {
		in, above := toward(wing, s[30], topInwards), toward(wing, root, topUpwards)
		return Point{in.X + above.X - wing.X, in.Y + above.Y - wing.Y}
	}
	l.NoseLeftAlarOutTip, l.NoseRightAlarOutTip = wing(s[31]), wing(s[35])
	l.NoseLeftAlarTop = top(l.NoseLeftAlarOutTip, l.NoseRootLeft)
	l.NoseRightAlarTop = top(l.NoseRightAlarOutTip, l.NoseRootRight)
	return l
}

// Five returns the points by which recognisers align faces: the eyes, left first, the tip of the nose, and the corners
// of the mouth, left first.
func (s *Shape) Five() [5]Point {
	return [5]Point{mean(s[36:42]), mean(s[42:48]), s[30], s[48], s[54]}
}

// mean returns the middle of the points.
func mean(points []Point) Point {
	var m Point
	for _, p := range points {
		m.X, m.Y = m.X+p.X, m.Y+p.Y
	}
	n := float64(len(points))
	return Point{m.X / n, m.Y / n}
}

// toward returns the point at a fraction of the way from a to b.
func toward(a, b Point, part float64) Point {
	return Point{a.X + part*(b.X-a.X), a.Y + part*(b.Y-a.Y)}
}
