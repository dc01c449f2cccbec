// Package health implements "visage health", with which supervisors of containers ask whether the server is well.
package health

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
)

// patience is how long the server may take to answer.
const patience = 10 * time.Second

// Command is "visage health".
func Command() *cobra.Command {
	c := command.New("health", "Show whether the server accepts requests", "visage health --dir /var/lib/visage")
	c.Long = "Show the answer of the server's /readyz, and fail unless it accepts requests: for the health checks of " +
		"containers, which need no other program for this. With --alive the process alone is asked (/healthz)."
	settings.Define(c.Flags(), "dir")
	alive := c.Flags().Bool("alive", false, "ask only whether the process runs")
	return command.Run(c, func(ctx context.Context, s command.Streams, _ []string) error {
		dir, err := settings.Dir(c.Flags())
		if err != nil {
			return err
		}
		client, err := operator.Dial(dir)
		if err != nil {
			return err
		}
		page := "/readyz"
		if *alive {
			page = "/healthz"
		}
		return ask(ctx, s, client, page)
	})
}

// ask shows a page, and fails with any status but 200.
func ask(ctx context.Context, s command.Streams, client *operator.Client, page string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, client.Operator.Endpoint+page, nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	res, answer, err := client.Send(req)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the server does not accept requests: %s answers %s: %s", page, res.Status, answer)
	}
	_, err = s.Out.Write(answer)
	return err
}
