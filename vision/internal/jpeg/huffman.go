package jpeg

// look is the number of bits by which a table is read: enough for most codes together with their value.
const look = 11

// Entries of table.direct hold, from the lowest bit: how many bits to take (8 bits), how many coefficients to go on
// (8 bits) and the value (16 bits). Where the value does not fit beside its code, long is set: the bits to take are the
// code's, and the value's size is in the value's place. An entry of 0 bits to take is of a longer code, or of none.
const (
	long = 0x80
	// last is in the coefficients to go on where the block ends.
	last = 0x80
)

// table decodes a Huffman code.
type table struct {
	direct [1 << look]uint32
	// skip steps over coefficients without their values, as many as fit: bits to take and coefficients to go on, which
	// are last if the block's end is among them. It has entries of 0 where a code does not fit.
	skip [1 << look]uint16

	ac bool
	// For codes of each length: the first code beyond it, left-aligned to 16 bits, and the symbols' place less the
	// first code.
	beyond  [17]uint32
	offset  [17]int32
	symbols [256]byte
}

// code is a Huffman code as a file has it: counts[i] codes of i+1 bits, for the symbols in turn. Where symbols is nil
// there is no code.
type code struct {
	counts  [16]byte
	symbols []byte
	ac      bool
}

// check declines codes that are impossible, and codes with values that no baseline file has.
func (c code) check() error {
	end := 0
	for i, n := range c.counts {
		if end += int(n); end > 2<<i {
			return declined("a Huffman code with too many codes")
		}
		end *= 2
	}
	for _, symbol := range c.symbols {
		if !c.ac && symbol > 11 || c.ac && symbol&15 > 10 {
			return declined("a value of too many bits")
		}
	}
	return nil
}

// newTable makes the table of a checked code.
func newTable(c code) *table {
	t := &table{ac: c.ac}
	for i := range t.direct {
		t.direct[i] = long
	}
	copy(t.symbols[:], c.symbols)
	next, at := uint32(0), int32(0)
	for i, n := range c.counts {
		length := i + 1
		t.offset[length] = at - int32(next)
		for range n {
			if length <= look {
				t.enter(next, length, t.symbols[at])
			}
			next++
			at++
		}
		t.beyond[length] = next << (16 - length)
		next <<= 1
	}
	t.join()
	return t
}

// enter fills the entries of one code that is no longer than look.
func (t *table) enter(code uint32, length int, symbol byte) {
	advance, size := t.advance(symbol)
	first := code << (look - length)
	for i := range uint32(1) << (look - length) {
		e := uint32(length) | long | advance<<8 | uint32(size)<<16
		if length+size <= look {
			value := int32(i >> (look - length - size))
			e = uint32(length+size) | advance<<8 | uint32(extend(value, size))<<16
		}
		t.direct[first+i] = e
	}
}

// advance returns by how many coefficients a symbol advances, and the number of bits of its value.
func (t *table) advance(symbol byte) (n uint32, size int) {
	switch {
	case !t.ac:
		return 0, int(symbol)
	case symbol&15 == 0 && symbol>>4 < 15: // the end of the block; runs of blocks are only in progressive files
		return last, 0
	}
	return uint32(symbol>>4) + 1, int(symbol & 15)
}

// extend makes a value of its bits (ITU-T T.81, F.2.2.1).
func extend(v int32, size int) int32 {
	if size > 0 && v < 1<<(size-1) {
		return v - 1<<size + 1
	}
	return v
}

// join makes the entries of skip: as many symbols as end within look bits.
func (t *table) join() {
	if !t.ac {
		return
	}
	for i := range t.skip {
		bits, n := uint32(0), uint32(0)
		for {
			e := t.direct[(uint32(i)<<bits)&(1<<look-1)]
			take := e & 0x7f
			if e&long != 0 {
				take += e >> 16
			}
			advance := e >> 8 & 0xff
			if e == long || bits+take > look || n+advance&^last > 63 {
				break
			}
			bits, n = bits+take, n+advance
			if n&last != 0 {
				break
			}
		}
		t.skip[i] = uint16(bits | n<<8)
	}
}

// code takes apart what the bits begin with, of which e is the entry in direct: bits of the code, bits of the value
// behind it, coefficients to go on. Without a code all are 0. Where the value was in the entry, size is part of length.
func (t *table) code(e uint32, bits uint64) (length, size, advance int) {
	if e != long {
		length, advance = int(e&0x7f), int(e>>8&0xff)
		if e&long != 0 {
			size = int(e >> 16)
		}
		return length, size, advance
	}
	top := uint32(bits >> 48)
	for length = look + 1; length <= 16; length++ {
		if top < t.beyond[length] {
			symbol := t.symbols[(int32(top>>(16-length))+t.offset[length])&0xff]
			n, size := t.advance(symbol)
			return length, size, int(n)
		}
	}
	return 0, 0, 0
}
