// Package drill implements "visage drill": it rehearses the revocation of a customer-managed key on a copy of the
// running server.
package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/backup"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/cmd/visage/internal/vault"
	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/keysource/azure"
	"github.com/visage-face/visage/sealed/archive"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/vision"
)

// drill is the result of a rehearsal of a revocation.
type drill struct {
	Resource  string      `json:"resource"`
	Key       string      `json:"key"`
	Began     time.Time   `json:"began"`
	Backup    string      `json:"backup"` // the backup that the copy was made from
	Rows      int64       `json:"rows"`
	Road      string      `json:"road"`      // how access was removed
	ToRefusal string      `json:"toRefusal"` // from there to the first refusal of a data operation
	ToOpen    string      `json:"toOpen"`    // from restoring access to the first answer
	Checks    []drillLine `json:"checks"`
	Passed    bool        `json:"passed"`
}

type drillLine struct {
	What string `json:"what"`
	Held bool   `json:"held"`
	Said string `json:"said,omitempty"`
}

func (d *drill) check(held bool, said, format string, args ...any) {
	d.Checks = append(d.Checks, drillLine{fmt.Sprintf(format, args...), held, said})
	d.Passed = d.Passed && held
}

// Command is "visage drill".
func Command() *cobra.Command {
	return command.Noun("drill", "Rehearse the revocation of a customer-managed key", revoke())
}

func revoke() *cobra.Command {
	c := command.New("revoke NAME", "Rehearse the revocation of a resource's key on a copy of the running server",
		"visage drill revoke vip --report drill.json")
	c.Long = "Rehearse the revocation of a resource's key on a copy of the running server, and report what " +
		"happened. The running server and its data stay as they are."
	settings.Define(c.Flags(), "dir", "root-key", "domain", "azure-tenant", "azure-client", "azure-secret-file")
	output := command.DefineOutput(c)
	report := c.Flags().String("report", "", "`FILE` to write the report to as JSON (default: none)")
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
		d, err := rehearse(ctx, s.Err, set.Server, operands[0])
		if err != nil {
			return err
		}
		return d.tell(s.Out, *report, form)
	})
}

func (d *drill) tell(w io.Writer, report, output string) error {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	if report != "" {
		if err := durable.WriteFile(report, append(b, '\n')); err != nil {
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
func (d *drill) table() *command.Table {
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

// rehearse copies the server of a directory into a temporary one, and there removes access to the key of a resource.
func rehearse(ctx context.Context, notes io.Writer, cfg server.Config, name string) (d *drill, err error) {
	live, err := operator.Dial(cfg.Dir)
	if err != nil {
		return nil, err
	}
	d = &drill{Resource: name, Began: time.Now().UTC(), Passed: true}
	var now armwire.Account
	if err := live.Manage(ctx, http.MethodGet, operator.Path(name), nil, &now); err != nil {
		return nil, operator.Advise(err, name)
	}
	e := now.Properties.Encryption
	if e == nil || e.Key == nil {
		return nil, command.Hinted(fmt.Errorf("the data of %q is encrypted with the service's key: "+
			"there is nothing to revoke", name),
			"\"visage cmk enable %s\" encrypts it with a customer-managed key", name)
	}
	if e.Status != nil {
		d.Key = e.Status.Key
	}
	dir, err := os.MkdirTemp("", "visage-drill-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Fprintln(notes, "visage: copying the server")
	rehearsal, err := d.copyServer(ctx, live, cfg, dir)
	if err != nil {
		return nil, fmt.Errorf("make a copy of the server: %w", err)
	}
	fmt.Fprintln(notes, "visage: rehearsing")
	return d, d.run(ctx, rehearsal)
}

// copyServer makes the data of a second server from a backup and a keyring of the first.
func (d *drill) copyServer(
	ctx context.Context, live *operator.Client, cfg server.Config, dir string,
) (server.Config, error) {
	a, err := archive.Open(filepath.Join(dir, "archive"))
	if err != nil {
		return cfg, err
	}
	var added archive.Added
	err = live.Stream(ctx, "backup", func(r io.Reader) (err error) {
		added, err = a.Add(ctx, r)
		return err
	})
	if err != nil {
		return cfg, err
	}
	d.Backup, d.Rows = added.Name, added.Rows
	ring := filepath.Join(dir, "keyring")
	_, err = backup.ExportKeyring(ctx, ring,
		func(ctx context.Context, operation string, _ backup.Writer, read func(io.Reader) error) error {
			return live.Stream(ctx, operation, read)
		})
	if err != nil {
		return cfg, err
	}
	keys, err := os.Open(ring)
	if err != nil {
		return cfg, err
	}
	defer keys.Close()
	rehearsal := server.Config{
		Dir: filepath.Join(dir, "copy"), Listen: "127.0.0.1:0", Domain: live.Origin.Hostname(), Recogniser: blind{},
		RootKeys: cfg.RootKeys, Rate: 100_000,
		// a copy uses the same key vaults
		AzureTenant: cfg.AzureTenant, AzureClient: cfg.AzureClient, AzureSecretFile: cfg.AzureSecretFile,
		Logger: slog.New(slog.DiscardHandler),
	}
	if len(rehearsal.RootKeys) == 0 {
		rehearsal.RootKeys = []string{"file:" + filepath.Join(cfg.Dir, "keys", "root.key")}
	}
	if rehearsal.PublicPort, err = strconv.Atoi(live.Origin.Port()); err != nil {
		return cfg, err
	}
	return rehearsal, server.Restore(ctx, rehearsal, keys, a.Read(added.Backup))
}

// blind recognises nothing: a rehearsal has no photos.
type blind struct{}

// The methods of blind implement face.Recogniser.
func (blind) Name() string                { return "none" }
func (blind) Dim() int                    { return 128 }
func (blind) Supports() vision.Attributes { return 0 }
func (blind) Confidence(float64) float64  { return 0 }
func (blind) Threshold(int) float64       { return 0.5 }
func (blind) Detect(context.Context, []byte, vision.Want) (*vision.Photo, error) {
	return nil, errors.New("a rehearsal does not process photos")
}

// run starts the copy, removes access to the key and restores it.
func (d *drill) run(ctx context.Context, cfg server.Config) error {
	srv, err := server.New(cfg)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(running) }()
	defer func() { stop(); <-ended }()
	select {
	case err := <-ended:
		ended <- nil
		return fmt.Errorf("start the copy: %w", err)
	case <-srv.Ready():
	}
	c, err := operator.Dial(srv.Dir())
	if err != nil {
		return err
	}
	var keys armwire.AccountKeys
	if err := c.Manage(ctx, http.MethodPost, operator.Path(d.Resource)+"/listKeys", nil, &keys); err != nil {
		return err
	}
	data := drillClient{c, keys.Key1}
	if _, err := data.until(ctx, http.StatusOK); err != nil {
		return fmt.Errorf("the copy does not open: %w", err)
	}
	before, err := data.groups(ctx)
	if err != nil {
		return err
	}
	take, giveBack := d.road(ctx, c)
	begin := time.Now()
	if err := take(); err != nil {
		return fmt.Errorf("remove access to the key: %w", err)
	}
	said, err := data.until(ctx, http.StatusForbidden)
	d.ToRefusal = time.Since(begin).Round(time.Millisecond).String()
	d.check(err == nil && time.Since(begin) < time.Minute, said,
		"data operations were refused %s after access was removed (limit 60 s)", d.ToRefusal)
	if err != nil {
		return nil
	}
	var now armwire.Account
	err = c.Manage(ctx, http.MethodGet, operator.Path(d.Resource), nil, &now)
	d.check(err == nil && now.Properties.Encryption != nil && now.Properties.Encryption.Status.Reason != "", "",
		"the resource itself can be read, and states the reason")
	d.check(c.Manage(ctx, http.MethodPost, operator.Path(d.Resource)+"/listKeys", nil, nil) == nil, "",
		"its access keys can be listed")
	d.others(ctx, c)

	begin = time.Now()
	if err := giveBack(); err != nil {
		return fmt.Errorf("restore access to the key: %w", err)
	}
	said, err = data.until(ctx, http.StatusOK)
	d.ToOpen = time.Since(begin).Round(time.Millisecond).String()
	d.check(err == nil, said, "the data was available %s after access was restored, without a restart", d.ToOpen)
	after, err := data.groups(ctx)
	d.check(err == nil && after == before, "", "the answers are the same as before")
	return nil
}

// road chooses how to remove and restore access to the key on the copy. A vault of this server is deleted and
// recovered, which needs no right on the key; with any other vault, which is not a copy, the resource is locked.
func (d *drill) road(ctx context.Context, c *operator.Client) (take, giveBack func() error) {
	key, err := azure.ParseKey(d.Key, "", "")
	name, ours := "", false
	if err == nil {
		host, _ := visage.ParseOrigin(key.Vault) // a parsed reference has a valid address
		name, ours = c.Origin.Sub(operator.VaultDomain).Below(host)
	}
	var one armwire.Vault
	if !ours || c.ARM(ctx, http.MethodGet, c.VaultPath(name), nil, &one) != nil {
		d.Road = "the resource was locked, because its key is in a vault elsewhere, which cannot be copied"
		door := func(verb string) func() error {
			return func() error {
				return c.Manage(ctx, http.MethodPost, operator.Path(d.Resource)+"/encryption:"+verb, nil, nil)
			}
		}
		return door("lock"), door("unlock")
	}
	d.Road = "the vault " + name + " was deleted"
	return func() error { return c.ARM(ctx, http.MethodDelete, c.VaultPath(name), nil, nil) }, func() error {
		_, err := vault.Recover(ctx, c, name, one.Location)
		return err
	}
}

// others checks whether resources under the service's key remain available.
func (d *drill) others(ctx context.Context, c *operator.Client) {
	var all armwire.Page[armwire.Account]
	if err := c.Manage(ctx, http.MethodGet, "", nil, &all); err != nil {
		d.check(false, err.Error(), "the other resources can be listed")
		return
	}
	open, closed := 0, []string{}
	for _, a := range all.Value {
		if a.Name == d.Resource || a.Properties.Encryption != nil && a.Properties.Encryption.Key != nil {
			continue // its customer's key may be in the deleted vault
		}
		var keys armwire.AccountKeys
		err := c.Manage(ctx, http.MethodPost, operator.Path(a.Name)+"/listKeys", nil, &keys)
		status := 0
		if err == nil {
			status, _, err = drillClient{c, keys.Key1}.ask(ctx)
		}
		if err != nil || status != http.StatusOK {
			closed = append(closed, a.Name)
			continue
		}
		open++
	}
	d.check(len(closed) == 0, strings.Join(closed, ", "),
		"%d other resources, encrypted with the service's key, remain available", open)
}

// drillClient reads stored data of one resource on the data plane.
type drillClient struct {
	*operator.Client
	key string
}

func (c drillClient) ask(ctx context.Context) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Operator.Endpoint+"/face/v1.2/persongroups?top=1000",
		http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Ocp-Apim-Subscription-Key", c.key)
	res, body, err := c.Send(req)
	if err != nil {
		return 0, nil, err
	}
	return res.StatusCode, body, nil
}

func (c drillClient) groups(ctx context.Context) (string, error) {
	status, body, err := c.ask(ctx)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the data plane answers %d", status)
	}
	return string(body), err
}

// until repeats the request until the answer has a status, for two minutes, and returns the code of the last refusal.
func (c drillClient) until(ctx context.Context, want int) (said string, err error) {
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(2 * time.Minute); ; {
		status, body, err := c.ask(ctx)
		if err != nil {
			return said, err
		}
		var refused struct {
			Error struct{ Code string }
		}
		if status != http.StatusOK && json.Unmarshal(body, &refused) == nil {
			said = refused.Error.Code
		}
		switch {
		case status == want && want == http.StatusOK:
			return "", nil
		case status == want:
			return said, nil
		case time.Now().After(end):
			return said, fmt.Errorf("after two minutes the data plane answers %d %s", status, said)
		}
		select {
		case <-ctx.Done():
			return said, context.Cause(ctx)
		case <-again.C:
		}
	}
}
