// Package drill implements "visage drill": it rehearses the revocation of a customer-managed key on a copy of the
// running server.
package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/server/drill"
)

// Command is "visage drill".
func Command() *cobra.Command {
	return command.Noun("drill", "Rehearse the revocation of a customer-managed key", revoke())
}

func revoke() *cobra.Command {
	c := command.New("revoke NAME", "Rehearse the revocation of a resource's key on a copy of the running server",
		"visage drill revoke vip --report drill.json")
	c.Long = "Rehearse the revocation of a resource's key on a copy of the running server, and report what " +
		"happened. The running server and its data stay as they are. With --rehearsal-key, the copy is moved to a " +
		"key in a store elsewhere first, and the command says how its holder takes the access to it away and gives " +
		"it back, waits for each, and measures. The resource's own key closes the running server too."
	settings.Define(c.Flags(), "dir", "store", "store-password-file", "epoch-keys", "epoch-keys-secret-file",
		"root-key", "domain", "azure-tenant",
		"azure-client", "azure-secret-file", "azure-resources", "key-stores", "federation-issuer")
	output := command.DefineOutput(c)
	key := c.Flags().String("rehearsal-key", "", "`KEY` in a store elsewhere that its holder revokes during the "+
		"rehearsal (default: none)")
	wait := c.Flags().Duration("wait", 15*time.Minute, "how long the holder of that key is waited for, each time")
	file := c.Flags().String("report", "", "`FILE` to write the report to as JSON (default: none)")
	operator.Complete(c, operator.Resources)
	return command.Run(c, func(ctx context.Context, s command.Streams, operands []string) error {
		form, err := output.Form()
		if err != nil {
			return err
		}
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		if set.Server.Dir, err = set.Dir(); err != nil {
			return err
		}
		if *wait <= 0 {
			return command.Hinted(fmt.Errorf("the duration %s of --wait is not positive", *wait),
				"leave it out for 15m")
		}
		d, err := rehearse(ctx, s.Err, set.Server, drill.Plan{Resource: operands[0], Key: *key, Wait: *wait})
		if err != nil {
			return err
		}
		return d.tell(s.Out, *file, form)
	})
}

// report is a report as the command shows it.
type report struct{ *drill.Report }

func (d report) tell(w io.Writer, file, output string) error {
	b, err := json.MarshalIndent(d.Report, "", "  ")
	if err != nil {
		return err
	}
	if file != "" {
		if err := durable.WriteFile(file, append(b, '\n')); err != nil {
			return err
		}
	}
	if output == "json" {
		fmt.Fprintln(w, string(b))
	} else if err := d.table().Write(w); err != nil {
		return err
	}
	if !d.Passed {
		return &command.Failure{Err: errors.New("the revocation did not have all the effects it must have"),
			Code: command.ExitFailure, Hint: "the lines that begin with FAILED say what is missing"}
	}
	return nil
}

// table formats the report for people.
func (d report) table() *command.Table {
	var t command.Table
	t.Line("rehearsed on a copy of %d rows: %s", d.Rows, d.Road)
	for _, l := range d.Checks {
		mark := "ok"
		if !l.Held {
			mark = "FAILED"
		}
		t.Row(mark, l.What+ifAny(": ", l.Said))
	}
	return &t
}

func ifAny(before, s string) string {
	if s == "" {
		return ""
	}
	return before + s
}

// rehearse rehearses the revocation of the key of a resource on a copy of the server of a directory.
func rehearse(ctx context.Context, notes io.Writer, cfg server.Config, plan drill.Plan) (report, error) {
	name := plan.Resource
	live, err := operator.Dial(cfg.Dir)
	if err != nil {
		return report{}, err
	}
	var now armwire.Account
	if err := live.Manage(ctx, http.MethodGet, operator.Path(name), nil, &now); err != nil {
		return report{}, operator.Advise(err, name)
	}
	if e := now.Properties.Encryption; e == nil || e.Key == nil {
		return report{}, command.Hinted(fmt.Errorf("the data of %q is encrypted with the service's key: "+
			"there is nothing to revoke", name),
			"\"visage cmk enable %s\" encrypts it with a customer-managed key", name)
	}
	room, err := drill.New(drill.Config{Dir: cfg.Dir, Copies: server.Copies(cfg, live.Origin)})
	if err != nil {
		return report{}, err
	}
	plan.Ask = func(do drill.Deed, commands []string) {
		what := "take the access to the rehearsal key away"
		if do == drill.GiveBack {
			what = "give the access to the rehearsal key back"
		}
		if len(commands) == 0 {
			fmt.Fprintf(notes, "visage: %s now, in its store (docs/operations/key-stores.md has the commands)\n", what)
			return
		}
		fmt.Fprintf(notes, "visage: %s now, in its store:\n", what)
		for _, line := range commands {
			fmt.Fprintln(notes, "    "+line)
		}
	}
	plan.Waiting = func(waited, limit time.Duration) {
		fmt.Fprintf(notes, "visage: waiting for the store since %s, at most %s\n", waited, limit)
	}
	done, err := room.Run(ctx, source{live}, plan, func(s drill.Step) {
		switch s {
		case drill.StepBackup:
			fmt.Fprintln(notes, "visage: copying the server")
		case drill.StepMove:
			fmt.Fprintln(notes, "visage: moving the copy to the rehearsal key")
		case drill.StepStart:
			fmt.Fprintln(notes, "visage: rehearsing")
		}
	})
	if err != nil && plan.Key != "" {
		return report{}, command.Hinted(err, "\"visage cmk check %s --key %s\" says what the rehearsal key lacks", name,
			plan.Key)
	}
	if err != nil {
		return report{}, err
	}
	return report{done}, nil
}

// source copies the running server through its management plane.
type source struct{ live *operator.Client }

// Backup implements drill.Source.
func (s source) Backup(ctx context.Context, read func(io.Reader) error) error {
	return s.live.Stream(ctx, "backup", read)
}

// Keyring implements drill.Source.
func (s source) Keyring(ctx context.Context, read func(io.Reader) error) error {
	return s.live.Stream(ctx, "keyring", read)
}
