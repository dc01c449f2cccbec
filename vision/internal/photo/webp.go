package photo

import (
	"bytes"
	"encoding/binary"
	"image"
	"io"

	"golang.org/x/image/webp"
)

// webpPerPixel is perPixel for WebP, whose lossless sort keeps a second copy while it expands a palette. The alpha of
// the lossy sort is stored as a lossless picture.
func webpPerPixel([]byte, image.Config) int { return 9 }

// configWebP is the config of a format. Films are refused here, by their name.
func configWebP(r io.Reader) (image.Config, error) {
	file, err := io.ReadAll(r)
	if err != nil {
		return image.Config{}, err
	}
	const animated = 1 << 1 // in the flags of an extended header
	if len(file) > 20 && string(file[12:16]) == "VP8X" && file[20]&animated != 0 {
		return image.Config{}, unsupported("the image is an animated WebP file, which is not supported; " +
			"send one of its frames as a still image")
	}
	c, err := webp.DecodeConfig(bytes.NewReader(file))
	if err == nil {
		return c, nil
	}
	whole, _, lost := relength(file)
	if lost != nil {
		return c, lost
	}
	return webp.DecodeConfig(bytes.NewReader(whole))
}

// readWebP decodes the picture. Where the lengths in the file are not those of its parts, and where its last bytes are
// missing, it is decoded once more with the right lengths, and with zeros in their place.
func readWebP(file []byte) (image.Image, string, error) {
	m, first := webp.Decode(bytes.NewReader(file))
	if first == nil {
		return m, "", nil
	}
	whole, note, err := relength(file)
	if err != nil {
		return nil, "", err
	}
	if m, err := webp.Decode(bytes.NewReader(whole)); err == nil {
		if note == "" {
			note = "WebP file with a wrong length"
		}
		return m, note, nil
	}
	return nil, "", first
}

// relength returns a file whose length is that of its parts; what they lack is zero. The note says how much that is.
func relength(file []byte) (whole []byte, note string, err error) {
	const start, head = 12, 8 // of the file and of a chunk
	end := int64(start)
	for end+head <= int64(len(file)) {
		n := int64(binary.LittleEndian.Uint32(file[end+4:]))
		end += head + n + n%2
	}
	note, err = lacking("WebP", int(min(end, 1<<30))-len(file), int(min(end, 1<<30)))
	if err != nil {
		return nil, "", err
	}
	whole = make([]byte, max(end, int64(len(file))))
	copy(whole, file)
	binary.LittleEndian.PutUint32(whole[4:], uint32(len(whole)-head))
	return whole, note, nil
}
