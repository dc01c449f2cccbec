package photo

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"image"
	stdjpeg "image/jpeg"

	"github.com/visage-face/visage/vision/internal/jpeg"
	"github.com/visage-face/visage/vision/internal/sandbox"
)

// jpegProgram is libjpeg-turbo; see wasm/README.md.
//
//go:embed wasm/jpeg.wasm.gz
var jpegProgram []byte

// readJPEG decodes the picture: with our own decoder, which is the fast one and reads files of cameras; with that of
// the standard library, which reads progressive files too; with both again, if the file only has to be put in order;
// and with libjpeg, which reads every sampling of colours and fills gaps where data is lost.
func readJPEG(ctx context.Context, d *Decoder, file []byte) (_ image.Image, note string, err error) {
	if m := readBaseline(file); m != nil {
		return m, headerNote(file), nil
	}
	if lacksTables(file) {
		return nil, "", errors.New("the JPEG file lacks the quantisation table of a component")
	}
	m, first := stdjpeg.Decode(bytes.NewReader(file))
	if first == nil {
		return m, headerNote(file), nil
	}
	if ctx.Err() != nil {
		return nil, "", context.Cause(ctx)
	}
	f, err := jpegHeader(file)
	if err != nil {
		return nil, "", err
	}
	repaired, notes := repairJPEG(file)
	// A progressive file without its end may be decoded from the first of its scans: libjpeg says what it lacks.
	if len(notes) > 0 && !f.progressive() {
		if m := readBaseline(repaired); m != nil {
			return m, said(notes), nil
		}
		if m, err := stdjpeg.Decode(bytes.NewReader(repaired)); err == nil {
			return m, said(notes), nil
		}
	}
	if hasNote(notes, noEnd) {
		repaired = repaired[:len(repaired)-2] // libjpeg must see that it is missing
	}
	p, warning, err := d.libjpeg(ctx, repaired, f)
	if err != nil {
		return nil, "", err
	}
	if warning != "" {
		notes = append(notes, fmt.Sprintf("damage (libjpeg: %s)", warning))
	}
	if len(notes) > 0 {
		note = said(notes)
	}
	return p, note, nil
}

// readBaseline decodes a plain baseline file, at a reduced scale if it is large; nil for all others.
func readBaseline(file []byte) image.Image {
	f, err := jpeg.Parse(file)
	if err != nil {
		return nil
	}
	n := reduction(f.Width, f.Height)
	m, err := f.Decode(n)
	if err != nil {
		return nil
	}
	if n == jpeg.Full {
		return m
	}
	return &large{small: m, file: f, n: n}
}

// libjpeg decodes a file in the sandbox. It returns libjpeg's first warning, if there was one.
func (d *Decoder) libjpeg(ctx context.Context, file []byte, f jpegFrame) (p *packed, warning string, err error) {
	err = d.jpeg.Run(ctx, func(run *sandbox.Instance) error {
		if _, err := run.Place("input", file); err != nil {
			return fmt.Errorf("hand over the file: %w", err)
		}
		if _, err := run.Call("start", uint32(len(file))); err != nil {
			return fmt.Errorf("libjpeg: %s: %w", saidBy(run), err)
		}
		if w, h, err := sizeBy(run); err != nil {
			return err
		} else if w != f.width || h != f.height {
			return fmt.Errorf("libjpeg: a picture of %d × %d pixels, not of %d × %d", w, h, f.width, f.height)
		}
		for y := range f.height {
			if y%64 == 0 { // a picture that is missing is not worth the time
				if err := enough(run); err != nil {
					return err
				}
			}
			if y == 0 {
				p = &packed{W: f.width, H: f.height, Pix: make([]byte, 3*f.width*f.height)}
			}
			at, err := run.Call("next")
			if err != nil {
				return fmt.Errorf("libjpeg: %s: %w", saidBy(run), err)
			}
			row, err := run.Read(at, uint32(3*f.width))
			if err != nil {
				return err
			}
			copy(p.Pix[3*y*f.width:], row)
		}
		if err := enough(run); err != nil {
			return err
		}
		if n, err := run.Call("warnings"); err != nil || n > 0 {
			warning = saidBy(run)
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return p, warning, nil
}

// enough refuses a picture of which too much is missing.
func enough(run *sandbox.Instance) error {
	lost, err := run.Call("lost")
	if err == nil && lost > 1<<16/mayLack {
		return cutOff()
	}
	return err
}

// saidBy returns the error or the first warning of libjpeg.
func saidBy(run *sandbox.Instance) string {
	at, err := run.Call("text")
	if err != nil {
		return "no reason given"
	}
	return run.Text(at)
}

func sizeBy(run *sandbox.Instance) (w, h int, err error) {
	wide, err := run.Call("width")
	high, also := run.Call("height")
	return int(wide), int(high), errors.Join(err, also)
}
