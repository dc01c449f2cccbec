// Package serve implements "visage serve", which starts the service.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/build"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/server"
)

// Command is "visage serve".
func Command() *cobra.Command {
	c := command.New("serve", "Start the service; the first start creates what it needs",
		"visage serve --listen 127.0.0.1:8443")
	settings.Define(c.Flags())
	console := c.Flags().Bool("console", false, "print an address at which a browser signs in to the console once")
	return command.Run(c, func(ctx context.Context, s command.Streams, _ []string) error {
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		return run(ctx, s, set, *console)
	})
}

func run(ctx context.Context, s command.Streams, set *settings.Settings, console bool) error {
	options := &slog.HandlerOptions{Level: set.LogLevel}
	var handler slog.Handler = slog.NewTextHandler(s.Err, options)
	if set.LogFormat == "json" {
		handler = slog.NewJSONHandler(s.Err, options)
	}
	set.Server.Logger, set.Server.Version = slog.New(handler), build.Version()
	srv, err := server.New(set.Server)
	if err != nil {
		return &command.Failure{Err: err, Code: command.ExitUsage, Hint: "\"visage help settings\" lists the settings"}
	}
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Run(ctx) }()
	select {
	case err := <-stopped:
		return ended(err)
	case <-srv.Ready():
	}
	set.Server.Logger.Info("serving", "endpoint", srv.Endpoint(), "operator_file", filepath.Join(srv.Dir(),
		server.OperatorFile))
	if console {
		address, err := srv.SignInAddress(ctx, "")
		if err != nil {
			set.Server.Logger.Warn("no address of the console", "err", err)
		} else {
			fmt.Fprintf(s.Out, "The console, once and within two minutes: %s\nLater: visage console\n", address)
		}
	}
	return ended(<-stopped)
}

// ended gives the end of the service its exit code.
func ended(err error) error {
	if _, refused := errors.AsType[*server.PINError](err); refused {
		return &command.Failure{Err: err, Code: command.ExitPIN, Hint: "put the right PIN into its file before you " +
			"start again: each start tries the PIN once, and tokens lock it after a few attempts"}
	}
	return err
}
