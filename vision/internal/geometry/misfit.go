package geometry

import (
	_ "embed"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// shapeFile holds the mean shape of a face and, a line each, the ways in which faces differ from it: the first
// principal components of shapes, with both coordinates of each point in turn, in ten thousandths. They are those of
// what the landmark network marked on 1,100 portraits of Labeled Faces in the Wild and of their mirror images, in boxes
// as detected and in boxes up to a third larger, smaller or aside, without the 1 % that fit least. The mean is centred,
// and its points are 1 from the middle in the root mean square.
//
//go:embed shapes.txt
var shapeFile string

// faces is the file's content: the mean, and components of length 1.
var faces = readShapes(shapeFile)

func readShapes(file string) (lines [][2 * len(Shape{})]float64) {
	for line := range strings.Lines(file) {
		fields := strings.Fields(line)
		var row [2 * len(Shape{})]float64
		if len(fields) != len(row) {
			panic(fmt.Sprintf("shapes.txt: %d numbers in a line, not %d", len(fields), len(row)))
		}
		for i, f := range fields {
			n, err := strconv.Atoi(f)
			if err != nil {
				panic("shapes.txt: " + err.Error())
			}
			row[i] = float64(n) / 10_000
		}
		lines = append(lines, row)
	}
	return lines
}

// faceMean is the mean face.
var faceMean = func() (mean Shape) {
	for i := range mean {
		mean[i] = Point{faces[0][2*i], faces[0][2*i+1]}
	}
	return mean
}()

// FrameOf returns the map from the frame of the mean face to that of a shape. In the frame of the mean face, the middle
// of the points is at 0, they are 1 from it in the root mean square, and the face is upright.
func FrameOf(s *Shape) Affine {
	frame, _ := Similarity(faceMean[:], s[:])
	return frame
}

// Misfit returns how far the points are from those of a face: the root mean square distance that remains after the mean
// face is brought onto them by a turn, a scale and a shift, and after all usual differences between faces are
// subtracted. It is a fraction of the mean distance of the points from their middle. For upright faces networks mark
// points with 0.006 to 0.03, for faces on their side or upside down, and for other objects, with more. It is at most 1,
// also for points that are not finite.
func Misfit(s *Shape) float64 {
	// The mean is brought onto the points, and the points back by the same map. If they were brought onto the mean
	// themselves, points that do not resemble it at all would shrink to one point, which has a moderate distance from
	// it.
	onto := FrameOf(s)
	scale2 := onto.A*onto.A + onto.D*onto.D
	if !(scale2 > 0) || math.IsInf(scale2, 0) {
		return 1
	}
	var off [2 * len(s)]float64
	left := 0.0
	for i, p := range s {
		x, y := p.X-onto.C, p.Y-onto.F
		off[2*i] = (onto.A*x+onto.D*y)/scale2 - faceMean[i].X
		off[2*i+1] = (onto.A*y-onto.D*x)/scale2 - faceMean[i].Y
		left += off[2*i]*off[2*i] + off[2*i+1]*off[2*i+1]
	}
	for _, component := range faces[1:] {
		along := 0.0
		for i, x := range component {
			along += x * off[i]
		}
		left -= along * along
	}
	misfit := math.Sqrt(max(left, 0) / float64(len(s)))
	if !(misfit < 1) {
		return 1
	}
	return misfit
}
