// Package retention implements "visage retention" and "visage hold": how long people and faces are kept, and legal
// holds, which prevent their erasure.
package retention

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
)

// Command is "visage retention".
func Command() *cobra.Command {
	return command.Noun("retention", "Set how long people and faces are kept", show(), set(), reset(), run())
}

// HoldCommand is "visage hold".
func HoldCommand() *cobra.Command {
	return command.Noun("hold", "Place and release legal holds, which prevent erasure", listHolds(), place(), release())
}

func show() *cobra.Command {
	c := command.New("show RESOURCE", "Show the retention of a resource and of its groups and lists",
		"visage retention show shop")
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (armwire.Keeping, error) {
		return ask(ctx, o, http.MethodGet, args[0], "retention", nil)
	}, table)
}

func set() *cobra.Command {
	var group, since string
	days := 0
	c := command.New("set RESOURCE",
		"Set the retention of a resource, group or list. People and faces that exceed it are erased within the hour.",
		"visage retention set shop --days 365 --since lastMatch")
	f := c.Flags()
	f.IntVar(&days, "days", -1, "`DAYS` of 24 hours, 1 to 36500; 0 keeps for ever (required)")
	f.StringVar(&since, "since", "enrolment",
		"`EVENT` that the days count from: enrolment, or lastMatch for the last recognition")
	f.Lookup("days").DefValue = "0" // it has no default: hide it from help
	command.CompleteWords(c, "since", "enrolment", "lastMatch")
	defineGroup(c, &group)
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (armwire.Keeping, error) {
		if days < 0 {
			return armwire.Keeping{}, command.Misuse("--days is required: a number from 0 to 36500")
		}
		kind, id, err := cutGroup(group)
		if err != nil {
			return armwire.Keeping{}, err
		}
		return ask(ctx, o, http.MethodPut, args[0], "retention",
			armwire.Retention{Kind: kind, ID: id, Days: &days, Since: since})
	}, table)
}

func reset() *cobra.Command {
	group := ""
	c := command.New("clear RESOURCE",
		"Remove the retention of a resource, group or list. A group or list then follows its resource.",
		"visage retention clear shop --group persongroup/guests")
	defineGroup(c, &group)
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (armwire.Keeping, error) {
		kind, id, err := cutGroup(group)
		if err != nil {
			return armwire.Keeping{}, err
		}
		return ask(ctx, o, http.MethodPut, args[0], "retention", armwire.Retention{Kind: kind, ID: id})
	}, table)
}

func run() *cobra.Command {
	dry := false
	c := command.New("run RESOURCE", "Erase people and faces whose retention has ended now, rather than within the "+
		"hour",
		"visage retention run shop --dry-run")
	c.Flags().BoolVar(&dry, "dry-run", false, "only count them")
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (armwire.Expired, error) {
		var gone armwire.Expired
		err := o.Manage(ctx, http.MethodPost, operator.Path(args[0])+"/expire", armwire.Expiration{DryRun: dry}, &gone)
		return gone, err
	}, func(t *command.Table, gone armwire.Expired) {
		verb := "erased"
		if dry {
			verb = "to be erased"
		}
		t.Line("%s: %d persons, and %d faces of lists; kept because of a legal hold: %d", verb, gone.Persons,
			gone.Faces, gone.Held)
	})
}

func listHolds() *cobra.Command {
	c := command.New("list RESOURCE", "List the legal holds of a resource", "visage hold list shop")
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]armwire.Hold, error) {
		k, err := ask(ctx, o, http.MethodGet, args[0], "retention", nil)
		return k.Holds, err
	}, holdTable)
}

func place() *cobra.Command {
	var group, item, reason string
	c := command.New("place RESOURCE",
		"Place a legal hold on a resource, group, list, person or face. Nothing erases it until the hold is released.",
		"visage hold place shop --group persongroup/guests --reason \"case 4711\"")
	defineGroup(c, &group)
	defineItem(c, &item)
	c.Flags().StringVar(&reason, "reason", "", "`REASON` for the hold, which the audit log keeps (required)")
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]armwire.Hold, error) {
		if reason == "" {
			return nil, command.Misuse("--reason is required: the audit log keeps it")
		}
		return hold(ctx, o, args[0], "placeHold", group, item, reason)
	}, holdTable)
}

func release() *cobra.Command {
	var group, item string
	c := command.New("release RESOURCE", "Release a legal hold", "visage hold release shop --group persongroup/guests")
	defineGroup(c, &group)
	defineItem(c, &item)
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]armwire.Hold, error) {
		return hold(ctx, o, args[0], "releaseHold", group, item, "")
	}, holdTable)
}

func defineGroup(c *cobra.Command, group *string) {
	c.Flags().StringVar(group, "group", "",
		"`GROUP` or list by kind and id, such as persongroup/guests (default: the whole resource)")
}

func defineItem(c *cobra.Command, item *string) {
	c.Flags().StringVar(item, "item", "",
		"`ID` of a person in the group, or of a persisted face in the list (default: all of it)")
}

// cutGroup separates the kind of a group or list from its id. The server checks the kind.
func cutGroup(group string) (kind, id string, err error) {
	if group == "" {
		return "", "", nil
	}
	kind, id, found := strings.Cut(group, "/")
	if !found || kind == "" || id == "" {
		return "", "", command.Hinted(command.Misuse("--group must be KIND/ID; got %q", group),
			"for example persongroup/guests; kinds are facelist, largefacelist, persongroup and largepersongroup")
	}
	return kind, id, nil
}

// ask makes a request about the retention of a resource, and returns the rules in force afterwards.
func ask(
	ctx context.Context, o *operator.Client, method, resource, what string, body any,
) (k armwire.Keeping, err error) {
	err = o.Manage(ctx, method, operator.Path(resource)+"/"+what, body, &k)
	return k, err
}

// hold places or releases a hold, and returns all holds in force afterwards.
func hold(
	ctx context.Context, o *operator.Client, resource, what, group, item, reason string,
) ([]armwire.Hold, error) {
	kind, id, err := cutGroup(group)
	if err != nil {
		return nil, err
	}
	k, err := ask(ctx, o, http.MethodPost, resource, what,
		armwire.Hold{Kind: kind, ID: id, Item: item, Reason: reason})
	return k.Holds, err
}

func table(t *command.Table, k armwire.Keeping) {
	t.Row("OF", "DAYS", "SINCE")
	if k.Default == nil {
		k.Default = &armwire.Retention{}
	}
	for _, r := range append([]armwire.Retention{*k.Default}, k.Collections...) {
		days := "for ever"
		if r.Days != nil && *r.Days > 0 {
			days = fmt.Sprint(*r.Days)
		}
		t.Row(subject(r.Kind, r.ID), days, command.Dash(r.Since))
	}
	if len(k.Holds) > 0 {
		t.Line("")
		t.Line("legal holds: %d", len(k.Holds))
	}
}

func holdTable(t *command.Table, all []armwire.Hold) {
	t.Row("ON", "ITEM", "PLACED", "BY", "REASON")
	for _, h := range all {
		when := ""
		if h.Placed != nil {
			when = h.Placed.Format(time.RFC3339)
		}
		t.Row(subject(h.Kind, h.ID), command.Dash(h.Item), command.Dash(when), command.Dash(h.By), h.Reason)
	}
}

// subject names the object of a retention or a hold.
func subject(kind, id string) string {
	if kind == "" {
		return "the resource"
	}
	return kind + "/" + id
}
