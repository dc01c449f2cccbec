package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/visage-face/visage"
	accounts "github.com/visage-face/visage/account"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/server"
)

// auditFilter is what --flags say about the entries that are wanted.
type auditFilter struct {
	resource, kind, outcome, actor, key, since, until string
	after                                             uint64
	limit                                             int
	oldest                                            bool
}

func defineAuditFilter(fs *flag.FlagSet, limit int) *auditFilter {
	f := &auditFilter{}
	fs.StringVar(&f.resource, "resource", "", "only of this resource: its name, or its id when it was deleted")
	fs.StringVar(&f.kind, "kind", "", "only of this kind, for example key.unwrap")
	fs.StringVar(&f.outcome, "outcome", "", "only with this outcome: done, refused, failed, unknown")
	fs.StringVar(&f.actor, "actor", "", "only by the actor with this id")
	fs.StringVar(&f.key, "key", "", "only with this key, by its URI without a version")
	fs.StringVar(&f.since, "since", "", "only from this time on: 2026-11-23T15:00:00Z, or how long ago: 24h")
	fs.StringVar(&f.until, "until", "", "only before this time, likewise")
	fs.Uint64Var(&f.after, "after", 0, "begin behind the entry with this number, in the direction of the listing")
	fs.IntVar(&f.limit, "limit", limit, "entries at most; 0 for all")
	fs.BoolVar(&f.oldest, "oldest", limit == 0, "oldest first")
	return f
}

// query reads the flags. Names of resources are looked up in the store.
func (f *auditFilter) query(ctx context.Context, store *sealed.Store) (audit.Query, error) {
	q := audit.Query{
		Kind: audit.Kind(f.kind), Outcome: audit.Outcome(f.outcome), Actor: f.actor, KeyID: f.key,
		After: f.after, Limit: f.limit, Oldest: f.oldest,
	}
	var err error
	if q.From, err = moment("since", f.since); err != nil {
		return q, err
	}
	if q.To, err = moment("until", f.until); err != nil {
		return q, err
	}
	if f.resource == "" {
		return q, nil
	}
	if q.Resource, err = visage.ParseResourceID(f.resource); err == nil {
		return q, nil
	}
	all, err := accounts.Open(ctx, accounts.Config{Store: store})
	if err != nil {
		return q, err
	}
	a, err := all.Get(ctx, f.resource)
	if err != nil {
		return q, hinted(err, "a resource that was deleted is found by its id")
	}
	q.Resource = a.ID
	return q, nil
}

// check finds mistakes before anything is opened.
func (f *auditFilter) check(c *command) error {
	if f.kind != "" && !slices.Contains(audit.Kinds(), audit.Kind(f.kind)) {
		return usage(c, "--kind is %q; allowed: %s", f.kind, strings.Join(words(audit.Kinds()), ", "))
	}
	outcomes := []audit.Outcome{audit.Done, audit.Refused, audit.Failed, audit.Unknown}
	if f.outcome != "" && !slices.Contains(outcomes, audit.Outcome(f.outcome)) {
		return usage(c, "--outcome is %q; allowed: %s", f.outcome, strings.Join(words(outcomes), ", "))
	}
	for name, value := range map[string]string{"since": f.since, "until": f.until} {
		if _, err := moment(name, value); err != nil {
			return usage(c, "%v", err)
		}
	}
	if f.limit < 0 {
		return usage(c, "--limit is %d; it must not be below 0", f.limit)
	}
	return nil
}

func words[T ~string](all []T) []string {
	var w []string
	for _, v := range all {
		w = append(w, string(v))
	}
	return w
}

// moment reads a time, or how long ago it was.
func moment(name, value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(value); err == nil {
		return time.Now().Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return time.Time{}, fmt.Errorf(
			"--%s is %q; allowed: a time such as 2026-11-23T15:00:00Z, or a duration such as 24h", name, value,
		)
	}
	return t, nil
}

// offline runs fn on the store of a server that is not running.
func offline(ctx context.Context, cfg server.Config, fn func(*sealed.Store) error) (err error) {
	store, err := server.OpenStore(ctx, cfg)
	if errors.Is(err, fs.ErrNotExist) {
		return hinted(err, "say with --dir where the server keeps its data")
	}
	if err != nil {
		return hinted(err, "the audit log is read from the data itself: is the server of this directory still running?")
	}
	defer func() {
		if closeErr := store.Close(); err == nil {
			err = closeErr
		}
	}()
	err = fn(store)
	if broken, ok := errors.AsType[*audit.BrokenError](err); ok {
		return &failure{err: broken, code: exitDamaged,
			hint: "keep the data directory as it is for whoever finds out why, and go on from a backup"}
	}
	return err
}

func auditListCommand() command {
	c := command{
		name: "audit list", summary: "List what happened on a server that is not running, newest first.",
		example: "visage audit list --resource shop --since 24h --dir ~/.visage",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		given, filter, output := defineSettings(fs, "dir", "root-key"), defineAuditFilter(fs, 100), defineOutput(fs)
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) > 0 {
				return usage(&c, "takes no arguments, and was given %q", args[0])
			}
			if *output != "table" && *output != "json" {
				return usage(&c, "-o is %q; allowed: table, json", *output)
			}
			set, err := checked(&c, given, filter)
			if err != nil {
				return err
			}
			return offline(ctx, set.server,
				func(store *sealed.Store) error { return runAuditList(ctx, s, store, filter, *output) })
		}
	}
	return c
}

// checked looks at all flags of an audit command.
func checked(c *command, given *flags, filter *auditFilter) (*settings, error) {
	if err := filter.check(c); err != nil {
		return nil, err
	}
	set, err := given.load()
	if err != nil {
		return nil, hintUsage(err, c)
	}
	return set, nil
}

func runAuditList(ctx context.Context, s streams, store *sealed.Store, filter *auditFilter, output string) error {
	q, err := filter.query(ctx, store)
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
	if output == "json" {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		return errors.Join(enc.Encode(found), listErr)
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ENTRY\tTIME\tKIND\tOUTCOME\tACTOR\tRESOURCE\tKEY\tDETAILS")
	for _, e := range found {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Sequence, e.Time.Format(time.RFC3339), e.Kind,
			outcomeText(e), actorText(e),
			resourceText(e), orDash(strings.TrimSuffix(e.KeyID+"/"+e.KeyVersion, "/")), orDash(detailText(e)))
	}
	return errors.Join(w.Flush(), listErr)
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

// firstDetails are those that one reads for, in the order of a sentence: what was done to whom, where, and what
// changed.
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

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func auditExportCommand() command {
	c := command{
		name:    "audit export",
		summary: "Write what happened on a server that is not running as JSON lines, oldest first.",
		example: "visage audit export --dir ~/.visage > audit.jsonl",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		given, filter := defineSettings(fs, "dir", "root-key"), defineAuditFilter(fs, 0)
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) > 0 {
				return usage(&c, "takes no arguments, and was given %q", args[0])
			}
			set, err := checked(&c, given, filter)
			if err != nil {
				return err
			}
			return offline(ctx, set.server, func(store *sealed.Store) error {
				q, err := filter.query(ctx, store)
				if err != nil {
					return err
				}
				n, err := audit.Read(store).Export(ctx, s.out, q)
				fmt.Fprintf(s.err, "%d entries\n", n)
				return err
			})
		}
	}
	return c
}

func auditVerifyCommand() command {
	c := command{
		name: "audit verify", args: "[CHECKPOINT...]",
		summary: "Verify that the audit log of a server that is not running is whole, and holds what kept " +
			"checkpoints signed.",
		example: "visage audit verify --dir ~/.visage --checkpoint today.txt yesterday.txt",
	}
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		given := defineSettings(fs, "dir", "root-key")
		to := fs.String("checkpoint", "", "file to write the last checkpoint to, to be kept elsewhere")
		return func(ctx context.Context, s streams, args []string) error {
			set, err := given.load()
			if err != nil {
				return hintUsage(err, &c)
			}
			var kept [][]byte
			for _, name := range args {
				b, err := os.ReadFile(name)
				if err != nil {
					return fmt.Errorf("read a kept checkpoint: %w", err)
				}
				kept = append(kept, b)
			}
			return offline(ctx, set.server,
				func(store *sealed.Store) error { return runAuditVerify(ctx, s, store, *to, kept) })
		}
	}
	return c
}

func runAuditVerify(ctx context.Context, s streams, store *sealed.Store, to string, kept [][]byte) error {
	r, err := audit.Read(store).Verify(ctx, kept...)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%d entries, %d checkpoints, %d entries behind the last one\n", r.Entries, r.Checkpoints,
		r.Unsigned)
	if r.Verifier != "" {
		fmt.Fprintf(s.out, "verifier %s\n", r.Verifier)
	}
	if len(kept) > 0 {
		fmt.Fprintf(s.out, "holds what %d kept checkpoints signed\n", len(kept))
	}
	fmt.Fprintln(s.out, "the audit log is whole")
	if to == "" {
		return nil
	}
	if r.Checkpoints == 0 {
		return errors.New("there is no checkpoint to write yet")
	}
	if err := os.WriteFile(to, r.Last.Note, 0o644); err != nil {
		return fmt.Errorf("write the last checkpoint: %w", err)
	}
	return nil
}
