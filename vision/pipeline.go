package vision

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/visage-face/visage/vision/internal/ort"
	"github.com/visage-face/visage/vision/internal/photo"
	"github.com/visage-face/visage/vision/internal/yunet"
	"github.com/visage-face/visage/vision/pack"
)

// Config says which models a Pipeline runs and how much of the machine it may use.
type Config struct {
	// Pack holds the networks; see pack.Open. Required.
	Pack *pack.Pack
	// Library is the path of the ONNX Runtime shared library. Required. All pipelines of a process share the first one.
	Library string
	// Parallel is how many photos are processed at the same time; further calls wait. It bounds memory. Default: the
	// number of processors.
	Parallel int
	// Limit bounds the photos in progress together with the other pipelines that share it; it must not exceed Parallel
	// of any of them. Default: a limit of this pipeline alone, of Parallel.
	Limit *Limit
	// Threads is how many processors a photo may use while it is the only one in progress; otherwise each photo uses
	// one, which gives the highest throughput. Default: the number of processors, at most 4; the networks are too small
	// to gain from more.
	Threads int
	// Trace, if set, is called with the duration of each stage of each Detect. Several goroutines may call it at once.
	Trace func(stage Stage, took time.Duration)
	// Warn, if set, is called with a defect in a photo that was still readable. The text contains no content of the
	// photo except numbers. Several goroutines may call it at once.
	Warn func(text string)
}

// Stage is a part of Detect, for Config.Trace.
type Stage string

// The stages, in the order in which they run.
const (
	StageDecode     Stage = "decode"
	StageDetect     Stage = "detect"
	StageLandmarks  Stage = "landmarks"
	StageAttributes Stage = "attributes"
	StageTemplate   Stage = "template"
)

// Pipeline runs one model pack. It is safe for concurrent use.
type Pipeline struct {
	pack         *pack.Pack
	detector     detector
	landmarker   *landmarker // nil when the pack has no landmarks; then the detector gives five points
	recogniser   *recogniser
	wearNetworks []wearer
	sessions     []*ort.Session
	limit        *Limit
	trace        func(Stage, time.Duration)
	warn         func(string)
	photos       *photo.Decoder

	fingerprint []float32
}

// Open loads the networks of cfg.Pack. The caller closes the pipeline.
func Open(cfg Config) (_ *Pipeline, err error) {
	switch {
	case cfg.Pack == nil:
		return nil, errors.New("open vision pipeline: Config.Pack is required")
	case cfg.Library == "":
		return nil, errors.New("open vision pipeline: Config.Library is required")
	}
	if cfg.Parallel < 1 {
		cfg.Parallel = runtime.NumCPU()
	}
	if cfg.Threads < 1 {
		cfg.Threads = min(runtime.NumCPU(), 4)
	}
	if cfg.Limit == nil {
		cfg.Limit = NewLimit(cfg.Parallel)
	}
	if cfg.Trace == nil {
		cfg.Trace = func(Stage, time.Duration) {}
	}
	if cfg.Warn == nil {
		cfg.Warn = func(string) {}
	}
	if err := ort.Load(cfg.Library); err != nil {
		return nil, fmt.Errorf("open vision pipeline: %w", err)
	}
	p := &Pipeline{
		pack: cfg.Pack, limit: cfg.Limit, trace: cfg.Trace, warn: cfg.Warn, photos: photo.NewDecoder(),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	m := cfg.Pack.Manifest()
	open := func(threads int, file, input string, outputs ...string) (*ort.Session, error) {
		s, err := ort.Open(ort.Config{
			Model: cfg.Pack.Path(file), Input: input, Outputs: outputs, Threads: threads,
			Runs: max(cfg.Parallel, cfg.Threads), Alone: cfg.Limit.alone,
		})
		if err != nil {
			return nil, fmt.Errorf("open model pack %s: %w", cfg.Pack.Name(), err)
		}
		p.sessions = append(p.sessions, s)
		return s, nil
	}
	if p.detector, err = newDetector(m.Detector, cfg, open); err != nil {
		return nil, err
	}
	if m.Landmarks != nil {
		s, err := open(cfg.Threads, m.Landmarks.File, m.Landmarks.Input.Name, m.Landmarks.Output)
		if err != nil {
			return nil, err
		}
		p.landmarker = &landmarker{*m.Landmarks, s}
	}
	s, err := open(cfg.Threads, m.Recogniser.File, m.Recogniser.Input.Name, m.Recogniser.Output)
	if err != nil {
		return nil, err
	}
	p.recogniser = &recogniser{m.Recogniser, s}
	for _, w := range m.Wear {
		s, err := open(cfg.Threads, w.File, w.Input.Name, w.Output)
		if err != nil {
			return nil, err
		}
		p.wearNetworks = append(p.wearNetworks, wearer{w, s})
	}
	if err := p.probe(context.Background()); err != nil {
		return nil, fmt.Errorf("open model pack %s: %w", cfg.Pack.Name(), err)
	}
	return p, nil
}

// newDetector returns the detector that a manifest describes.
func newDetector(
	about pack.Detector, cfg Config,
	open func(threads int, file, input string, outputs ...string) (*ort.Session, error),
) (detector, error) {
	switch about.Kind {
	case pack.SSD:
		s, err := open(cfg.Threads, about.File, about.Input.Name, "boxes", "scores")
		return &ssd{about, s}, err
	case pack.YuNet:
		s, err := open(cfg.Threads, about.File, about.Input.Name, yunet.Outputs()...)
		return &yuNet{about, s}, err
	case pack.MTCNN:
		var sessions [3]*ort.Session
		for i, n := range []struct {
			file, input string
			outputs     []string
		}{
			{about.File, about.Input.Name, proposed},
			{about.Stages[0].File, about.Stages[0].Input.Name, proposed},
			{about.Stages[1].File, about.Stages[1].Input.Name, decided},
		} {
			// The networks are so small that a single run gains little from several processors; several runs at once
			// gain more.
			var err error
			if sessions[i], err = open(1, n.file, n.input, n.outputs...); err != nil {
				return nil, err
			}
		}
		atOnce := func() int {
			if cfg.Limit.alone() {
				return cfg.Threads
			}
			return 1
		}
		return &mtcnn{about, atOnce, sessions[0], sessions[1], sessions[2]}, nil
	}
	return nil, fmt.Errorf("open vision pipeline: unknown kind of detector %q", about.Kind)
}

// Calibration says how often the faces of two strangers are as near as a distance, and so what a confidence stands for.
type Calibration = pack.Calibration

// Close waits for running calls and frees the networks. The pipeline cannot be used after that.
func (p *Pipeline) Close() error {
	err := p.photos.Close()
	for _, s := range p.sessions {
		err = errors.Join(err, s.Close())
	}
	return err
}

// Name returns the pack's name.
func (p *Pipeline) Name() string { return p.pack.Name() }

// Dim returns the length of the pack's templates.
func (p *Pipeline) Dim() int { return p.pack.Dim() }

// Supports returns the attributes that Detect can measure: those whose points and signs the pack has networks for.
func (p *Pipeline) Supports() Attributes {
	return where(func(a Attribute) bool {
		return (p.landmarker != nil || !a.points) && visible(a.signs, p.wearNetworks)
	})
}

// Confidence turns the cosine distance of two templates (0 same … 2 opposite) into the confidence that they are of one
// person, 0 to 1, falling as the distance grows. It is 0.5 where the pack accepts one in 1,000 pairs of strangers, in
// the worst group of people that its calibration tells apart.
func (p *Pipeline) Confidence(distance float64) float64 { return p.pack.Confidence(distance) }

// Threshold returns the confidence that at most 1 % of searches of a stranger reach in a group of a number of faces;
// never below 0.5.
func (p *Pipeline) Threshold(faces int) float64 { return p.pack.Threshold(faces) }

// Calibration returns what the confidences stand for, and how that was measured. It must not be changed.
func (p *Pipeline) Calibration() *Calibration { return p.pack.Calibration() }
