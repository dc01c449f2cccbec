package geometry

// Head is the generic head: which of the 68 points lies where.
func Head() map[int][3]float64 {
	m := make(map[int][3]float64)
	for _, k := range head {
		m[k.at] = k.where
	}
	return m
}
