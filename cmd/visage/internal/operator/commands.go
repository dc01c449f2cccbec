package operator

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
)

// Show makes c a command that sends a request to the running server and shows the answer: as a table that fill fills,
// or as JSON.
func Show[T any](
	c *cobra.Command, run func(context.Context, *Client, []string) (T, error), fill func(*command.Table, T),
) *cobra.Command {
	return Judge(c, run, fill, func(T) error { return nil })
}

// Judge makes c a command like Show whose answer, once it is shown, may be a failure of the command.
func Judge[T any](
	c *cobra.Command, run func(context.Context, *Client, []string) (T, error), fill func(*command.Table, T),
	verdict func(T) error,
) *cobra.Command {
	settings.Define(c.Flags(), "dir")
	output := command.DefineOutput(c)
	return command.Run(c, func(ctx context.Context, s command.Streams, operands []string) error {
		form, err := output.Form()
		if err != nil {
			return err
		}
		answer, err := ask(ctx, c, s, operands, run)
		if err != nil {
			return err
		}
		if form == "json" {
			err = command.WriteJSON(s.Out, answer)
		} else {
			var t command.Table
			fill(&t, answer)
			err = t.Write(s.Out)
		}
		if err != nil {
			return err
		}
		return verdict(answer)
	})
}

// Do makes c a command that changes the running server and shows nothing. It accepts --output like all commands that
// use a server, for scripts that always set it.
func Do(c *cobra.Command, run func(context.Context, *Client, []string) error) *cobra.Command {
	settings.Define(c.Flags(), "dir")
	output := command.DefineOutput(c)
	return command.Run(c, func(ctx context.Context, s command.Streams, operands []string) error {
		if _, err := output.Form(); err != nil {
			return err
		}
		_, err := ask(ctx, c, s, operands, func(ctx context.Context, o *Client, operands []string) (struct{}, error) {
			return struct{}{}, run(ctx, o, operands)
		})
		return err
	})
}

// ask runs a command against the server that its flags name.
func ask[T any](
	ctx context.Context, c *cobra.Command, s command.Streams, operands []string,
	run func(context.Context, *Client, []string) (T, error),
) (answer T, err error) {
	dir, err := settings.Dir(c.Flags())
	if err != nil {
		return answer, err
	}
	o, err := Dial(dir)
	if err != nil {
		return answer, err
	}
	o.notes = s.Err
	answer, err = run(ctx, o, operands)
	name := ""
	if len(operands) > 0 {
		name = operands[0]
	}
	return answer, Advise(err, name)
}
