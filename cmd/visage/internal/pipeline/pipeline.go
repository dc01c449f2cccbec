// Package pipeline opens a model pack and its networks as the server does, for commands that process photos themselves.
package pipeline

import (
	"time"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/vision"
	"github.com/visage-face/visage/vision/pack"
)

// Open opens the model pack that cfg names, or the one that a server would use, for many photos at once: one processor
// for each photo gives the highest throughput.
func Open(cfg server.Config) (*vision.Pipeline, error) { return OpenTraced(cfg, 1, nil) }

// OpenTraced is Open for any number of processors for each photo, 0 for the service's default. trace gets the duration
// of each stage and may be nil.
func OpenTraced(cfg server.Config, threads int, trace func(vision.Stage, time.Duration)) (*vision.Pipeline, error) {
	p, err := OpenPack(cfg, pack.Open)
	if err != nil {
		return nil, err
	}
	return OpenNetworks(cfg, p, threads, trace)
}

// OpenPack opens the model pack that cfg names, or the one that a server would use, by pack.Open or
// pack.OpenToCalibrate.
func OpenPack(cfg server.Config, open func(dir string) (*pack.Pack, error)) (*pack.Pack, error) {
	dir := cfg.Dir
	if dir == "" {
		var err error
		if dir, err = server.DefaultDir(); err != nil {
			return nil, err
		}
	}
	folder, err := server.FindPack(cfg.Pack, dir)
	if err != nil {
		return nil, command.Hinted(err, "\"make setup\" creates the default pack; --pack names another one")
	}
	return open(folder)
}

// OpenNetworks loads the networks of a pack.
func OpenNetworks(
	cfg server.Config, p *pack.Pack, threads int, trace func(vision.Stage, time.Duration),
) (*vision.Pipeline, error) {
	library, err := server.FindLibrary(cfg.Library)
	if err != nil {
		return nil, command.Hinted(err, "\"make setup\" downloads the library")
	}
	return vision.Open(vision.Config{Pack: p, Library: library, Parallel: cfg.Parallel, Threads: threads, Trace: trace})
}
