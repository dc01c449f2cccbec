package scatter

// Place returns the names of the replicas of each partition.
func (s *Scatter) Place(collection string, count int) ([][]string, error) {
	return s.place(collection, count)
}
