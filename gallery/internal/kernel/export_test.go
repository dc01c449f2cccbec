package kernel

// Move moves the prepared probes into other memory.
func (p *Probes) Move(room func(n int) []int8) {
	move := func(codes *[]int8) {
		to := room(len(*codes))
		copy(to, *codes)
		*codes = to
	}
	for i := range p.blocks {
		move(&p.blocks[i].codes)
	}
	move(&p.sketch)
	move(&p.second)
	move(&p.third)
}

func (k *Kernel) Tile(dim, n int, sketch, second []byte, marks []uint32, tile []byte) {
	k.makeTile(dim, n, sketch, second, marks, tile)
}
