package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// keeping is how long a resource keeps whom, as the server tells it.
type keeping struct {
	Default     *retention  `json:"default"`
	Collections []retention `json:"collections"`
	Holds       []hold      `json:"holds"`
}

type retention struct {
	Kind  string `json:"kind,omitempty"`
	ID    string `json:"id,omitempty"`
	Days  *int   `json:"days"`
	Since string `json:"since,omitempty"`
}

type hold struct {
	Kind   string     `json:"kind,omitempty"`
	ID     string     `json:"id,omitempty"`
	Item   string     `json:"item,omitempty"`
	Reason string     `json:"reason,omitempty"`
	By     string     `json:"placedBy,omitempty"`
	Placed *time.Time `json:"placedAt,omitempty"`
}

func retentionShowCommand() command {
	return resourceCommand(command{
		name: "retention show", args: "RESOURCE",
		summary: "Show how long a resource, and each group and list with a time of its own, keeps those in it.",
		example: "visage retention show shop",
	}, 1, nil, func(ctx context.Context, c *client, args []string) (any, error) {
		return c.keeping(ctx, http.MethodGet, args[0], "retention", nil)
	}, printRetentions)
}

func retentionSetCommand() command {
	var group, since string
	days := 0
	return resourceCommand(command{
		name: "retention set", args: "RESOURCE",
		summary: "Set for how many days a resource, or one group or list of it, keeps those in it. Whose time is up " +
			"is erased within the hour, and for good.",
		example: "visage retention set shop --days 365 --since lastMatch",
	}, 1, func(fs *flag.FlagSet) {
		fs.IntVar(
			&days, "days", -1, "days of 24 hours, 1 to 36500; 0: for ever, for a group or list that is an exception",
		)
		fs.StringVar(&since, "since", "enrolment",
			"what they count from: enrolment, or lastMatch for the last time somebody was recognised")
		defineGroup(fs, &group)
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		if days < 0 {
			return nil, &failure{err: errors.New("--days says how long"), code: exitUsage,
				hint: "\"visage help retention set\" shows how it is called"}
		}
		kind, id, err := cutGroup(group)
		if err != nil {
			return nil, err
		}
		return c.keeping(ctx, http.MethodPut, args[0], "retention", retention{kind, id, &days, since})
	}, printRetentions)
}

func retentionClearCommand() command {
	group := ""
	return resourceCommand(command{
		name: "retention clear", args: "RESOURCE",
		summary: "Take back how long a resource, or one group or list of it, keeps those in it.",
		example: "visage retention clear shop --group persongroup/guests",
	}, 1, func(fs *flag.FlagSet) { defineGroup(fs, &group) },
		func(ctx context.Context, c *client, args []string) (any, error) {
			kind, id, err := cutGroup(group)
			if err != nil {
				return nil, err
			}
			return c.keeping(ctx, http.MethodPut, args[0], "retention", retention{Kind: kind, ID: id})
		}, printRetentions)
}

// expired counts those whose time is up.
type expired struct {
	Persons int `json:"persons"`
	Faces   int `json:"faces"`
	Held    int `json:"held"`
}

func retentionRunCommand() command {
	dry := false
	return resourceCommand(command{
		name: "retention run", args: "RESOURCE",
		summary: "Erase now those whose time is up, rather than within the hour; or only count them.",
		example: "visage retention run shop --dry-run",
	}, 1, func(fs *flag.FlagSet) {
		fs.BoolVar(&dry, "dry-run", false, "only count them")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		var gone expired
		err := c.manage(ctx, http.MethodPost, pathTo(args[0])+"/expire", map[string]bool{"dryRun": dry}, &gone)
		return gone, err
	}, func(w io.Writer, answer any) {
		verb := "erased"
		if dry {
			verb = "to be erased"
		}
		gone := answer.(expired)
		fmt.Fprintf(w, "%s: %d persons, and %d faces of lists; kept because of a legal hold: %d\n", verb, gone.Persons,
			gone.Faces, gone.Held)
	})
}

func holdListCommand() command {
	return resourceCommand(command{
		name: "hold list", args: "RESOURCE", summary: "List the legal holds of a resource.",
		example: "visage hold list shop",
	}, 1, nil, func(ctx context.Context, c *client, args []string) (any, error) {
		k, err := c.keeping(ctx, http.MethodGet, args[0], "retention", nil)
		return k.Holds, err
	}, printHolds)
}

func holdPlaceCommand() command {
	var group, item, reason string
	return resourceCommand(command{
		name: "hold place", args: "RESOURCE",
		summary: "Place a legal hold on a resource, a group or list, or one person or face: neither time nor request " +
			"erases it until the hold is released.",
		example: "visage hold place shop --group persongroup/guests --reason \"case 4711\"",
	}, 1, func(fs *flag.FlagSet) {
		defineGroup(fs, &group)
		defineItem(fs, &item)
		fs.StringVar(&reason, "reason", "", "why, for whoever reads the list of holds")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		if reason == "" {
			return nil, &failure{err: errors.New("a hold needs a --reason"), code: exitUsage,
				hint: "\"visage help hold place\" shows how it is called"}
		}
		return c.hold(ctx, args[0], "placeHold", group, item, reason)
	}, printHolds)
}

func holdReleaseCommand() command {
	var group, item string
	return resourceCommand(command{
		name: "hold release", args: "RESOURCE",
		summary: "Release a legal hold. Whose time is up meanwhile is erased within the hour.",
		example: "visage hold release shop --group persongroup/guests",
	}, 1, func(fs *flag.FlagSet) {
		defineGroup(fs, &group)
		defineItem(fs, &item)
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		return c.hold(ctx, args[0], "releaseHold", group, item, "")
	}, printHolds)
}

func defineGroup(fs *flag.FlagSet, group *string) {
	fs.StringVar(group, "group", "",
		"group or list: its kind and id, such as persongroup/guests (default: the whole resource)")
}

func defineItem(fs *flag.FlagSet, item *string) {
	fs.StringVar(item, "item", "",
		"id of a person of the group, or of a persisted face of the list (default: all of it)")
}

// cutGroup parts the kind of a group or list from its id. Kinds are the server's to know.
func cutGroup(group string) (kind, id string, err error) {
	if group == "" {
		return "", "", nil
	}
	kind, id, found := strings.Cut(group, "/")
	if !found || kind == "" || id == "" {
		return "", "", &failure{err: fmt.Errorf("--group %q is not a kind and an id", group), code: exitUsage,
			hint: "persongroup/guests is one; kinds are facelist, largefacelist, persongroup, largepersongroup"}
	}
	return kind, id, nil
}

func (c *client) keeping(ctx context.Context, method, resource, what string, body any) (k keeping, err error) {
	err = c.manage(ctx, method, pathTo(resource)+"/"+what, body, &k)
	return k, err
}

// hold places or releases a hold, and returns all there are then.
func (c *client) hold(ctx context.Context, resource, what, group, item, reason string) ([]hold, error) {
	kind, id, err := cutGroup(group)
	if err != nil {
		return nil, err
	}
	k, err := c.keeping(ctx, http.MethodPost, resource, what, hold{Kind: kind, ID: id, Item: item, Reason: reason})
	return k.Holds, err
}

func printRetentions(w io.Writer, answer any) {
	k := answer.(keeping)
	fmt.Fprintln(w, "OF\tDAYS\tSINCE")
	if k.Default == nil {
		k.Default = &retention{}
	}
	for _, r := range append([]retention{*k.Default}, k.Collections...) {
		days := "for ever"
		if r.Days != nil && *r.Days > 0 {
			days = fmt.Sprint(*r.Days)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", ofText(r.Kind, r.ID), days, orDash(r.Since))
	}
	if len(k.Holds) > 0 {
		fmt.Fprintf(w, "\nlegal holds: %d\n", len(k.Holds))
	}
}

func printHolds(w io.Writer, answer any) {
	fmt.Fprintln(w, "ON\tITEM\tPLACED\tBY\tREASON")
	for _, h := range answer.([]hold) {
		when := ""
		if h.Placed != nil {
			when = h.Placed.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", ofText(h.Kind, h.ID), orDash(h.Item), orDash(when), orDash(h.By),
			h.Reason)
	}
}

func ofText(kind, id string) string {
	if kind == "" {
		return "the resource"
	}
	return kind + "/" + id
}
