package geometry

import "math"

// Pose is the direction a head points to, in degrees. All are 0 for a face that looks into the camera. The head is
// first pitched, then turned, then rolled, each about the picture's own axes.
type Pose struct {
	// Pitch, -90 to 90, is positive when the face looks up.
	Pitch float64
	// Roll, -180 to 180, is positive when the head is turned clockwise in the picture.
	Roll float64
	// Yaw, -90 to 90, is positive when the face looks to the right side of the picture.
	Yaw float64
}

// vec is a place in space: x to the right, y down, z away from the camera.
type vec [3]float64

// knob is a point of the head from which the pose is computed.
type knob struct {
	at     int // of the 68 points
	where  vec // on the head, in millimetres from the middle between the eyes
	weight float64
}

// head is a generic head, symmetric, looking into the camera. Its widths and heights are medians of what landmark
// networks mark on frontal portraits, scaled to a distance of 63 mm between the pupils, the adult mean (N. A. Dodgson,
// Proc. SPIE 5291, 2004). Its depths are rounded from what anthropometry has for adults (nose 20 mm proud of its base,
// outer corners of the eyes 22 mm behind the bridge), and good to about 3 mm. Points that speech and smiles move count
// less. The outline of the jaw is left out but for the chin: where it is seen depends on the pose.
var head = [...]knob{
	{8, vec{0, 110, 6}, 0.2},
	{17, vec{-57, -16, 24}, 0.2}, {26, vec{57, -16, 24}, 0.2},
	{19, vec{-37.5, -24.5, 8}, 0.2}, {24, vec{37.5, -24.5, 8}, 0.2},
	{21, vec{-18.5, -18.5, 2}, 0.3}, {22, vec{18.5, -18.5, 2}, 0.3},
	{27, vec{0, 3, 0}, 1}, {28, vec{0, 16.5, -6}, 1}, {29, vec{0, 29, -13}, 1}, {30, vec{0, 40, -19}, 1},
	{31, vec{-12.5, 43.5, -3}, 1}, {33, vec{0, 48, -7}, 1}, {35, vec{12.5, 43.5, -3}, 1},
	{36, vec{-43, -1, 22}, 1}, {39, vec{-19, 1, 13}, 1}, {42, vec{19, 1, 13}, 1}, {45, vec{43, -1, 22}, 1},
	{48, vec{-31, 64, 10}, 0.5}, {54, vec{31, 64, 10}, 0.5},
	{51, vec{0, 57, -8}, 0.5}, {57, vec{0, 83, -3}, 0.2},
}

// PoseOf returns the direction of the head: the turn of a generic head whose projection, at the best scale and place,
// is nearest to the points (scaled orthographic projection, weighted least squares). It reports false if the points are
// not those of a face: all on a line, seen from behind, or not finite.
func PoseOf(s *Shape) (Pose, bool) {
	var sum, spread2 float64
	var mid Point
	var mid3 vec
	for _, k := range head {
		sum += k.weight
		mid.X, mid.Y = mid.X+k.weight*s[k.at].X, mid.Y+k.weight*s[k.at].Y
		for i := range mid3 {
			mid3[i] += k.weight * k.where[i]
		}
	}
	mid.X, mid.Y = mid.X/sum, mid.Y/sum
	for i := range mid3 {
		mid3[i] /= sum
	}
	// Both sides centred, the best linear map from head to picture is cross · spread⁻¹.
	var cross [2]vec
	var spread [3]vec
	for _, k := range head {
		x, y := s[k.at].X-mid.X, s[k.at].Y-mid.Y
		spread2 += k.weight * (x*x + y*y)
		for i := range 3 {
			u := k.weight * (k.where[i] - mid3[i])
			cross[0][i] += u * x
			cross[1][i] += u * y
			for j := range 3 {
				spread[i][j] += u * (k.where[j] - mid3[j])
			}
		}
	}
	if !(spread2 > 0) || math.IsInf(spread2, 0) {
		return Pose{}, false
	}
	// The map is then made a scaled turn and refined.
	right, ok1 := solve(spread, cross[0])
	down, ok2 := solve(spread, cross[1])
	if !ok1 || !ok2 {
		return Pose{}, false
	}
	turn, scale, ok := nearestTurn(right, down)
	if !ok {
		return Pose{}, false
	}
	turn = refine(turn, scale, s, mid, mid3)
	if !(turn[2][2] > 0) { // the back of the head, or not a number
		return Pose{}, false
	}
	return angles(turn), true
}

// nearestTurn changes the rows of a linear map to the plane into the first two rows of a turn, both by the same amount.
func nearestTurn(a, b vec) (turn [3]vec, scale float64, ok bool) {
	la, lb := norm(a), norm(b)
	// Scaled to one length, the sum and the difference of two vectors are perpendicular.
	scale = (la + lb) / 2
	if !(la > 1e-6*scale) || !(lb > 1e-6*scale) {
		return turn, 0, false
	}
	var sum, diff vec
	for i := range 3 {
		sum[i], diff[i] = a[i]/la+b[i]/lb, a[i]/la-b[i]/lb
	}
	ls, ld := norm(sum), norm(diff)
	if !(ls > 1e-6) || !(ld > 1e-6) {
		return turn, 0, false
	}
	for i := range 3 {
		turn[0][i] = (sum[i]/ls + diff[i]/ld) / math.Sqrt2
		turn[1][i] = (sum[i]/ls - diff[i]/ld) / math.Sqrt2
	}
	turn[2] = crossProduct(turn[0], turn[1])
	return turn, scale, true
}

// refine reduces the squared distances by Gauss–Newton steps over the scale and small turns about the three axes.
func refine(turn [3]vec, scale float64, s *Shape, mid Point, mid3 vec) [3]vec {
	for range 20 {
		var left [4][4]float64
		var rightSide [4]float64
		for _, k := range head {
			u := vec{k.where[0] - mid3[0], k.where[1] - mid3[1], k.where[2] - mid3[2]}
			x, y, z := dot(turn[0], u), dot(turn[1], u), dot(turn[2], u)
			// How the projection of the point moves with scale, and with turns about x, y and z.
			rows := [2][4]float64{{x, 0, scale * z, -scale * y}, {y, -scale * z, 0, scale * x}}
			off := [2]float64{s[k.at].X - mid.X - scale*x, s[k.at].Y - mid.Y - scale*y}
			for r := range rows {
				for i := range 4 {
					rightSide[i] += k.weight * rows[r][i] * off[r]
					for j := range 4 {
						left[i][j] += k.weight * rows[r][i] * rows[r][j]
					}
				}
			}
		}
		step, ok := solve4(left, rightSide)
		if !ok {
			return turn
		}
		scale += step[0]
		turn = turned(turn, vec{step[1], step[2], step[3]})
		if math.Abs(step[1])+math.Abs(step[2])+math.Abs(step[3]) < 1e-9 {
			break
		}
	}
	return turn
}

// turned applies a further turn about an axis. The length of the axis is the angle in radians (Rodrigues).
func turned(m [3]vec, axis vec) [3]vec {
	angle := norm(axis)
	if angle == 0 {
		return m
	}
	n := vec{axis[0] / angle, axis[1] / angle, axis[2] / angle}
	sin, cos := math.Sincos(angle)
	var out [3]vec
	for j := range 3 {
		v := vec{m[0][j], m[1][j], m[2][j]}
		c, along := crossProduct(n, v), dot(n, v)
		for i := range 3 {
			out[i][j] = v[i]*cos + c[i]*sin + n[i]*along*(1-cos)
		}
	}
	return out
}

// angles splits a turn into turns: about x by -pitch, then about y by -yaw, then about z by roll.
func angles(m [3]vec) Pose {
	const degrees = 180 / math.Pi
	return Pose{
		Pitch: -math.Atan2(m[2][1], m[2][2]) * degrees,
		Roll:  math.Atan2(m[1][0], m[0][0]) * degrees,
		Yaw:   math.Asin(min(max(m[2][0], -1), 1)) * degrees,
	}
}

func dot(a, b vec) float64 { return a[0]*b[0] + a[1]*b[1] + a[2]*b[2] }

func norm(a vec) float64 { return math.Sqrt(dot(a, a)) }

func crossProduct(a, b vec) vec {
	return vec{a[1]*b[2] - a[2]*b[1], a[2]*b[0] - a[0]*b[2], a[0]*b[1] - a[1]*b[0]}
}

// solve returns x with m·x = b.
func solve(m [3]vec, b vec) (vec, bool) {
	var left [4][4]float64
	for i := range 3 {
		copy(left[i][:], m[i][:])
	}
	left[3][3] = 1
	x, ok := solve4(left, [4]float64{b[0], b[1], b[2], 0})
	return vec{x[0], x[1], x[2]}, ok
}

// solve4 returns x with m·x = b, by elimination with the largest pivot of each column.
func solve4(m [4][4]float64, b [4]float64) ([4]float64, bool) {
	for c := range 4 {
		best := c
		for r := c + 1; r < 4; r++ {
			if math.Abs(m[r][c]) > math.Abs(m[best][c]) {
				best = r
			}
		}
		m[c], m[best], b[c], b[best] = m[best], m[c], b[best], b[c]
		if !(math.Abs(m[c][c]) > 1e-12) || math.IsInf(m[c][c], 0) {
			return [4]float64{}, false
		}
		for r := c + 1; r < 4; r++ {
			f := m[r][c] / m[c][c]
			for i := c; i < 4; i++ {
				m[r][i] -= f * m[c][i]
			}
			b[r] -= f * b[c]
		}
	}
	var x [4]float64
	for c := 3; c >= 0; c-- {
		x[c] = b[c]
		for i := c + 1; i < 4; i++ {
			x[c] -= m[c][i] * x[i]
		}
		x[c] /= m[c][c]
	}
	return x, true
}
