package photo_test

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// coded makes baseline JPEGs of areas of one colour each, 96 × 96 pixels, which blocks of any sampling divide: of any
// factors, in one scan or a scan for each component, with restart markers.
type coded struct {
	width, height int
	factors       [][2]int // of each component, across and down
	ids           string   // the components' names; "": 1, 2, 3
	adobe         int      // as in blocks
	interval      int      // units between restart markers; 0: none
	separate      bool     // a scan for each component
}

// area returns the value of a component in an area.
func area(column, row, component int) byte { return byte(40 + (column*67+row*41+component*29)%170) }

func (c coded) file() []byte {
	var f bytes.Buffer
	segment := func(marker byte, data ...byte) {
		f.Write([]byte{0xff, marker})
		f.Write(binary.BigEndian.AppendUint16(nil, uint16(len(data)+2)))
		f.Write(data)
	}
	f.WriteString("\xff\xd8")
	if c.adobe >= 0 {
		segment(0xee, append([]byte("Adobe\x00\x64\x00\x00\x00\x00"), byte(c.adobe))...)
	}
	segment(0xfe, make([]byte, 1024)...)
	segment(0xdb, append([]byte{0}, bytes.Repeat([]byte{1}, 64)...)...)
	ids := []byte(c.ids)
	if len(ids) == 0 {
		ids = []byte{1, 2, 3, 4}
	}
	maxH, maxV := 1, 1
	frame := []byte{8, byte(c.height >> 8), byte(c.height), byte(c.width >> 8), byte(c.width), byte(len(c.factors))}
	for i, s := range c.factors {
		maxH, maxV = max(maxH, s[0]), max(maxV, s[1])
		frame = append(frame, ids[i], byte(s[0]<<4|s[1]), 0)
	}
	segment(0xc0, frame...)
	segment(0xc4, 0x00, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
	segment(0xc4, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	if c.interval > 0 {
		segment(0xdd, byte(c.interval>>8), byte(c.interval))
	}
	up := func(a, b int) int { return (a + b - 1) / b }
	scans := [][]int{{}}
	for i := range c.factors {
		if c.separate && i > 0 {
			scans = append(scans, nil)
		}
		scans[len(scans)-1] = append(scans[len(scans)-1], i)
	}
	for _, scan := range scans {
		header := []byte{byte(len(scan))}
		for _, i := range scan {
			header = append(header, ids[i], 0)
		}
		segment(0xda, append(header, 0, 63, 0)...)
		w := &bitWriter{out: &f}
		before := make([]int, len(c.factors))
		block := func(i, x, y int) {
			s := c.factors[i]
			if len(c.factors) == 1 {
				s = [2]int{maxH, maxV}
			}
			dc := 8 * (int(area(x*8*maxH/s[0]/96, y*8*maxV/s[1]/96, i)) - 128)
			d := dc - before[i]
			before[i] = dc
			size := bits.Len(uint(max(d, -d)))
			w.put(uint32(size), 4)
			if d < 0 {
				d--
			}
			w.put(uint32(d), size)
			w.put(0, 1)
		}
		columns, rows := up(c.width, 8*maxH), up(c.height, 8*maxV)
		if len(scan) == 1 {
			s := c.factors[scan[0]]
			columns, rows = up(up(c.width*s[0], maxH), 8), up(up(c.height*s[1], maxV), 8)
			if len(c.factors) == 1 {
				columns, rows = up(c.width, 8), up(c.height, 8)
			}
		}
		for n := range columns * rows {
			if c.interval > 0 && n > 0 && n%c.interval == 0 {
				w.flush()
				f.Write([]byte{0xff, byte(0xd0 + (n/c.interval-1)%8)})
				clear(before)
			}
			x, y := n%columns, n/columns
			if len(scan) == 1 {
				block(scan[0], x, y)
				continue
			}
			for _, i := range scan {
				s := c.factors[i]
				for v := range s[1] {
					for h := range s[0] {
						block(i, x*s[0]+h, y*s[1]+v)
					}
				}
			}
		}
		w.flush()
	}
	f.WriteString("\xff\xd9")
	return f.Bytes()
}

// bitWriter writes the bits of a JPEG's data.
type bitWriter struct {
	out *bytes.Buffer
	acc uint32
	n   int
}

func (w *bitWriter) put(code uint32, size int) {
	w.acc, w.n = w.acc<<size|code&(1<<size-1), w.n+size
	for ; w.n >= 8; w.n -= 8 {
		v := byte(w.acc >> (w.n - 8))
		w.out.WriteByte(v)
		if v == 0xff {
			w.out.WriteByte(0)
		}
	}
}

func (w *bitWriter) flush() {
	if w.n > 0 {
		w.put(0x7f, 8-w.n)
	}
	w.acc, w.n = 0, 0
}
