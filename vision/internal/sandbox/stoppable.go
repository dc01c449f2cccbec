package sandbox

import (
	"bytes"
	"errors"
	"fmt"
)

// stopFlag is the name under which a program exports the flag that ends it.
const stopFlag = "visage_stop"

// pause is after how many iterations of loops and calls of functions a program returns to Go: about ten microseconds.
const pause = 4096

// stoppable returns a WebAssembly module that counts the beginnings of loops and functions, because only these can
// last. After so many it returns to Go for a moment, by a request for no more memory: Go cannot interrupt machine code
// that it did not make, and its garbage collector would hold all goroutines while it waits for this one. It also checks
// a flag, and traps when it is set. The runtime has a check of its own, but returns to Go for each iteration, which
// makes decoders up to four times as slow.
func stoppable(module []byte) ([]byte, error) {
	const preamble = 8
	if len(module) < preamble {
		return nil, errors.New("a module without a beginning")
	}
	out := append([]byte(nil), module[:preamble]...)
	global, done := uint32(0), 0
	for in := (reader{b: module[preamble:]}); len(in.b) > 0; {
		id := in.byte()
		body := reader{b: in.take(int(in.number()))}
		if in.bad {
			return nil, errors.New("a module that ends early")
		}
		whole := body.b
		switch id {
		case 2:
			global = importedGlobals(&body)
		case 6: // the globals: two more variables i32, the flag and the count
			n := body.number()
			global += n
			whole = append(leb(n+2), body.b...)
			whole = append(whole, 0x7f, 1, 0x41, 0, 0x0b, 0x7f, 1, 0x41, pause&0x7f|0x80, pause>>7, 0x0b)
			done++
		case 7: // the exports: one more
			whole = append(leb(body.number()+1), body.b...)
			whole = append(append(whole, byte(len(stopFlag))), stopFlag...)
			whole = append(append(whole, 3), leb(global)...)
			done++
		case 10:
			var err error
			if whole, err = checked(&body, check(global, global+1)); err != nil {
				return nil, err
			}
			done++
		}
		if body.bad {
			return nil, fmt.Errorf("section %d of a module is broken", id)
		}
		out = append(append(append(out, id), leb(uint32(len(whole)))...), whole...)
	}
	if done != 3 {
		return nil, errors.New("a module without variables, exports or code")
	}
	return out, nil
}

// check returns the instructions that are put into loops and functions.
func check(flag, count uint32) []byte {
	get := func(v uint32) []byte { return append([]byte{0x23}, leb(v)...) }
	set := func(v uint32) []byte { return append([]byte{0x24}, leb(v)...) }
	return bytes.Join([][]byte{
		get(count), {0x41, 1, 0x6b}, set(count), // count down
		get(count), {0x45, 0x04, 0x40}, // and at zero
		{0x41, pause&0x7f | 0x80, pause >> 7}, set(count), // begin anew,
		{0x41, 0, 0x40, 0, 0x1a},         // ask for no memory,
		get(flag), {0x04, 0x40, 0, 0x0b}, // and if the flag is set, trap
		{0x0b},
	}, nil)
}

// importedGlobals counts the variables among the imports, which are numbered before the module's own.
func importedGlobals(in *reader) (n uint32) {
	for i := in.number(); i > 0 && !in.bad; i-- {
		in.take(int(in.number()))
		in.take(int(in.number()))
		switch in.byte() {
		case 0: // a function
			in.number()
		case 1: // a table
			in.byte()
			in.limits()
		case 2: // a memory
			in.limits()
		case 3:
			in.take(2)
			n++
		default:
			in.bad = true
		}
	}
	return n
}

// checked puts the check at the beginning of each function and loop.
func checked(in *reader, check []byte) (out []byte, err error) {
	n := in.number()
	out = leb(n)
	for ; n > 0 && !in.bad; n-- {
		code := reader{b: in.take(int(in.number()))}
		whole := code.b
		for locals := code.number(); locals > 0 && !code.bad; locals-- {
			code.number()
			code.byte()
		}
		function := append([]byte(nil), whole[:len(whole)-len(code.b)]...)
		function = append(function, check...)
		for len(code.b) > 0 {
			before := code.b
			op := code.byte()
			code.operands(op)
			if code.bad {
				return nil, fmt.Errorf("an instruction %#x that is not known here", op)
			}
			function = append(function, before[:len(before)-len(code.b)]...)
			if op == 0x03 {
				function = append(function, check...)
			}
		}
		out = append(append(out, leb(uint32(len(function)))...), function...)
	}
	return out, nil
}

// reader reads the numbers and parts of a module. What is beyond its end is zero, and makes it bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.bad = true
		r.b = nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// number reads a number in LEB128, of which only the lower bits count here.
func (r *reader) number() (v uint32) {
	for shift := 0; shift < 70; shift += 7 {
		b := r.byte()
		v |= uint32(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.bad = true
	return 0
}

func (r *reader) limits() {
	if flags := r.byte(); flags&1 != 0 {
		r.number()
	}
	r.number()
}

// operands skips what follows an instruction, as WebAssembly 2.0 has it without vectors.
func (r *reader) operands(op byte) {
	switch {
	case op == 0x02, op == 0x03, op == 0x04, op == 0x0c, op == 0x0d, op == 0x10, op >= 0x20 && op <= 0x26, op == 0x3f,
		op == 0x40, op == 0x41, op == 0x42, op == 0xd0, op == 0xd2:
		r.number()
	case op == 0x11, op >= 0x28 && op <= 0x3e:
		r.number()
		r.number()
	case op == 0x0e:
		for n := r.number(); n > 0 && !r.bad; n-- {
			r.number()
		}
		r.number()
	case op == 0x1c:
		r.take(int(r.number()))
	case op == 0x43:
		r.take(4)
	case op == 0x44:
		r.take(8)
	case op == 0xfc:
		switch sub := r.number(); {
		case sub <= 7:
		case sub == 8, sub == 10, sub == 12, sub == 14:
			r.number()
			r.number()
		case sub == 9, sub == 11, sub == 13, sub >= 15 && sub <= 17:
			r.number()
		default:
			r.bad = true
		}
	case op <= 0x01, op == 0x05, op == 0x0b, op == 0x0f, op == 0x1a, op == 0x1b, op >= 0x45 && op <= 0xc4, op == 0xd1:
	default:
		r.bad = true
	}
}

// leb writes a number in LEB128.
func leb(v uint32) (b []byte) {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}
