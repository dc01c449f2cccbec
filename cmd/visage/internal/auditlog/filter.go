package auditlog

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/account"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/sealed"
)

// filter selects entries.
type filter struct {
	resource, kind, outcome, actor, key, since, until string
	after                                             uint64
	limit                                             int
	oldest                                            bool
}

// defineFilter adds the flags. limit is the default of --limit; with 0, the order is oldest first.
func defineFilter(c *cobra.Command, limit int) *filter {
	f, fs := &filter{}, c.Flags()
	fs.StringVar(&f.resource, "resource", "", "only entries of this resource, by `NAME`; by id if it was deleted")
	fs.StringVar(&f.kind, "kind", "", "only entries of this `KIND`, for example key.unwrap")
	fs.StringVar(&f.outcome, "outcome", "", "only entries with this `OUTCOME`: done, refused, failed or unknown")
	fs.StringVar(&f.actor, "actor", "", "only entries of the actor with this `ID`")
	fs.StringVar(&f.key, "key", "", "only entries with this key, by its `URI` without a version")
	fs.StringVar(&f.since, "since", "", "only entries from this `TIME` on: 2026-11-23T15:00:00Z, or how long ago: 24h")
	fs.StringVar(&f.until, "until", "", "only entries before this `TIME`, in the same forms")
	fs.Uint64Var(&f.after, "after", 0, "begin after the entry with this `NUMBER`, in the order of the list")
	fs.IntVar(&f.limit, "limit", limit, "at most this `NUMBER` of entries; 0 for all")
	fs.BoolVar(&f.oldest, "oldest", limit == 0, "oldest first")
	command.CompleteWords(c, "kind", words(audit.Kinds())...)
	command.CompleteWords(c, "outcome", words(outcomes())...)
	return f
}

// offline checks the flags of a command, and runs fn on the store of a server that is not running.
func (f *filter) offline(ctx context.Context, c *cobra.Command, fn func(*sealed.Store) error) error {
	if err := f.check(); err != nil {
		return err
	}
	set, err := settings.Load(c.Flags())
	if err != nil {
		return err
	}
	return offline(ctx, set.Server, fn)
}

// query reads the flags. Names of resources are looked up in the store.
func (f *filter) query(ctx context.Context, store *sealed.Store) (audit.Query, error) {
	q := audit.Query{
		Outcome: audit.Outcome(f.outcome), Actor: f.actor, KeyID: f.key, After: f.after, Limit: f.limit,
		Oldest: f.oldest,
	}
	if f.kind != "" {
		q.Kinds = []audit.Kind{audit.Kind(f.kind)}
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
	if q.Resource, err = account.IDOf(ctx, store, f.resource); err != nil {
		return q, command.Hinted(err, "give the id of a resource that was deleted")
	}
	return q, nil
}

// check finds mistakes before anything is opened.
func (f *filter) check() error {
	if f.kind != "" && !slices.Contains(audit.Kinds(), audit.Kind(f.kind)) {
		return command.Misuse("--kind must be one of %s; got %q", strings.Join(words(audit.Kinds()), ", "), f.kind)
	}
	if f.outcome != "" && !slices.Contains(outcomes(), audit.Outcome(f.outcome)) {
		return command.Misuse("--outcome must be one of %s; got %q", strings.Join(words(outcomes()), ", "), f.outcome)
	}
	if _, err := moment("since", f.since); err != nil {
		return err
	}
	if _, err := moment("until", f.until); err != nil {
		return err
	}
	if f.limit < 0 {
		return command.Misuse("--limit must be 0 or more; got %d", f.limit)
	}
	return nil
}

// outcomes lists the outcomes that an entry can have.
func outcomes() []audit.Outcome {
	return []audit.Outcome{audit.Done, audit.Refused, audit.Failed, audit.Unknown}
}

func words[T ~string](all []T) []string {
	var w []string
	for _, v := range all {
		w = append(w, string(v))
	}
	return w
}

// moment reads a time, or a duration before now.
func moment(name, value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(value); err == nil {
		return time.Now().Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return time.Time{}, command.Misuse(
			"--%s must be a time such as 2026-11-23T15:00:00Z or a duration such as 24h; got %q", name, value)
	}
	return t, nil
}
