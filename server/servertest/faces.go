package servertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"image"
	"image/jpeg"
	"image/png"
	"maps"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/visage-face/visage/vision"
)

// Faces is a recogniser of made-up people: who is on a photo that Photo made is written in it. Two photos of one person
// give templates that are near each other and not equal, two people's are far apart. Any other bytes are an image that
// cannot be used.
type Faces struct{}

const (
	dim  = 128
	side = 100 // of a face, in pixels
)

var trailer = []byte("\nfaces:")

// Photo makes a photo of people, by name, as the bytes of a PNG file of at least 1 KB. Photos of the same people that
// differ in take are different photos. A name holds no comma.
func Photo(take int, people ...string) []byte {
	picture := image.NewGray(image.Rect(0, 0, max(1, len(people))*2*side, 2*side))
	random := rand.New(rand.NewPCG(uint64(take), 1))
	for i := range picture.Pix {
		picture.Pix[i] = uint8(random.Uint32())
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		panic("encode a picture in memory: " + err.Error())
	}
	b.Write(trailer) // after the end of the picture, where decoders do not look
	b.WriteString(strings.Join(people, ","))
	return b.Bytes()
}

// Name implements face.Recogniser.
func (Faces) Name() string { return "made-up" }

// Dim implements face.Recogniser.
func (Faces) Dim() int { return dim }

// Supports implements face.Recogniser.
func (Faces) Supports() vision.Attributes {
	return vision.HeadPose | vision.Blur | vision.Exposure | vision.Noise | vision.Quality
}

// Confidence implements face.Recogniser: 0.5 at a distance of 0.5.
func (Faces) Confidence(distance float64) float64 { return max(0, min(1, 1-distance)) }

// Threshold implements face.Recogniser.
func (Faces) Threshold(int) float64 { return 0.5 }

// mostBytes is the length of the longest photo, as the contract has it.
const mostBytes = 6 << 20

// Detect implements face.Recogniser.
func (Faces) Detect(ctx context.Context, photo []byte, want vision.Want) (*vision.Photo, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if len(photo) > mostBytes {
		return nil, &vision.ImageError{Kind: vision.TooManyBytes, Message: "the photo is longer than 6 MB"}
	}
	config, err := png.DecodeConfig(bytes.NewReader(photo))
	at := bytes.LastIndex(photo, trailer)
	if err != nil || at < 0 {
		return nil, &vision.ImageError{
			Kind: vision.UnknownFormat, Message: "the bytes are not a photo of made-up people",
		}
	}
	found := &vision.Photo{Width: config.Width, Height: config.Height}
	names := string(photo[at+len(trailer):])
	if names == "" {
		return found, nil
	}
	people := strings.Split(names, ",")
	chosen := make([]int, len(people))
	for i := range people {
		chosen[i] = i
		box := vision.Box{Left: i*2*side + side/2, Top: side / 2, Width: side, Height: side}
		found.Faces = append(found.Faces, vision.Face{Score: 1, Box: box})
	}
	if want.Select != nil {
		chosen = want.Select(found.Faces)
	}
	for _, i := range chosen {
		fill(&found.Faces[i], want, people[i], photo)
	}
	return found, nil
}

// Preview returns the picture of a photo; it is small already.
func (Faces) Preview(_ context.Context, photo []byte, _ int) (*vision.Preview, error) {
	picture, err := png.Decode(bytes.NewReader(photo))
	if err != nil || !bytes.Contains(photo, trailer) {
		return nil, &vision.ImageError{
			Kind: vision.UnknownFormat, Message: "the bytes are not a photo of made-up people",
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, picture, nil); err != nil {
		return nil, err
	}
	return &vision.Preview{JPEG: b.Bytes(), Width: picture.Bounds().Dx(), Height: picture.Bounds().Dy()}, nil
}

// fill gives a face what was asked for.
func fill(f *vision.Face, want vision.Want, name string, photo []byte) {
	if want.Landmarks {
		middle := vision.Point{X: float64(f.Box.Left) + side/2, Y: float64(f.Box.Top) + side/2}
		f.Landmarks = &vision.Landmarks{PupilLeft: middle, PupilRight: middle, NoseTip: middle}
	}
	f.Attributes = vision.Measured{
		vision.HeadPose: vision.Pose{},
		vision.Blur:     vision.Level{Name: "medium", Value: 0.5},
		vision.Exposure: vision.Level{Name: "goodExposure", Value: 0.5},
		vision.Noise:    vision.Level{Name: "medium", Value: 0.5},
		vision.Quality:  vision.High,
	}
	if want.Attributes == 0 {
		f.Attributes = nil
	}
	maps.DeleteFunc(f.Attributes, func(a vision.Attributes, _ any) bool { return want.Attributes&a == 0 })
	if want.Templates {
		f.Template = template(name, photo)
	}
}

// template is a direction of the person's own, with a little of the photo's.
func template(name string, photo []byte) []float32 {
	person, taken := direction([]byte(name)), direction(photo)
	var sum float64
	for i := range person {
		person[i] += 0.3 * taken[i]
		sum += person[i] * person[i]
	}
	t := make([]float32, dim)
	for i := range t {
		t[i] = float32(person[i] / math.Sqrt(sum))
	}
	return t
}

// direction returns a vector of unit length that seed alone decides.
func direction(seed []byte) []float64 {
	digest := sha256.Sum256(seed)
	random := rand.New(rand.NewPCG(binary.LittleEndian.Uint64(digest[:]), binary.LittleEndian.Uint64(digest[8:])))
	v := make([]float64, dim)
	var sum float64
	for i := range v {
		v[i] = random.NormFloat64()
		sum += v[i] * v[i]
	}
	for i := range v {
		v[i] /= math.Sqrt(sum)
	}
	return v
}
