package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"github.com/visage-face/visage/server"
)

func serveCommand() command {
	c := command{
		name: "serve", summary: "Start the service. The first start makes everything it needs.",
		example: "visage serve --listen 127.0.0.1:8443",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		given := defineSettings(fs)
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) > 0 {
				return usage(&c, "takes no arguments, and was given %q", args[0])
			}
			set, err := given.load()
			if err != nil {
				return hintUsage(err, &c)
			}
			return runServe(ctx, s, set)
		}
	}
	return c
}

// hintUsage points from a mistake in the settings to the list of them.
func hintUsage(err error, c *command) error {
	return hinted(err, "\"visage help %s\" lists the settings", c.name)
}

func runServe(ctx context.Context, s streams, set *settings) error {
	options := &slog.HandlerOptions{Level: set.logLevel}
	var handler slog.Handler = slog.NewTextHandler(s.err, options)
	if set.logFormat == "json" {
		handler = slog.NewJSONHandler(s.err, options)
	}
	set.server.Logger = slog.New(handler)
	srv, err := server.New(set.server)
	if err != nil {
		return &failure{err: err, code: exitUsage, hint: "\"visage help serve\" lists the settings"}
	}
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Run(ctx) }()
	select {
	case err := <-stopped:
		return err
	case <-srv.Ready():
	}
	defer runtime.KeepAlive(ballast())
	set.server.Logger.Info("serving", "endpoint", srv.Endpoint(), "operator_file", filepath.Join(srv.Dir(),
		server.OperatorFile))
	return <-stopped
}

// ballastBytes is memory that is never touched, so that none of it is resident, and that the collector takes for alive:
// 96 MiB more of garbage grow before it collects, as garbage says. What lives while people are identified is 8 MB.
// Without ballast a collection came every 360 requests or so, and those that met one, several at a time on a machine
// with two processors, were the slowest hundredth; now it comes every 1,500, and the 99th percentile is lower by 15 to
// 50 %. More is no better: with no collection at all each request pays for pages that were never used before.
const ballastBytes = 24 << 20

// ballast returns it, unless whoever runs the program has decided how much is collected when. It is for after the
// start, so that the garbage of the start does not stay resident.
func ballast() []byte {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return nil
	}
	return make([]byte, ballastBytes)
}
