// Package auditlog implements "visage audit" and "visage erase-proof": it lists, exports and verifies the audit log of
// a stopped server, lists the entries of one resource of a running server, and writes and checks receipts of erasures.
package auditlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
)

// Command is "visage audit".
func Command() *cobra.Command {
	return command.Noun("audit", "List, export and verify the audit log", list(), ofResource(), export(), verify())
}

func list() *cobra.Command {
	c := command.New("list", "List the entries of a stopped server's audit log, newest first",
		"visage audit list --resource shop --since 24h --dir ~/.visage")
	settings.Define(c.Flags(), "dir", "store", "store-password-file", "epoch-keys", "epoch-keys-secret-file",
		"root-key")
	filter, output := defineFilter(c, 100), command.DefineOutput(c)
	return command.Run(c, func(ctx context.Context, s command.Streams, _ []string) error {
		form, err := output.Form()
		if err != nil {
			return err
		}
		return filter.offline(ctx, c, func(store *sealed.Store) error { return runList(ctx, s, store, filter, form) })
	})
}

func runList(ctx context.Context, s command.Streams, store *sealed.Store, f *filter, form string) error {
	q, err := f.query(ctx, store)
	if err != nil {
		return err
	}
	found := []audit.Entry{}
	var listErr error
	for e, err := range audit.Read(store).Entries(ctx, q) {
		if listErr = err; err == nil {
			found = append(found, e)
		}
	}
	if form == "json" {
		return errors.Join(command.WriteJSON(s.Out, found), listErr)
	}
	var t command.Table
	t.Row("ENTRY", "TIME", "KIND", "OUTCOME", "ACTOR", "RESOURCE", "KEY", "DETAILS")
	for _, e := range found {
		t.Row(e.Sequence, e.Time.Format(time.RFC3339), e.Kind, outcomeText(e), actorText(e), resourceText(e),
			command.Dash(strings.TrimSuffix(e.KeyID+"/"+e.KeyVersion, "/")), command.Dash(detailText(e)))
	}
	return errors.Join(t.Write(s.Out), listErr)
}

func outcomeText(e audit.Entry) string {
	if e.Code == "" {
		return string(e.Outcome)
	}
	return string(e.Outcome) + ":" + e.Code
}

func actorText(e audit.Entry) string {
	if e.Actor.ID == "" {
		return string(e.Actor.Kind)
	}
	return string(e.Actor.Kind) + ":" + e.Actor.ID
}

func resourceText(e audit.Entry) string {
	if e.Resource == (visage.ResourceID{}) {
		return "-"
	}
	return e.Resource.String()
}

// firstDetails are shown first, in the order of a sentence: which operation on which subject, where, and what changed.
var firstDetails = []audit.Detail{
	audit.DetailOperation, audit.DetailCount, audit.DetailSubject, audit.DetailScope, audit.DetailBefore,
	audit.DetailAfter,
}

func detailText(e audit.Entry) string {
	var all []string
	add := func(k audit.Detail) {
		if v, found := e.Details[k]; found {
			if strings.Contains(v, " ") {
				v = strconv.Quote(v)
			}
			all = append(all, string(k)+"="+v)
		}
	}
	for _, k := range firstDetails {
		add(k)
	}
	for _, k := range slices.Sorted(maps.Keys(e.Details)) {
		if !slices.Contains(firstDetails, k) {
			add(k)
		}
	}
	return strings.Join(all, " ")
}

// offline runs fn on the store of a server that is not running.
func offline(ctx context.Context, cfg server.Config, fn func(*sealed.Store) error) (err error) {
	store, err := server.OpenStore(ctx, cfg)
	if corrupt, ok := errors.AsType[*sealed.CorruptError](err); ok {
		return &command.Failure{
			Err: corrupt, Code: command.ExitDamaged, Hint: "\"visage verify\" lists what is damaged",
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return command.Hinted(err, "name the directory of the server's data with --dir")
	case errors.Is(err, sealed.ErrInUse):
		return command.Hinted(err,
			"the audit log is read from the data directly: stop the server of this directory first")
	case err != nil:
		return err
	}
	defer func() {
		if closeErr := store.Close(); err == nil {
			err = closeErr
		}
	}()
	err = fn(store)
	if broken, ok := errors.AsType[*audit.BrokenError](err); ok {
		return &command.Failure{Err: broken, Code: command.ExitDamaged,
			Hint: "keep the data directory unchanged for the investigation, and restore a backup elsewhere"}
	}
	return err
}

func export() *cobra.Command {
	c := command.New("export", "Write a stopped server's audit log as JSON lines, oldest first",
		"visage audit export --dir ~/.visage > audit.jsonl")
	settings.Define(c.Flags(), "dir", "store", "store-password-file", "epoch-keys", "epoch-keys-secret-file",
		"root-key")
	filter := defineFilter(c, 0)
	return command.Run(c, func(ctx context.Context, s command.Streams, _ []string) error {
		return filter.offline(ctx, c, func(store *sealed.Store) error {
			q, err := filter.query(ctx, store)
			if err != nil {
				return err
			}
			n, err := audit.Read(store).Export(ctx, s.Out, q)
			fmt.Fprintf(s.Err, "%d entries\n", n)
			return err
		})
	})
}

func verify() *cobra.Command {
	c := command.New("verify [CHECKPOINT...]",
		"Verify that a stopped server's audit log is complete. Each CHECKPOINT is a file that an earlier --checkpoint "+
			"wrote: the log must contain what it signed.",
		"visage audit verify --dir ~/.visage --checkpoint today.txt yesterday.txt")
	settings.Define(c.Flags(), "dir", "store", "store-password-file", "epoch-keys", "epoch-keys-secret-file",
		"root-key")
	to := c.Flags().String("checkpoint", "", "`FILE` to write the last checkpoint to; keep it on another machine")
	return command.Run(c, func(ctx context.Context, s command.Streams, names []string) error {
		set, err := settings.Load(c.Flags())
		if err != nil {
			return err
		}
		var kept [][]byte
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				return fmt.Errorf("read a kept checkpoint: %w", err)
			}
			kept = append(kept, b)
		}
		return offline(ctx, set.Server, func(store *sealed.Store) error { return runVerify(ctx, s, store, *to, kept) })
	})
}

func runVerify(ctx context.Context, s command.Streams, store *sealed.Store, to string, kept [][]byte) error {
	r, err := audit.Read(store).Verify(ctx, kept...)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "%d entries, %d checkpoints, %d entries after the last checkpoint\n", r.Entries, r.Checkpoints,
		r.Unsigned)
	if r.Verifier != "" {
		fmt.Fprintf(s.Out, "verifier %s\n", r.Verifier)
	}
	if len(kept) > 0 {
		fmt.Fprintf(s.Out, "matches %d kept checkpoints\n", len(kept))
	}
	fmt.Fprintln(s.Out, "the audit log is complete")
	if to == "" {
		return nil
	}
	if r.Checkpoints == 0 {
		return errors.New("the log has no checkpoint yet")
	}
	if err := os.WriteFile(to, r.Last.Note, 0o644); err != nil {
		return fmt.Errorf("write the last checkpoint: %w", err)
	}
	return nil
}

// ofResource lists what happened to one resource of a running server.
func ofResource() *cobra.Command {
	kind, top := "", 0
	c := command.New("resource NAME",
		"List what happened to a resource of the running server, newest first. It also works while the resource's "+
			"key is "+
			"revoked.",
		"visage audit resource vip")
	c.Flags().StringVar(&kind, "kind", "", "only entries of this `KIND`, for example key.unwrap")
	c.Flags().IntVar(&top, "limit", 100, "at most this `NUMBER` of entries, 1 to 1000")
	command.CompleteWords(c, "kind", words(audit.Kinds())...)
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]event, error) {
		return events(ctx, o, args[0], fmt.Sprintf("?top=%d&kind=%s", top, url.QueryEscape(kind)))
	}, func(t *command.Table, all []event) {
		t.Row("ENTRY", "TIME", "KIND", "OUTCOME", "ACTOR", "KEY", "DETAILS")
		for _, e := range all {
			t.Row(e.Sequence, command.Clock(e.Time), e.Kind, e.Outcome,
				strings.TrimSuffix(string(e.Actor.Kind)+":"+e.Actor.ID, ":"), command.Dash(e.KeyID),
				command.Dash(detailText(audit.Entry{Event: audit.Event{Details: e.Details}})))
		}
	})
}

// event is the part of an exported audit entry that these commands read; docs/formats/audit.md describes all of it.
type event struct {
	Sequence uint64                  `json:"sequence"`
	Time     string                  `json:"time"`
	Kind     audit.Kind              `json:"kind"`
	Outcome  audit.Outcome           `json:"outcome"`
	Actor    audit.Actor             `json:"actor"`
	KeyID    string                  `json:"keyId"`
	Details  map[audit.Detail]string `json:"details"`
}

// events asks the running server for entries about a resource.
func events(ctx context.Context, o *operator.Client, resource, query string) ([]event, error) {
	var all armwire.Page[event]
	err := o.Manage(ctx, http.MethodGet, operator.Path(resource)+"/auditEvents"+query, nil, &all)
	return all.Value, err
}
