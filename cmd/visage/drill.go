package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/internal/durable"
	"github.com/visage-face/visage/sealed/archive"
	"github.com/visage-face/visage/server"
	"github.com/visage-face/visage/vision"
)

// drill is what a rehearsal of a revocation found.
type drill struct {
	Resource  string      `json:"resource"`
	Key       string      `json:"key"`
	Began     time.Time   `json:"began"`
	Backup    string      `json:"backup"` // of which a copy of the server was made
	Rows      int64       `json:"rows"`
	Road      string      `json:"road"`      // how access was taken away
	ToRefusal string      `json:"toRefusal"` // from there to the first refusal of a data operation
	ToOpen    string      `json:"toOpen"`    // from giving it back to the first answer
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

func drillRevokeCommand() command {
	c := command{
		name: "drill revoke", args: "NAME",
		summary: "Rehearse the revocation of a resource's key on a copy of the running server, and write a report. " +
			"The server itself is not touched.",
		example: "visage drill revoke vip --report drill.json",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		given, output := defineSettings(fs, "dir", "root-key", "domain", "azure-tenant", "azure-client",
			"azure-secret-file"), defineOutput(fs)
		report := fs.String("report", "", "file for the report, as JSON (default: none)")
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) != 1 {
				return usage(&c, "takes the name of a resource, and was given %d arguments", len(args))
			}
			if *output != "table" && *output != "json" {
				return usage(&c, "-o is %q; allowed: table, json", *output)
			}
			set, err := given.load()
			if err != nil {
				return hintUsage(err, &c)
			}
			d, err := rehearse(ctx, s.err, set.server, args[0])
			if err != nil {
				return err
			}
			return d.tell(s.out, *report, *output)
		}
	}
	return c
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
	} else {
		fmt.Fprintf(w, "rehearsed on a copy of %d rows: %s\n", d.Rows, d.Road)
		for _, l := range d.Checks {
			mark := "ok    "
			if !l.Held {
				mark = "FAILED"
			}
			fmt.Fprintf(w, "%s  %s%s\n", mark, l.What, ifAny(": ", l.Said))
		}
	}
	if !d.Passed {
		return &failure{err: errors.New("the revocation did not do all that it must"), code: exitFailure,
			hint: "the report says what did not hold"}
	}
	return nil
}

func ifAny(before, s string) string {
	if s == "" {
		return ""
	}
	return before + s
}

// rehearse copies the server of a directory into a temporary one, and takes the key of a resource away there.
func rehearse(ctx context.Context, notes io.Writer, cfg server.Config, name string) (d *drill, err error) {
	if cfg.Dir == "" {
		if cfg.Dir, err = server.DefaultDir(); err != nil {
			return nil, err
		}
	}
	live, err := dial(cfg.Dir)
	if err != nil {
		return nil, err
	}
	d = &drill{Resource: name, Began: time.Now().UTC(), Passed: true}
	var now account
	if err := live.manage(ctx, http.MethodGet, pathTo(name), nil, &now); err != nil {
		return nil, resourceHint(err, []string{name})
	}
	e := now.Properties.Encryption
	if e == nil || e.Key == nil {
		return nil, hinted(fmt.Errorf("the data of %q is under the service's key: there is nothing to revoke", name),
			"\"visage cmk enable %s\" puts it under a customer's", name)
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

// copyServer makes the data of a second server of a backup and a keyring of the first.
func (d *drill) copyServer(ctx context.Context, live *client, cfg server.Config, dir string) (server.Config, error) {
	a, err := archive.Open(filepath.Join(dir, "archive"))
	if err != nil {
		return cfg, err
	}
	var added archive.Added
	err = live.stream(ctx, "backup", func(r io.Reader) (err error) {
		added, err = a.Add(ctx, r)
		return err
	})
	if err != nil {
		return cfg, err
	}
	d.Backup, d.Rows = added.Name, added.Rows
	ring := filepath.Join(dir, "keyring")
	_, err = exportKeyring(ctx, ring,
		func(ctx context.Context, operation string, _ writer, read func(io.Reader) error) error {
			return live.stream(ctx, operation, read)
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
		Dir: filepath.Join(dir, "copy"), Listen: "127.0.0.1:0", Domain: live.origin.Hostname(), Recogniser: blind{},
		RootKeys: cfg.RootKeys, Rate: 100_000,
		// a copy opens by the same answers
		AzureTenant: cfg.AzureTenant, AzureClient: cfg.AzureClient, AzureSecretFile: cfg.AzureSecretFile,
		Logger: slog.New(slog.DiscardHandler),
	}
	if len(rehearsal.RootKeys) == 0 {
		rehearsal.RootKeys = []string{"file:" + filepath.Join(cfg.Dir, "keys", "root.key")}
	}
	if rehearsal.PublicPort, err = strconv.Atoi(live.origin.Port()); err != nil {
		return cfg, err
	}
	return rehearsal, server.Restore(ctx, rehearsal, keys, a.Read(added.Backup))
}

// blind recognises nobody: a rehearsal has no photos.
type blind struct{}

// Name, Dim, Supports, Confidence, Threshold and Detect implement face.Recogniser.
func (blind) Name() string                { return "none" }
func (blind) Dim() int                    { return 128 }
func (blind) Supports() vision.Attributes { return 0 }
func (blind) Confidence(float64) float64  { return 0 }
func (blind) Threshold(int) float64       { return 0.5 }
func (blind) Detect(context.Context, []byte, vision.Want) (*vision.Photo, error) {
	return nil, errors.New("a rehearsal looks at no photos")
}

// run starts the copy, takes the key away and gives it back.
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
	c, err := dial(srv.Dir())
	if err != nil {
		return err
	}
	var keys accountKeys
	if err := c.manage(ctx, http.MethodPost, pathTo(d.Resource)+"/listKeys", nil, &keys); err != nil {
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
		return fmt.Errorf("take the key away: %w", err)
	}
	said, err := data.until(ctx, http.StatusForbidden)
	d.ToRefusal = time.Since(begin).Round(time.Millisecond).String()
	d.check(err == nil && time.Since(begin) < time.Minute, said,
		"data operations are refused %s after access was taken away, of at most 60 s", d.ToRefusal)
	if err != nil {
		return nil
	}
	var now account
	err = c.manage(ctx, http.MethodGet, pathTo(d.Resource), nil, &now)
	d.check(err == nil && now.Properties.Encryption != nil && now.Properties.Encryption.Status.Reason != "", "",
		"the resource itself answers, and says why it is closed")
	d.check(c.manage(ctx, http.MethodPost, pathTo(d.Resource)+"/listKeys", nil, nil) == nil, "",
		"its keys can be listed")
	d.others(ctx, c)

	begin = time.Now()
	if err := giveBack(); err != nil {
		return fmt.Errorf("give the key back: %w", err)
	}
	said, err = data.until(ctx, http.StatusOK)
	d.ToOpen = time.Since(begin).Round(time.Millisecond).String()
	d.check(err == nil, said, "the data is open %s after access was given back, without a restart", d.ToOpen)
	after, err := data.groups(ctx)
	d.check(err == nil && after == before, "", "what it answers is what it answered before")
	return nil
}

// road says how the key is taken away on the copy, and given back: the vault is deleted and recovered where it is one
// of this server's, which needs no right on the key; else the resource is locked, since a vault elsewhere is not a
// copy.
func (d *drill) road(ctx context.Context, c *client) (take, giveBack func() error) {
	key, err := visage.ParseKeyRef(d.Key)
	name, ours := "", false
	if err == nil {
		vault, _ := visage.ParseOrigin(key.Vault) // a reference that was read has an address
		name, ours = c.origin.Sub(vaultDomain).Below(vault)
	}
	var one keyVault
	if !ours || c.arm(ctx, http.MethodGet, c.vaultPath(name), nil, &one) != nil {
		d.Road = "the resource was locked; the key lies in a vault elsewhere, whose own answer was not rehearsed"
		door := func(verb string) func() error {
			return func() error {
				return c.manage(ctx, http.MethodPost, pathTo(d.Resource)+"/encryption:"+verb, nil, nil)
			}
		}
		return door("lock"), door("unlock")
	}
	d.Road = "the vault " + name + " was deleted"
	return func() error { return c.arm(ctx, http.MethodDelete, c.vaultPath(name), nil, nil) }, func() error {
		return c.arm(ctx, http.MethodPut, c.vaultPath(name),
			map[string]any{"location": one.Location, "properties": map[string]any{
				"createMode": "recover", "tenantId": c.operator.TenantID,
				"sku": map[string]string{"family": "A", "name": "standard"},
			}}, nil)
	}
}

// others looks whether the resources that are under the service's key go on.
func (d *drill) others(ctx context.Context, c *client) {
	var all struct {
		Value []account `json:"value"`
	}
	if err := c.manage(ctx, http.MethodGet, "", nil, &all); err != nil {
		d.check(false, err.Error(), "the other resources can be listed")
		return
	}
	open, closed := 0, []string{}
	for _, a := range all.Value {
		if a.Name == d.Resource || a.Properties.Encryption != nil && a.Properties.Encryption.Key != nil {
			continue // another customer's key may be in the vault that is gone
		}
		var keys accountKeys
		err := c.manage(ctx, http.MethodPost, pathTo(a.Name)+"/listKeys", nil, &keys)
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
	d.check(len(closed) == 0, strings.Join(closed, ", "), "%d other resources, under the service's key, go on", open)
}

// drillClient asks the data plane of one resource for something that is stored.
type drillClient struct {
	*client
	key string
}

func (c drillClient) ask(ctx context.Context) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.operator.Endpoint+"/face/v1.2/persongroups?top=1000",
		http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Ocp-Apim-Subscription-Key", c.key)
	res, body, err := c.do(req)
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

// until asks until the answer has a status, for two minutes, and returns the code of the last refusal.
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
