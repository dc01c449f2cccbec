package main

import (
	"context"
	"flag"
	"log/slog"
	"path/filepath"

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
	set.server.Logger.Info("serving", "endpoint", srv.Endpoint(), "operator_file", filepath.Join(srv.Dir(),
		server.OperatorFile))
	return <-stopped
}
