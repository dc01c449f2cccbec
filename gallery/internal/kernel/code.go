package kernel

import "encoding/binary"

// Coded is the result of Code for a row: for the sketch, the sketch and the second plane, and these with the third, the
// product of its codes with what the planes stand for, and the squared length of the latter; and the squared length of
// the codes themselves.
//
// The upper n bits of a code stand for the middle of the codes that begin with them, in units of half their number: for
// the bits h, 0 to 2ⁿ-1, it is 2h+1-2ⁿ.
type Coded struct {
	Along, Long [3]int64
	Square      int64
}

// Code splits a row into planes: codes holds its codes, of 16 bits, little endian, none of them below -32,767. sketch
// and second have SecondBytes, third ThirdBytes and last LastBytes bytes.
func (k *Kernel) Code(codes []byte, sketch, second, third, last []byte, out *Coded) {
	dim := len(codes) / 2
	*out = Coded{}
	whole := dim &^ 31
	if whole > 0 {
		_, _, _, _ = sketch[whole/4-1], second[whole/4-1], third[whole/2-1], last[whole-1]
		k.code(&codes[0], whole, &sketch[0], &second[0], &third[0], &last[0], out)
	}
	if whole < dim {
		clear(third[whole/2:])
		codeRest(codes[2*whole:], sketch[whole/4:], second[whole/4:], third[whole/2:], last[whole:], out)
	}
}

// codeRest is Code in Go, for any number of codes. It adds to out.
func codeRest(codes []byte, sketch, second, third, last []byte, out *Coded) {
	clear(sketch)
	clear(second)
	clear(third)
	clear(last)
	for d := range len(codes) / 2 {
		c := int64(int16(binary.LittleEndian.Uint16(codes[2*d:])))
		bits := uint16(c + 1<<15)
		place, shift := d/16*4+d%4, d/4%4*2
		sketch[place] |= byte(bits>>14) << shift
		second[place] |= byte(bits>>12&3) << shift
		third[d/8*4+d%4] |= byte(bits>>8&15) << (d / 4 % 2 * 4)
		last[d] = byte(bits)
		for i, n := range [3]int{2, 4, 8} {
			middle := int64(2*int(bits>>(16-n)) + 1 - 1<<n)
			out.Along[i] += c * middle
			out.Long[i] += middle * middle
		}
		out.Square += c * c
	}
}

// Row assembles the codes of a row, row r of a group of the sketch and rows of the other planes. It reverses Code.
func Row(codes []int16, group []byte, r int, second, third, last []byte) {
	for j := 0; 16*j < len(codes); j++ {
		upper := binary.LittleEndian.Uint32(group[vectorBytes*(1+j)+4*r:])
		lower := binary.LittleEndian.Uint32(second[4*j:])
		for i := 0; i < 4 && 16*j+4*i < len(codes); i++ {
			// Four codes at once, a byte of each. A half of the third plane serves four, then the other half.
			half := binary.LittleEndian.Uint32(third[8*j+i/2*4:]) >> (i % 2 * 4) & 0x0f0f0f0f
			high := upper>>(2*i)&0x03030303<<6 | lower>>(2*i)&0x03030303<<4 | half
			four := spread(high)<<8 | spread(binary.LittleEndian.Uint32(last[16*j+4*i:]))
			for k := 16*j + 4*i; k < min(16*j+4*i+4, len(codes)); k++ {
				codes[k] = int16(four ^ 1<<15)
				four >>= 16
			}
		}
	}
}

// spread puts four bytes into lanes of 16 bits.
func spread(b uint32) uint64 {
	x := uint64(b)
	x = (x | x<<16) & 0x0000ffff0000ffff
	return (x | x<<8) & 0x00ff00ff00ff00ff
}
