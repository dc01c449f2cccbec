package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

func resourceDeleteCommand() command {
	return resourceCommand(command{
		name: "resource delete", args: "NAME",
		summary: "Delete a Face resource. It stops serving at once, and can be recovered for 48 hours.",
		example: "visage resource delete shop",
	}, 1, nil, func(ctx context.Context, c *client, args []string) (any, error) {
		if err := c.manage(ctx, http.MethodGet, pathTo(args[0]), nil, nil); err != nil {
			return nil, err
		}
		if err := c.manage(ctx, http.MethodDelete, pathTo(args[0]), nil, nil); err != nil {
			return nil, err
		}
		one, err := c.deleted(ctx, args[0])
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(c.notes, "visage: %s can be recovered until %s\n", one.Name, one.Properties.ScheduledPurgeDate)
		return nil, nil
	}, nil)
}

func resourceRecoverCommand() command {
	return resourceCommand(command{
		name: "resource recover", args: "NAME",
		summary: "Bring a deleted Face resource back, with its faces and its keys.",
		example: "visage resource recover shop",
	}, 1, nil, func(ctx context.Context, c *client, args []string) (any, error) {
		one, err := c.deleted(ctx, args[0])
		if err != nil {
			return nil, err
		}
		body := map[string]any{"kind": "Face", "location": one.Location, "properties": map[string]bool{"restore": true}}
		var back account
		err = c.manage(ctx, http.MethodPut, pathTo(args[0]), body, &back)
		return []account{back}, err
	}, printAccounts)
}

func resourcePurgeCommand() command {
	sure := false
	return resourceCommand(command{
		name: "resource purge", args: "NAME", summary: "Destroy a deleted Face resource with all its faces, for good.",
		example: "visage resource purge shop --yes",
	}, 1, func(fs *flag.FlagSet) {
		fs.BoolVar(&sure, "yes", false, "yes, destroy it: nothing brings its data back")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		if !sure {
			return nil, &failure{err: fmt.Errorf("purging %q destroys all its faces for good", args[0]),
				code: exitUsage,
				hint: fmt.Sprintf("\"visage resource purge %s --yes\" does it", args[0])}
		}
		one, err := c.deleted(ctx, args[0])
		if err != nil {
			return nil, err
		}
		path := fmt.Sprintf("/locations/%s/resourceGroups/%s/deletedAccounts/%s", url.PathEscape(one.Location),
			url.PathEscape(c.operator.ResourceGroup), url.PathEscape(one.Name))
		return nil, c.provider(ctx, http.MethodDelete, path, nil, nil)
	}, nil)
}

// deleted returns the deleted resource called name.
func (c *client) deleted(ctx context.Context, name string) (account, error) {
	var all struct {
		Value []account `json:"value"`
	}
	if err := c.provider(ctx, http.MethodGet, "/deletedAccounts", nil, &all); err != nil {
		return account{}, err
	}
	for _, one := range all.Value {
		if strings.EqualFold(one.Name, name) {
			return one, nil
		}
	}
	return account{}, hinted(fmt.Errorf("there is no deleted resource called %q", name),
		"\"visage resource list --deleted\" shows those there are")
}
