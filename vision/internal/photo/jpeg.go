package photo

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
)

// jpegFrame is the header of a JPEG's frame.
type jpegFrame struct {
	marker        byte
	precision     int // bits a sample
	width, height int
	components    int
	samples       int // for a pixel, rounded up
	across, down  int // pixels of a unit of an interleaved scan
}

func (f jpegFrame) progressive() bool { return f.marker == 0xc2 }

// jpegHeader finds the header of a JPEG's frame. What is between segments is skipped, as libjpeg does.
func jpegHeader(file []byte) (f jpegFrame, err error) {
	for at := 2; at+4 <= len(file); {
		marker, n := file[at+1], int(file[at+2])<<8+int(file[at+3])
		switch {
		case file[at] != 0xff || marker == 0 || marker == 0xff:
			at++
			continue
		case marker >= 0xd0 && marker <= 0xd8 || marker == 1: // these stand alone
			at += 2
			continue
		case marker == 0xda || marker == 0xd9:
			return f, errors.New("the JPEG file has no frame before its pixels")
		case marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc || marker == 0xf7:
			return readFrame(marker, file[at+4:min(at+2+max(n, 2), len(file))])
		}
		at += 2 + max(n, 2)
	}
	return f, io.ErrUnexpectedEOF
}

// readFrame reads a header: the components' sampling factors give each a share of the pixels that is their product over
// that of the largest factors.
func readFrame(marker byte, header []byte) (f jpegFrame, err error) {
	const before, each = 6, 3 // bytes before the components, and of each
	if len(header) < before || len(header) < before+each*int(header[5]) || header[5] < 1 {
		return f, errors.New("the frame header of the JPEG file is broken")
	}
	f = jpegFrame{
		marker: marker, precision: int(header[0]), components: int(header[5]),
		height: int(header[1])<<8 + int(header[2]), width: int(header[3])<<8 + int(header[4]),
		samples: 1, across: 8, down: 8,
	}
	if f.components == 1 {
		return f, nil // the factors of a single component mean nothing
	}
	sum, maxH, maxV := 0, 1, 1
	for c := range f.components {
		h, v := int(header[before+each*c+1]>>4), int(header[before+each*c+1]&15)
		sum, maxH, maxV = sum+h*v, max(maxH, h), max(maxV, v)
	}
	f.samples, f.across, f.down = (sum+maxH*maxV-1)/(maxH*maxV), 8*maxH, 8*maxV
	return f, nil
}

// check refuses, by name, kinds that neither browsers nor this package read.
func (f jpegFrame) check() error {
	const instead = "; save it as a baseline or progressive JPEG with 8 bits a sample, or as PNG"
	switch m := f.marker; {
	case m == 0xf7:
		return unsupported("the image is a JPEG-LS file, which is not supported" + instead)
	case m == 0xc9 || m == 0xca || m == 0xcb || m >= 0xcd:
		return unsupported("the image is a JPEG file with arithmetic coding, which is not supported" + instead)
	case m == 0xc3:
		return unsupported("the image is a lossless JPEG file, which is not supported" + instead)
	case m >= 0xc5 && m <= 0xc7:
		return unsupported("the image is a hierarchical JPEG file, which is not supported" + instead)
	case f.precision != 8:
		return unsupported(fmt.Sprintf("the image is a JPEG file with %d bits a sample, which is not supported%s",
			f.precision, instead))
	case f.height == 0 && f.width > 0:
		return unsupported(
			"the image is a JPEG file whose header does not say its height (DNL), which is not supported" +
				instead)
	case f.components == 2 || f.components > 4:
		return unsupported(fmt.Sprintf("the image is a JPEG file with %d components, which is not supported%s",
			f.components, instead))
	}
	return nil
}

// configJPEG is the config of a format.
func configJPEG(r io.Reader) (image.Config, error) {
	file, err := io.ReadAll(r)
	if err != nil {
		return image.Config{}, err
	}
	f, err := jpegHeader(file)
	if err == nil {
		err = f.check()
	}
	return image.Config{Width: f.width, Height: f.height, ColorModel: color.YCbCrModel}, err
}

// maxScanned is the largest number of pixels that the scans of a JPEG pass over. A scan of forty bytes may pass over
// all pixels and refine each; a file of nothing else keeps a decoder busy that cannot be stopped. The limit is 25 scans
// of the largest picture, which take some seconds, and 83 of one of 12 megapixels; encoders make about ten.
const maxScanned = 25 * MaxPixels

// jpegScans counts the scans up to the end of the picture. What follows the end may be a film, and what lies within
// segments a preview: their bytes look like scans, and are none.
func jpegScans(file []byte) int {
	scans := 0
	for at := 2; at+4 <= len(file); {
		marker := file[at+1]
		switch {
		case file[at] != 0xff: // data of a scan
			next := bytes.IndexByte(file[at:], 0xff)
			if next < 0 {
				return scans
			}
			at += next
			continue
		case marker == 0 || marker == 0xff || marker >= 0xd0 && marker <= 0xd7:
			at++ // data of a scan, filling, or a restart within a scan
			continue
		case marker == 0xd9:
			return scans
		case marker == 0xda:
			scans++
		}
		at += 2 + int(file[at+2])<<8 + int(file[at+3])
	}
	return scans
}

// lacksTables reports whether a JPEG has a component without a quantisation table up to the end of the picture. The
// decoder of the standard library takes such a table for zeros and returns a grey picture without faces.
func lacksTables(file []byte) bool {
	var tables, used [256]bool
	scans := false
	for at := 2; at+4 <= len(file); {
		marker := file[at+1]
		if file[at] != 0xff || marker == 0 || marker == 0xff || marker >= 0xd0 && marker <= 0xd8 || marker == 1 {
			at++
			continue
		}
		if marker == 0xd9 {
			break
		}
		n := max(int(file[at+2])<<8+int(file[at+3]), 2)
		body := file[at+4 : max(min(at+2+n, len(file)), at+4)]
		switch {
		case marker == 0xdb:
			for len(body) > 0 {
				tables[body[0]&15] = true
				body = body[min(1+64*(1+int(body[0]>>4)), len(body)):]
			}
		case marker == 0xda:
			scans = true
		case marker >= 0xc0 && marker <= 0xc2 && !scans: // within scans it would be a stray marker
			for c := 8; c < len(body); c += 3 {
				used[body[c]] = true
			}
		}
		at += 2 + n
	}
	for i, needed := range used {
		if needed && !tables[i] {
			return true
		}
	}
	return false
}

// jpegPerPixel counts the samples, and the coefficients that a progressive picture is kept as, by what is in the header
// of its frame.
func jpegPerPixel(file []byte, _ image.Config) int {
	const coefficient = 4 // bytes
	progressive, samples := true, 4
	if f, err := jpegHeader(file); err == nil {
		progressive, samples = f.progressive(), f.samples
	}
	each := samples
	if progressive {
		each += coefficient * samples
	}
	if samples >= 3 {
		each += samples + 1 // RGB and CMYK are put together in a copy
	}
	return each
}
