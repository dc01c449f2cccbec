package jpeg

// block is the dequantised coefficients of a block, in rows as wide as the pixels that it becomes.
type block struct {
	values  [64]int32
	reached int // all coefficients from this one on, in the order of the file, are zero
}

// zigzag is the order of coefficients in a file: the place of each in a block of 8 × 8 (ITU-T T.81, figure A.6).
var zigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10,
	17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34,
	27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36,
	29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46,
	53, 60, 61, 54, 47, 55, 62, 63,
}

// slotsOf holds, for blocks of n × n pixels, the slot of each coefficient of the file; those that are not needed share
// the last slot. wantedOf is how many coefficients of the file must be read for all that are needed.
var slotsOf, wantedOf = slots()

func slots() (to [Full + 1][64]uint8, wanted [Full + 1]int) {
	for n := range to {
		for k, at := range zigzag {
			u, v := int(at)%8, int(at)/8
			to[n][k] = 63
			if u < n && v < n {
				to[n][k], wanted[n] = uint8(v*n+u), k+1
			}
		}
	}
	return to, wanted
}

// clear makes a block of n × n zeros.
func (b *block) clear(n int) {
	if n == Full {
		b.values = [64]int32{}
		return
	}
	*(*[16]int32)(b.values[:]) = [16]int32{}
}

// level makes a sample of a value around zero.
func level(v int32) byte {
	v += 128
	if uint32(v) > 255 {
		return byte(^v >> 31) // 0 below, 255 above
	}
	return byte(v)
}

// draw computes the n × n pixels of the block: the values of the coefficients' cosines at the middle of each. The
// coefficient of frequency 0 counts 1/√8, as in a block of 8 × 8, so that all sizes have one brightness.
func (b *block) draw(to []byte, stride, n int) {
	if b.reached <= 1 || n == 1 {
		v := level((b.values[0] + 4) >> 3)
		for y := range n {
			row := to[y*stride : y*stride+n]
			for x := range row {
				row[x] = v
			}
		}
		return
	}
	switch n {
	case 2:
		b.draw2(to, stride)
	case 3:
		b.draw3(to, stride)
	case 4:
		b.draw4(to, stride)
	default:
		b.draw8(to, stride)
	}
}

func (b *block) draw2(to []byte, stride int) {
	v := &b.values
	left, right := v[0]+v[2]+4, v[0]-v[2]+4
	up, down := v[1]+v[3], v[1]-v[3]
	to[1], to[0] = level((left-up)>>3), level((left+up)>>3)
	to = to[stride:]
	to[1], to[0] = level((right-down)>>3), level((right+down)>>3)
}

// Numbers of the transforms, in units of 1/8192.
const (
	bits13 = 13

	sqrt2  = 11585 // √2
	sqrt05 = 5793  // √½
	sqrt15 = 10033 // √1.5

	r0p541 = 4433  // √2 cos(3π/8)
	r0p765 = 6270  // √2 (cos(π/8) − cos(3π/8))
	r1p307 = 10703 // √2 cos(π/8)
	r1p848 = 15137 // √2 (cos(π/8) + cos(3π/8))
)

func (b *block) draw3(to []byte, stride int) {
	const kept = 4 // bits of fractions between the passes
	v := (*[9]int32)(b.values[:])
	for x := range 3 {
		mean, odd, even := v[x]<<bits13+1<<(bits13-kept-1), v[3+x]*sqrt15, v[6+x]
		v[x] = (mean + odd + even*sqrt05) >> (bits13 - kept)
		v[3+x] = (mean - even*sqrt2) >> (bits13 - kept)
		v[6+x] = (mean - odd + even*sqrt05) >> (bits13 - kept)
	}
	const shift = bits13 + kept + 3
	for y := range 3 {
		row := v[3*y : 3*y+3 : 3*y+3]
		mean, odd, even := row[0]<<bits13+1<<(shift-1), row[1]*sqrt15, row[2]
		out := to[y*stride : y*stride+3 : y*stride+3]
		out[0] = level((mean + odd + even*sqrt05) >> shift)
		out[1] = level((mean - even*sqrt2) >> shift)
		out[2] = level((mean - odd + even*sqrt05) >> shift)
	}
}

func (b *block) draw4(to []byte, stride int) {
	const kept = 4
	v := (*[16]int32)(b.values[:])
	for x := range 4 {
		mean, even := v[x]<<bits13+1<<(bits13-kept-1), v[8+x]<<bits13
		far, near := v[4+x]*r1p307+v[12+x]*r0p541, v[4+x]*r0p541-v[12+x]*r1p307
		v[x], v[12+x] = (mean+even+far)>>(bits13-kept), (mean+even-far)>>(bits13-kept)
		v[4+x], v[8+x] = (mean-even+near)>>(bits13-kept), (mean-even-near)>>(bits13-kept)
	}
	const shift = bits13 + kept + 3
	for y := range 4 {
		row := v[4*y : 4*y+4 : 4*y+4]
		mean, even := row[0]<<bits13+1<<(shift-1), row[2]<<bits13
		far, near := row[1]*r1p307+row[3]*r0p541, row[1]*r0p541-row[3]*r1p307
		out := to[y*stride : y*stride+4 : y*stride+4]
		out[0], out[3] = level((mean+even+far)>>shift), level((mean+even-far)>>shift)
		out[1], out[2] = level((mean-even+near)>>shift), level((mean-even-near)>>shift)
	}
}

// draw8 follows C. Loeffler, A. Ligtenberg and G. Moschytz, "Practical fast 1-D DCT algorithms with 11 multiplications"
// (Proc. ICASSP 1989).
func (b *block) draw8(to []byte, stride int) {
	const kept = 2
	v := &b.values
	wide := 8 // columns that are not all zeros
	if b.reached <= 10 {
		wide = 4 // the first ten frequencies lie in a triangle
	}
	for x := range wide {
		if v[8+x]|v[16+x]|v[24+x]|v[32+x]|v[40+x]|v[48+x]|v[56+x] == 0 {
			mean := v[x] << kept
			v[x], v[8+x], v[16+x], v[24+x] = mean, mean, mean, mean
			v[32+x], v[40+x], v[48+x], v[56+x] = mean, mean, mean, mean
			continue
		}
		const half, shift = 1 << (bits13 - kept - 1), bits13 - kept
		e0, e1, e2, e3 := evens(v[x], v[16+x], v[32+x], v[48+x])
		o0, o1, o2, o3 := odds(v[8+x], v[24+x], v[40+x], v[56+x])
		v[x], v[56+x] = (e0+o0+half)>>shift, (e0-o0+half)>>shift
		v[8+x], v[48+x] = (e1+o1+half)>>shift, (e1-o1+half)>>shift
		v[16+x], v[40+x] = (e2+o2+half)>>shift, (e2-o2+half)>>shift
		v[24+x], v[32+x] = (e3+o3+half)>>shift, (e3-o3+half)>>shift
	}
	const shift = bits13 + kept + 3
	const half = 1 << (shift - 1)
	for y := range 8 {
		row := (*[8]int32)(v[8*y:])
		out := (*[8]byte)(to[y*stride:])
		e0, e1, e2, e3 := evens(row[0], row[2], row[4], row[6])
		o0, o1, o2, o3 := odds(row[1], row[3], row[5], row[7])
		out[0], out[7] = level((e0+o0+half)>>shift), level((e0-o0+half)>>shift)
		out[1], out[6] = level((e1+o1+half)>>shift), level((e1-o1+half)>>shift)
		out[2], out[5] = level((e2+o2+half)>>shift), level((e2-o2+half)>>shift)
		out[3], out[4] = level((e3+o3+half)>>shift), level((e3-o3+half)>>shift)
	}
}

// evens is the part of the even frequencies in the first four of eight samples; the others mirror them.
func evens(v0, v2, v4, v6 int32) (a, b, c, d int32) {
	turn := (v2 + v6) * r0p541
	low, high := turn+v2*r0p765, turn-v6*r1p848
	sum, difference := (v0+v4)<<bits13, (v0-v4)<<bits13
	return sum + low, difference + high, difference - high, sum - low
}

// odds is the part of the odd frequencies in the first four of eight samples; the others mirror and negate them.
func odds(v1, v3, v5, v7 int32) (a, b, c, d int32) {
	const ( // of the paper's rotations, each √2 times a sum of cosines
		c0p298, c0p390, c0p899, c1p175 = 2446, 3196, 7373, 9633
		c1p501, c1p961, c2p053, c2p562 = 12299, 16069, 16819, 20995
		c3p072                         = 25172
	)
	z := (v7 + v3 + v5 + v1) * c1p175
	z1, z2 := (v7+v1)*-c0p899, (v5+v3)*-c2p562
	z3, z4 := (v7+v3)*-c1p961+z, (v5+v1)*-c0p390+z
	return v1*c1p501 + z1 + z4, v3*c3p072 + z2 + z3, v5*c2p053 + z2 + z4, v7*c0p298 + z1 + z3
}
