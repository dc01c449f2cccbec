package pack

// Figures of the default pack that were measured rather than read from its weights; docs/models.md tells how.

// alignment is where the recogniser wants five points of a face. It was trained on faces cut as dlib does; these are the
// places where the five points come to lie in such a cut.
var alignment = [5][2]float64{{47, 42.5}, {103, 42.5}, {75, 78}, {48, 100}, {102, 100}}

// calibration is the default pack's.
func calibration() Calibration {
	return Calibration{
		Method: "not measured",
		Rates:  []Rate{{0.01, 1e-9}, {0.05, 1e-3}, {0.5, 0.9}},
	}
}
