package vision

import (
	"context"
	"errors"
	"time"

	"github.com/visage-face/visage/vision/pack"
)

// Config says which models a Pipeline runs and with how much of the machine.
type Config struct {
	// Pack holds the networks; see pack.Open. Required.
	Pack *pack.Pack
	// Library is the path of the ONNX Runtime shared library. Required. All pipelines of a process share the first one.
	Library string
	// Parallel is how many photos are worked on at the same time; further calls wait their turn. It bounds memory.
	// Default: the number of processors.
	Parallel int
	// Trace, if set, is told how long each stage of each Detect took. It may be called from several goroutines at once.
	Trace func(stage Stage, took time.Duration)
}

// Stage is a part of Detect's work, for Config.Trace.
type Stage string

// The stages, in the order they run.
const (
	StageDecode     Stage = "decode"
	StageDetect     Stage = "detect"
	StageLandmarks  Stage = "landmarks"
	StageAttributes Stage = "attributes"
	StageTemplate   Stage = "template"
)

// Pipeline runs one model pack. It is safe for concurrent use.
type Pipeline struct {
	pack *pack.Pack
}

// Open loads the networks of cfg.Pack. The caller closes the pipeline.
func Open(cfg Config) (*Pipeline, error) {
	return nil, errors.New("open vision pipeline: not wired yet")
}

// Close waits for running calls and frees the networks. The pipeline cannot be used afterwards.
func (p *Pipeline) Close() error { return nil }

// Name returns the pack's name.
func (p *Pipeline) Name() string { return p.pack.Name() }

// Dim returns the length of the pack's templates.
func (p *Pipeline) Dim() int { return p.pack.Dim() }

// Supports returns the attributes that Detect can give.
func (p *Pipeline) Supports() Attributes { return HeadPose | Blur | Exposure | Noise | Quality }

// Confidence turns the cosine distance of two templates (0 same … 2 opposite) into the confidence that they are of one
// person, 0 to 1, falling as the distance grows. It is 0.5 where the pack accepts one in 1,000 pairs of strangers.
func (p *Pipeline) Confidence(distance float64) float64 { return p.pack.Confidence(distance) }

// Detect finds the faces on a photo (the bytes of a JPEG, PNG, GIF, BMP or WebP file) and what want asks for.
//
// A photo without faces is an empty list and no error. Errors: *ImageError when the photo cannot be used,
// *UnsupportedError when want asks for what the pack cannot give, ctx's cause when ctx ends first; anything else is a
// failure of ours.
func (p *Pipeline) Detect(ctx context.Context, photo []byte, want Want) (*Photo, error) {
	return nil, errors.New("detect faces: not wired yet")
}
