package jpeg

import "encoding/binary"

// bits reads the data bit by bit.
type bits struct {
	data []byte
	pos  int    // of the next byte to load
	acc  uint64 // bits loaded, from the highest
	n    uint   // how many
}

// seek goes to a bit.
func (b *bits) seek(bit int) {
	b.pos, b.acc, b.n = bit>>3, 0, 0
	b.fill()
	b.acc, b.n = b.acc<<(bit&7), b.n-uint(bit&7)
}

// at returns the place of the next bit.
func (b *bits) at() int { return 8*b.pos - int(b.n) }

// fill loads bits until there are at least 32.
func (b *bits) fill() {
	b.acc |= binary.BigEndian.Uint64(b.data[b.pos:b.pos+8]) >> b.n
	b.pos, b.n = b.pos+int((63-b.n)>>3), b.n|56
}

// row decodes a row of units, which begins at a place, onto the canvas, as far as they lie on it. It returns where the
// next row begins.
func (f *File) row(dst *canvas, row int, from place) (place, error) {
	r := bits{data: f.data}
	r.seek(from.bit)
	dc := from.dc
	unit := row * f.across
	interval := 0
	if f.interval > 0 {
		interval = unit / f.interval
	}
	end := f.starts[interval+1]
	var b block
	var steps [3][64]step
	for i := range f.parts {
		for k := range 64 {
			steps[i][k] = step{f.parts[i].quant[k], slotsOf[dst.n][k]}
		}
	}
	for x := range f.across {
		shown := x >= dst.units.Min.X && x < dst.units.Max.X
		for i := range f.parts {
			p := &f.parts[i]
			for j := range p.h * p.v {
				if !r.dc(p.dc, &dc[i]) {
					return place{}, declined("a broken block")
				}
				if !shown {
					if !r.skip(p.ac, 1) {
						return place{}, declined("a broken block")
					}
				} else {
					ok := false
					b.clear(dst.n)
					b.values[0] = dc[i] * p.quant[0]
					if b.reached, ok = r.ac(p.ac, &steps[i], &b.values, wantedOf[dst.n]); !ok {
						return place{}, declined("a broken block")
					}
					to := &dst.planes[i]
					at := ((row-dst.units.Min.Y)*p.v+j/p.h)*dst.n*to.stride + ((x-dst.units.Min.X)*p.h+j%p.h)*dst.n
					b.draw(to.pix[at:], to.stride, dst.n)
				}
				if r.at() > 8*end {
					return place{}, declined("too few pixels")
				}
			}
		}
		if unit++; f.interval > 0 && unit%f.interval == 0 || unit == f.across*f.down {
			if 8*end-r.at() > 7 {
				return place{}, declined("bytes behind the pixels")
			}
			if unit < f.across*f.down {
				interval++
				r.seek(8 * f.starts[interval])
				end, dc = f.starts[interval+1], [3]int32{}
			}
		}
	}
	return place{r.at(), dc}, nil
}

// dc decodes the difference of a block's mean from that of the block before. It reports false for a code that does not
// exist.
func (b *bits) dc(t *table, mean *int32) bool {
	b.fill()
	e := t.direct[b.acc>>(64-look)]
	if e&long == 0 {
		b.acc, b.n = b.acc<<(e&0x7f), b.n-uint(e&0x7f)
		*mean += int32(e) >> 16
		return true
	}
	length, size, _ := t.code(e, b.acc)
	if length == 0 {
		return false
	}
	*mean += b.value(length, size)
	return true
}

// value takes a code and the value of some bits behind it.
func (b *bits) value(length, size int) int32 {
	v := int32(b.acc << length >> 1 >> (63 - size))
	b.acc, b.n = b.acc<<(length+size), b.n-uint(length+size)
	return extend(v, size)
}

// ac decodes the other coefficients of a block into values, dequantised, as far as a block of n × n pixels needs them.
// It returns the number of coefficients, in the order of the file, after which all are zero, and reports false for an
// impossible block.
func (b *bits) ac(t *table, steps *[64]step, values *[64]int32, wanted int) (reached int, ok bool) {
	data, pos, acc, have := b.data, b.pos, b.acc, b.n
	k := 1 // the next coefficient
	for k < wanted {
		acc |= binary.BigEndian.Uint64(data[pos:pos+8]) >> have
		pos, have = pos+int((63-have)>>3), have|56
		for range 2 { // two codes with their values have at most 54 bits
			var value int32
			e := t.direct[acc>>(64-look)]
			if e&long == 0 {
				acc, have = acc<<(e&0x7f), have-uint(e&0x7f)
				k += int(e >> 8 & 0xff)
				value = int32(e) >> 16
			} else {
				length, size, advance := t.code(e, acc)
				if length == 0 {
					return 0, false
				}
				value = extend(int32(acc<<length>>1>>(63-size)), size)
				acc, have = acc<<(length+size), have-uint(length+size)
				k += advance
			}
			if k > 64 {
				break
			}
			s := &steps[(k-1)&63]
			values[s.slot&63] = value * s.quant
			if k >= wanted {
				break
			}
		}
	}
	b.pos, b.acc, b.n = pos, acc, have
	switch {
	case k >= last:
		return k - last, true
	case k == 64:
		return k, true
	case k > 64:
		return 0, false
	}
	return k, b.skip(t, k)
}

// step says how a coefficient is used: its factor, and its slot in the block.
type step struct {
	quant int32
	slot  uint8
}

// skip skips the coefficients of a block from the k-th. It reports false for an impossible block.
func (b *bits) skip(t *table, k int) bool {
	data, pos, acc, have := b.data, b.pos, b.acc, b.n
	for k < 64 {
		acc |= binary.BigEndian.Uint64(data[pos:pos+8]) >> have
		pos, have = pos+int((63-have)>>3), have|56
		for range 4 {
			s := t.skip[acc>>(64-look)]
			if next := k + int(s>>8&0x7f); s == 0 || next >= 64 {
				break
			}
			// Several coefficients; those after the 64th belong to another block.
			k += int(s >> 8)
			acc, have = acc<<(s&0xff), have-uint(s&0xff)
			if k >= last {
				b.pos, b.acc, b.n = pos, acc, have
				return true
			}
		}
		if have < 32 {
			continue
		}
		length, size, advance := t.code(t.direct[acc>>(64-look)], acc)
		if length == 0 {
			return false
		}
		acc, have = acc<<(length+size), have-uint(length+size)
		k += advance
	}
	b.pos, b.acc, b.n = pos, acc, have
	return k == 64 || k >= last
}
