package console

// Labels lists the pages and forms, by method and pattern.
func Labels() (all [][2]string) {
	for _, r := range new(Console).table() {
		all = append(all, [2]string{r.method, r.pattern})
	}
	return all
}
