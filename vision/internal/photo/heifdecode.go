package photo

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"image"

	"github.com/visage-face/visage/vision/internal/sandbox"
)

// heifProgram is libheif with libde265, avifProgram libavif with libaom; see wasm/README.md.
var (
	//go:embed wasm/heif.wasm.gz
	heifProgram []byte
	//go:embed wasm/avif.wasm.gz
	avifProgram []byte
)

// decodeHEIF decodes the main picture of a HEIC or AVIF file.
func decodeHEIF(ctx context.Context, d *Decoder, file []byte) (image.Image, string, error) {
	h, err := readHEIF(file)
	if err != nil {
		return nil, "", err
	}
	var p *packed
	decode, program := h.heic, d.heif
	if h.codec == "av01" {
		decode, program = h.avif, d.avif
	}
	err = program.Run(ctx, func(run *sandbox.Instance) (err error) {
		p, err = decode(run, file)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	return p, "", nil
}

// turnHEIF returns the turn of a picture: by its properties or, if none of them turns it, by its metadata.
func turnHEIF(file []byte) orientation {
	h, err := readHEIF(file)
	if err != nil {
		return upright
	}
	if len(h.turns) == 0 {
		return metadataOfHEIF(file).orientation()
	}
	return h.turn
}

// unturned returns a copy of a file that libheif does not turn: libheif turns pictures itself, but does not mirror
// those of more than 8 bits. The properties that turn the picture become turns by nothing. In addition, libheif looks
// at the main brand alone and does not accept a generic one, and it decodes a picture without colours only if another
// property says so too: the copy asks for grey colours, which libheif adds.
func unturned(file []byte) []byte {
	file = bytes.Clone(file)
	h, err := readHEIF(file)
	if err != nil {
		return file // it was read before
	}
	for _, p := range h.turns {
		copy(p.head[4:], "irot")
		clear(p.data)
	}
	for _, p := range h.grey {
		p.data[greyAt] |= 1 // 4:2:0
	}
	copy(file[8:], "heic")
	return file
}

var errSandboxed = errors.New("the decoder refuses the file and gives no reason")

// heic runs libheif: once for the size and the kind of colours, once for the pixels.
func (h heif) heic(run *sandbox.Instance, file []byte) (*packed, error) {
	const (
		colours, grey, rgb = 0, 2, 1 // kinds of colours
		align              = 16      // of rows in libheif
	)
	file = unturned(file)
	in, err := run.Place("malloc", file)
	if err != nil {
		return nil, err
	}
	said, err := run.Place("malloc", make([]byte, 5*4)) // width, height, kind, sampling, whether alpha is multiplied
	if err != nil {
		return nil, err
	}
	call := func(only, out uint32) error {
		ok, err := run.Call("decode", in, uint32(len(file)), only, said, said+4, said+8, said+12, said+16, out)
		if err == nil && ok == 0 {
			err = errSandboxed
		}
		return err
	}
	if err := call(1, 0); err != nil {
		return nil, err
	}
	var v [5]uint32
	for i := range v {
		if v[i], err = run.Word(said + 4*uint32(i)); err != nil {
			return nil, err
		}
	}
	w, height := int(v[0]), int(v[1])
	if w < 1 || height < 1 || !h.cropped && (w != h.width || height != h.height) || w > h.width || height > h.height {
		return nil, fmt.Errorf("the HEIC picture has %d × %d pixels, not %d × %d", w, height, h.width, h.height)
	}
	// The bytes of a row of n pixels as libheif keeps them: of an even number, no fewer than 64.
	up := func(n, channels int) int { return (max(n+n%2, 64)*channels + align - 1) / align * align }
	stride, cw, ch := up(w, 1), w, height
	ratio := image.YCbCrSubsampleRatio444
	switch v[3] {
	case 1:
		ratio, cw, ch = image.YCbCrSubsampleRatio420, (w+1)/2, (height+1)/2
	case 2:
		ratio, cw = image.YCbCrSubsampleRatio422, (w+1)/2
	}
	cstride := up(cw, 1)
	size := stride*height + 2*cstride*ch
	if v[2] == rgb {
		stride = up(w, 4)
		size = stride * height
	}
	out, err := run.Call("malloc", uint32(size))
	if err != nil || out == 0 {
		return nil, errors.Join(errors.New("the picture does not fit into the sandbox"), err)
	}
	if err := call(0, out); err != nil {
		return nil, err
	}
	pix, err := run.Read(out, uint32(size))
	if err != nil {
		return nil, err
	}
	frame := image.Rect(0, 0, w, height)
	var src image.Image
	switch v[2] {
	case colours:
		n, c := stride*height, cstride*ch
		src = &image.YCbCr{Y: pix[:n], Cb: pix[n : n+c], Cr: pix[n+c:], YStride: stride, CStride: cstride,
			SubsampleRatio: ratio, Rect: frame}
	case grey:
		src = &image.Gray{Pix: pix, Stride: stride, Rect: frame}
	case rgb:
		if v[4] == 1 {
			src = &image.RGBA{Pix: pix, Stride: stride, Rect: frame}
		} else {
			src = &image.NRGBA{Pix: pix, Stride: stride, Rect: frame}
		}
	default:
		return nil, fmt.Errorf("HEIC pictures of kind %d are not supported", v[2])
	}
	return (*packed)(draw(src, w, height, upright, mixtureOf(h.alike))), nil
}

// avif runs libavif: once for the size, once for the pixels, which come as RGB with alpha multiplied in.
func (h heif) avif(run *sandbox.Instance, file []byte) (*packed, error) {
	in, err := run.Place("malloc", file)
	if err != nil {
		return nil, err
	}
	said, err := run.Place("malloc", make([]byte, 4*4+8)) // width, height, depth, how many, for how long
	if err != nil {
		return nil, err
	}
	call := func(only, out uint32) error {
		ok, err := run.Call("decode", in, uint32(len(file)), only, 0, said, said+4, said+8, said+12, said+16, out)
		if err == nil && ok == 0 {
			err = errSandboxed
		}
		return err
	}
	if err := call(1, 0); err != nil {
		return nil, err
	}
	var v [3]uint32
	for i := range v {
		if v[i], err = run.Word(said + 4*uint32(i)); err != nil {
			return nil, err
		}
	}
	if int(v[0]) != h.width || int(v[1]) != h.height {
		return nil, fmt.Errorf("the AVIF picture has %d × %d pixels, not %d × %d", v[0], v[1], h.width, h.height)
	}
	channel := 1
	if v[2] > 8 {
		channel = 2
	}
	size := uint32(4 * channel * h.width * h.height)
	out, err := run.Call("malloc", size)
	if err != nil || out == 0 {
		return nil, errors.Join(errors.New("the picture does not fit into the sandbox"), err)
	}
	before, err := run.Read(out, size)
	if err != nil {
		return nil, err
	}
	clear(before) // zeros show what was not decoded
	if err := call(0, out); err != nil {
		return nil, err
	}
	pix, err := run.Read(out, size) // not before: the memory may have grown, and moved
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimLeft(pix, "\x00")) == 0 {
		return nil, errSandboxed // it returns no pixels and no reason
	}
	p := &packed{Pix: make([]byte, 3*h.width*h.height), W: h.width, H: h.height}
	for i := range h.width * h.height {
		c := pix[4*channel*i : 4*channel*(i+1)]
		if channel == 1 {
			p.Pix[3*i], p.Pix[3*i+1], p.Pix[3*i+2] = onPaper(c[0], c[3]), onPaper(c[1], c[3]), onPaper(c[2], c[3])
			continue
		}
		at := func(j int) uint32 { return uint32(c[2*j]) | uint32(c[2*j+1])<<8 }
		rgb := flat(at(0), at(1), at(2), at(3))
		copy(p.Pix[3*i:], rgb[:])
	}
	return p, nil
}
