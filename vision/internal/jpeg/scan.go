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
	if b.n < 32 {
		b.acc |= uint64(binary.BigEndian.Uint32(b.data[b.pos:b.pos+4])) << (32 - b.n)
		b.pos, b.n = b.pos+4, b.n+32
	}
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
					if b.reached, ok = r.ac(p.ac, &p.quant, &b.values, dst.n); !ok {
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

// dc decodes how a block's mean differs from that of the block before. It reports false for what is no code.
func (b *bits) dc(t *table, mean *int32) bool {
	b.fill()
	e := t.direct[b.acc>>(64-look)]
	if e != 0 && e&long == 0 {
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

// ac decodes a block's other coefficients into values, dequantised, as far as a block of n × n pixels needs them. It
// returns beyond which of them, in the order of the file, all are zero, and reports false for what is no block.
func (b *bits) ac(t *table, quant *[64]int32, values *[64]int32, n int) (reached int, ok bool) {
	slots, wanted := &slotsOf[n], wantedOf[n]
	data, pos, acc, have := b.data, b.pos, b.acc, b.n
	k := 1 // the next coefficient
	for k < wanted {
		if have < 32 {
			acc |= uint64(binary.BigEndian.Uint32(data[pos:pos+4])) << (32 - have)
			pos, have = pos+4, have+32
		}
		e := t.direct[acc>>(64-look)]
		if e&long == 0 && e != 0 {
			take := uint(e & 0x7f)
			acc, have = acc<<take, have-take
			k += int(e >> 8 & 0xff)
			if k > 64 {
				break
			}
			values[slots[(k-1)&63]&63] = (int32(e) >> 16) * quant[(k-1)&63]
			continue
		}
		length, size, advance := t.code(e, acc)
		if length == 0 {
			return 0, false
		}
		b.acc, b.n = acc, have
		v := b.value(length, size)
		acc, have = b.acc, b.n
		if k += advance; k > 64 {
			break
		}
		values[slots[(k-1)&63]&63] = v * quant[(k-1)&63]
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

// skip steps over a block's coefficients from the k-th. It reports false for what is no block.
func (b *bits) skip(t *table, k int) bool {
	data, pos, acc, have := b.data, b.pos, b.acc, b.n
	for k < 64 {
		if have < 32 {
			acc |= uint64(binary.BigEndian.Uint32(data[pos:pos+4])) << (32 - have)
			pos, have = pos+4, have+32
		}
		s := t.skip[acc>>(64-look)]
		if next := k + int(s>>8&0x7f); s != 0 && next < 64 {
			// Several coefficients; what is behind the 64th is another block's.
			k += int(s >> 8)
			acc, have = acc<<(s&0xff), have-uint(s&0xff)
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
