package pack

import _ "embed"

// Figures of the default pack that were measured and not read from its weights. docs/models.md describes how, and the
// tests of package vision measure them again.

// alignment is where the recogniser needs five points of a face, in pixels of its input. It is one in the middle of the
// best of about a hundred candidates: it separates people on the family photos by more than any crop without a turn.
var alignment = [5][2]float64{{47, 42.5}, {103, 42.5}, {75, 78}, {48, 100}, {102, 100}}

func calibration() Calibration {
	return Calibration{
		Pairs:  1364,
		People: 39,
		Method: "The square root of the cosine distance of strangers is taken as normal (mean 0.3980, deviation " +
			"0.0491). " +
			"Rates below 1e-3 are extrapolated: of the 1364 pairs measured one or two are nearer than the distance " +
			"at 1e-3. " +
			"Drawing the 39 people again puts that distance between 0.048 and 0.076.",
		Rates: []Rate{
			{Distance: 0.0107, FalseAccepts: 1e-9}, {Distance: 0.0150, FalseAccepts: 1e-8},
			{Distance: 0.0204, FalseAccepts: 1e-7}, {Distance: 0.0271, FalseAccepts: 1e-6},
			{Distance: 0.0356, FalseAccepts: 1e-5}, {Distance: 0.0464, FalseAccepts: 0.0001},
			{Distance: 0.0527, FalseAccepts: 0.0003}, {Distance: 0.0606, FalseAccepts: 0.001},
			{Distance: 0.0692, FalseAccepts: 0.003}, {Distance: 0.0805, FalseAccepts: 0.01},
			{Distance: 0.0934, FalseAccepts: 0.03}, {Distance: 0.1123, FalseAccepts: 0.1},
			{Distance: 0.1386, FalseAccepts: 0.3}, {Distance: 0.1584, FalseAccepts: 0.5},
			{Distance: 0.2125, FalseAccepts: 0.9},
		},
	}
}

// mobileFaceAlignment is where MobileFaceNet was trained to find five points of a face, in pixels of its input.
var mobileFaceAlignment = [5][2]float64{
	{38.2946, 51.6963}, {73.5318, 51.5014}, {56.0252, 71.7366}, {41.5493, 92.3655}, {70.7299, 92.2041},
}

// mobileFaceCounted is the output of `make calibrate`.
//
//go:embed calibration-mobileface.json
var mobileFaceCounted []byte

// mobileFaceCalibration is that of the mobileface pack.
func mobileFaceCalibration() Calibration {
	c, err := parseCalibration(mobileFaceCounted)
	if err != nil {
		panic("calibration-mobileface.json is not as `make calibrate` writes it: " + err.Error())
	}
	return *c
}
