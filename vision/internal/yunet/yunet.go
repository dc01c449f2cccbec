// Package yunet reads faces from the output of detectors of the YuNet kind (W. Wu, H. Peng, S. Yu, "YuNet: A Tiny
// Millisecond-level Face Detector", Machine Intelligence Research 20, 2023), as the OpenCV Zoo exports them to ONNX.
//
// Such a network takes a picture of blue, green and red planes with values from 0 to 255, whose width and height are
// multiples of Stride. It has no anchors: each cell of three grids gives the probability of a face, and its place
// relative to the cell.
package yunet

import (
	"fmt"
	"math"

	"github.com/visage-face/visage/vision/internal/geometry"
)

// Stride divides the width and the height of the network's input; both are in pixels.
const Stride = 32

// strides are the distances of the cells of the three grids, in pixels of the input.
var strides = [...]int{8, 16, Stride}

// Numbers that a cell gives: the certainty that it is of the class face, the certainty that it holds any object, the
// box, and the five points.
const (
	classNumbers  = 1
	objectNumbers = 1
	boxNumbers    = 4
	pointNumbers  = 10
)

// Outputs returns the names of the network's outputs in the order that Decode takes them.
func Outputs() []string {
	var names []string
	for _, s := range strides {
		names = append(names, fmt.Sprintf("cls_%d", s), fmt.Sprintf("obj_%d", s),
			fmt.Sprintf("bbox_%d", s), fmt.Sprintf("kps_%d", s))
	}
	return names
}

// Box is a rectangle in pixels, with fractions.
type Box struct{ Left, Top, Right, Bottom float64 }

// Face is a face as the network sees it, in pixels of its input.
type Face struct {
	Box
	// Score is the geometric mean of the two certainties, 0 to 1.
	Score float64
	// Points are the eyes, the tip of the nose and the corners of the mouth; of pairs, the left one in the picture
	// first. For faces on their side or upside down, the person's right one comes first.
	Points [5]geometry.Point
}

// Decode returns the faces with at least the given score, cell by cell: each face many times, for Suppress to reduce.
// The input was width × height pixels. It is an error if the outputs do not have as many numbers, or if the numbers of
// a face make no box.
func Decode(outputs [][]float32, width, height int, minScore float64) ([]Face, error) {
	if width < 1 || height < 1 || width%Stride != 0 || height%Stride != 0 {
		return nil, fmt.Errorf("read faces: an input of %d × %d is not made of multiples of %d", width, height, Stride)
	}
	if len(outputs) != 4*len(strides) {
		return nil, fmt.Errorf("read faces: %d outputs, want %d", len(outputs), 4*len(strides))
	}
	var faces []Face
	for i, stride := range strides {
		grid := outputs[4*i : 4*i+4]
		columns, rows := width/stride, height/stride
		for j, numbers := range [...]int{classNumbers, objectNumbers, boxNumbers, pointNumbers} {
			if want := numbers * columns * rows; len(grid[j]) != want {
				return nil, fmt.Errorf("read faces: output %s has %d numbers, want %d for an input of %d × %d",
					Outputs()[4*i+j], len(grid[j]), want, width, height)
			}
		}
		for cell := range columns * rows {
			score := math.Sqrt(certainty(grid[0][cell]) * certainty(grid[1][cell]))
			if !(score >= minScore) {
				continue
			}
			x, y := float64(cell%columns), float64(cell/columns)
			f, ok := faceAt(x, y, float64(stride), grid[2][cell*boxNumbers:], grid[3][cell*pointNumbers:])
			if !ok {
				return nil, fmt.Errorf("read faces: cell %d of stride %d scores %.2f and has no box", cell, stride,
					score)
			}
			f.Score = score
			faces = append(faces, f)
		}
	}
	return faces, nil
}

// certainty limits a value that rounding may have moved out of its range. NaN becomes 0.
func certainty(v float32) float64 {
	if !(v > 0) {
		return 0
	}
	return min(float64(v), 1)
}

// faceAt reads the face of the cell at (x, y): the box's middle and the points are offsets from the cell in strides,
// its sides are logarithms of strides.
func faceAt(x, y, stride float64, box, points []float32) (Face, bool) {
	cx, cy := (x+float64(box[0]))*stride, (y+float64(box[1]))*stride
	w, h := math.Exp(float64(box[2]))*stride, math.Exp(float64(box[3]))*stride
	f := Face{Box: Box{cx - w/2, cy - h/2, cx + w/2, cy + h/2}}
	for i := range f.Points {
		f.Points[i] = geometry.Point{X: (x + float64(points[2*i])) * stride, Y: (y + float64(points[2*i+1])) * stride}
		if !finite(f.Points[i].X) || !finite(f.Points[i].Y) {
			return f, false
		}
	}
	return f, finite(f.Left) && finite(f.Top) && finite(f.Right) && finite(f.Bottom)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
