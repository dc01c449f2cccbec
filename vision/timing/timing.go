// Package timing measures how long a pipeline takes for a photo, stage by stage, and how many photos a second it
// processes.
//
// Compared measurements take turns within one run, so that other load on the machine affects all alike.
package timing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/visage-face/visage/vision"
)

// Config describes a measurement.
type Config struct {
	// Open opens the pipeline, which reports the duration of stages to trace. Required. Run closes the pipeline.
	Open func(trace func(vision.Stage, time.Duration)) (*vision.Pipeline, error)
	// Pictures are the photos to process. Required.
	Pictures Pictures
	// Rounds is how often everything is measured; medians count. Default: 15.
	Rounds int
	// Clients is how many callers keep the pipeline busy at the same time. Default: 8.
	Clients int
	// Photos is how many photos these callers send in all, of each size. Default: 200.
	Photos int
	// Baseline is the baseline for the small photo; nil for none.
	Baseline *Baseline
	// Progress, if set, is called with the name of the next measurement.
	Progress func(what string)
}

// Stages are the parts of a Detect in the order they run.
var Stages = [...]vision.Stage{
	vision.StageDecode, vision.StageDetect, vision.StageLandmarks, vision.StageAttributes, vision.StageTemplate,
}

// Photo is the durations of one call of Detect for a photo: medians of all rounds.
type Photo struct {
	Whole time.Duration
	Stage map[vision.Stage]time.Duration
}

// Result is the result of a measurement.
type Result struct {
	Small, Large Photo
	// Baseline is the median of the baseline's rounds; 0 without one.
	Baseline time.Duration
	// SmallRate and LargeRate are photos a second with Config.Clients callers.
	SmallRate, LargeRate float64
	Clients              int
	// PeakMemory is the largest resident memory of this process in bytes; 0 where the system has no such figure.
	PeakMemory int64
}

// clock collects the durations of the pipeline's stages.
type clock struct {
	mu sync.Mutex
	by map[vision.Stage][]time.Duration
}

func (c *clock) trace(stage vision.Stage, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by[stage] = append(c.by[stage], took)
}

// take returns the collected durations and resets the clock.
func (c *clock) take() map[vision.Stage]time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	sums := make(map[vision.Stage]time.Duration)
	for stage, all := range c.by {
		for _, d := range all {
			sums[stage] += d
		}
	}
	clear(c.by)
	return sums
}

// series is the rounds of one photo.
type series struct {
	whole []time.Duration
	stage map[vision.Stage][]time.Duration
}

func (s *series) median() Photo {
	p := Photo{Whole: Median(s.whole), Stage: make(map[vision.Stage]time.Duration)}
	for stage, all := range s.stage {
		p.Stage[stage] = Median(all)
	}
	return p
}

// Median returns the middle one; of an even number, the lower of the two in the middle; of none, 0.
func Median(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(times))[(len(times)-1)/2]
}

// Run measures. Photos without a face are an error, because their durations would be meaningless.
func Run(ctx context.Context, cfg Config) (_ Result, err error) {
	defaults := func(n *int, value int) {
		if *n < 1 {
			*n = value
		}
	}
	defaults(&cfg.Rounds, 15)
	defaults(&cfg.Clients, 8)
	defaults(&cfg.Photos, 200)
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	stages := &clock{by: make(map[vision.Stage][]time.Duration)}
	cfg.Progress("opening the model pack")
	pipeline, err := cfg.Open(stages.trace)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, pipeline.Close()) }()
	forgetPeak()

	want := vision.Want{Landmarks: true, Templates: true, Attributes: pipeline.Supports() & vision.Quality}
	detect := func(photo []byte) error {
		found, err := pipeline.Detect(ctx, photo, want)
		if err == nil && len(found.Faces) == 0 {
			err = errors.New("no face was found on the photo; give one that shows a face in its middle")
		}
		return err
	}
	timed := func(photo []byte, into *series) error {
		stages.take()
		start := time.Now()
		if err := detect(photo); err != nil {
			return err
		}
		into.whole = append(into.whole, time.Since(start))
		for stage, took := range stages.take() {
			into.stage[stage] = append(into.stage[stage], took)
		}
		return nil
	}
	small, large := series{stage: map[vision.Stage][]time.Duration{}}, series{stage: map[vision.Stage][]time.Duration{}}
	var baseline []time.Duration
	cfg.Progress(fmt.Sprintf("measuring single photos, %d rounds", cfg.Rounds))
	for round := -2; round < cfg.Rounds; round++ { // the first two warm up
		if round == 0 {
			small, large = series{stage: map[vision.Stage][]time.Duration{}},
				series{stage: map[vision.Stage][]time.Duration{}}
		}
		for range 3 { // short measurements fit into quiet moments more easily
			if err := timed(cfg.Pictures.Small, &small); err != nil {
				return Result{}, err
			}
		}
		if err := timed(cfg.Pictures.Large, &large); err != nil {
			return Result{}, err
		}
		if cfg.Baseline != nil && round >= 0 {
			took, err := cfg.Baseline.Round()
			if err != nil {
				return Result{}, err
			}
			baseline = append(baseline, took)
		}
	}
	r := Result{Small: small.median(), Large: large.median(), Baseline: Median(baseline), Clients: cfg.Clients}
	for _, rate := range []struct {
		name  string
		photo []byte
		to    *float64
	}{{"small", cfg.Pictures.Small, &r.SmallRate}, {"large", cfg.Pictures.Large, &r.LargeRate}} {
		cfg.Progress(fmt.Sprintf("measuring %d %s photos of %d clients", cfg.Photos, rate.name, cfg.Clients))
		if *rate.to, err = busy(cfg.Clients, cfg.Photos, func() error { return detect(rate.photo) }); err != nil {
			return Result{}, err
		}
		stages.take()
	}
	r.PeakMemory = peakMemory()
	return r, nil
}

// busy has clients call do n times in all, and returns the calls per second.
func busy(clients, n int, do func() error) (float64, error) {
	var next atomic.Int64
	var all sync.WaitGroup
	failed := make([]error, clients)
	start := time.Now()
	for i := range clients {
		all.Go(func() {
			for failed[i] == nil && int(next.Add(1)) <= n {
				failed[i] = do()
			}
		})
	}
	all.Wait()
	return float64(n) / time.Since(start).Seconds(), errors.Join(failed...)
}
