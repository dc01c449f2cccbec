package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
)

// account is a Face resource as the management plane writes it, as far as it is shown here.
type account struct {
	Name     string `json:"name"`
	Location string `json:"location"`
	SKU      struct {
		Name string `json:"name"`
	} `json:"sku"`
	Properties struct {
		Endpoint          string `json:"endpoint"`
		DateCreated       string `json:"dateCreated"`
		ProvisioningState string `json:"provisioningState"`
	} `json:"properties"`
}

type accountKeys struct {
	Key1 string `json:"key1"`
	Key2 string `json:"key2"`
}

// defineOutput adds -o, which chooses between a table and JSON.
func defineOutput(fs *flag.FlagSet) *string {
	return fs.String("o", "table", "form of the answer: table or json")
}

// resourceCommand is a command that speaks to the running server: run gets a client, the arguments, and how to print.
func resourceCommand(c command, nArgs int, more func(fs *flag.FlagSet), run func(context.Context, *client, []string) (any, error),
	table func(w io.Writer, answer any)) command {
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		dir, output := defineDir(fs), defineOutput(fs)
		if more != nil {
			more(fs)
		}
		return func(ctx context.Context, s streams, args []string) error {
			if len(args) != nArgs {
				return usage(&c, "takes %d arguments (%s), and was given %d", nArgs, c.args, len(args))
			}
			if *output != "table" && *output != "json" {
				return usage(&c, "-o is %q; allowed: table, json", *output)
			}
			at, err := dir()
			if err != nil {
				return hintUsage(err, &c)
			}
			cl, err := dial(at)
			if err != nil {
				return err
			}
			answer, err := run(ctx, cl, args)
			if err != nil {
				if r, ok := errors.AsType[*refused](err); ok && r.status == http.StatusNotFound {
					return hinted(err, "\"visage resource list\" shows the resources there are")
				}
				return err
			}
			if answer == nil {
				return nil
			}
			if *output == "json" {
				enc := json.NewEncoder(s.out)
				enc.SetIndent("", "  ")
				return enc.Encode(answer)
			}
			w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
			table(w, answer)
			return w.Flush()
		}
	}
	return c
}

func resourceCreateCommand() command {
	var opts struct{ sku, location string }
	return resourceCommand(command{
		name: "resource create", args: "NAME", summary: "Create a Face resource, with two keys of its own.",
		example: "visage resource create shop --sku S0",
	}, 1, func(fs *flag.FlagSet) {
		fs.StringVar(&opts.sku, "sku", "S0", "pricing tier: F0, S0 or E0 (default: S0)")
		fs.StringVar(&opts.location, "location", "local", "location, a word that is given back (default: local)")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		body := map[string]any{"kind": "Face", "location": opts.location, "sku": map[string]string{"name": opts.sku}}
		// PUT also changes what is there; creating must not.
		var there account
		err := c.manage(ctx, http.MethodGet, "/"+url.PathEscape(args[0]), nil, &there)
		if r, ok := errors.AsType[*refused](err); !ok || r.code != "ResourceNotFound" {
			if err == nil {
				err = hinted(fmt.Errorf("resource %q exists already", there.Name), "\"visage resource show %s\" shows it",
					there.Name)
			}
			return nil, err
		}
		var made account
		err = c.manage(ctx, http.MethodPut, "/"+url.PathEscape(args[0]), body, &made)
		return []account{made}, err
	}, printAccounts)
}

func resourceListCommand() command {
	return resourceCommand(command{name: "resource list", summary: "List the Face resources.",
		example: "visage resource list -o json"},
		0, nil, func(ctx context.Context, c *client, _ []string) (any, error) {
			var answer struct {
				Value []account `json:"value"`
			}
			err := c.manage(ctx, http.MethodGet, "", nil, &answer)
			return answer.Value, err
		}, printAccounts)
}

func resourceShowCommand() command {
	return resourceCommand(command{
		name: "resource show", args: "NAME", summary: "Show a Face resource.", example: "visage resource show default",
	}, 1, nil, func(ctx context.Context, c *client, args []string) (any, error) {
		var one account
		err := c.manage(ctx, http.MethodGet, "/"+url.PathEscape(args[0]), nil, &one)
		return []account{one}, err
	}, printAccounts)
}

func resourceKeysCommand() command {
	return resourceCommand(command{
		name: "resource keys", args: "NAME", summary: "Show the two keys of a Face resource. Either opens its data plane.",
		example: "visage resource keys default",
	}, 1, nil, func(ctx context.Context, c *client, args []string) (any, error) {
		var keys accountKeys
		err := c.manage(ctx, http.MethodPost, "/"+url.PathEscape(args[0])+"/listKeys", nil, &keys)
		return keys, err
	}, printKeys)
}

func resourceRegenerateCommand() command {
	return resourceCommand(command{
		name: "resource regenerate", args: "NAME key1|key2",
		summary: "Replace one key of a Face resource. The other stays, so that callers change over without a gap.",
		example: "visage resource regenerate default key1",
	}, 2, nil, func(ctx context.Context, c *client, args []string) (any, error) {
		var keys accountKeys
		err := c.manage(ctx, http.MethodPost, "/"+url.PathEscape(args[0])+"/regenerateKey",
			map[string]string{"keyName": args[1]}, &keys)
		return keys, err
	}, printKeys)
}

func resourceDeleteCommand() command {
	sure := false
	return resourceCommand(command{
		name: "resource delete", args: "NAME", summary: "Delete a Face resource with all its faces, for good.",
		example: "visage resource delete shop --yes",
	}, 1, func(fs *flag.FlagSet) {
		fs.BoolVar(&sure, "yes", false, "yes, delete it: nothing brings its data back")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		if !sure {
			return nil, &failure{err: fmt.Errorf("deleting %q destroys all its faces for good", args[0]), code: exitUsage,
				hint: fmt.Sprintf("\"visage resource delete %s --yes\" does it", args[0])}
		}
		if err := c.manage(ctx, http.MethodGet, "/"+url.PathEscape(args[0]), nil, nil); err != nil {
			return nil, err
		}
		return nil, c.manage(ctx, http.MethodDelete, "/"+url.PathEscape(args[0]), nil, nil)
	}, nil)
}

func printAccounts(w io.Writer, answer any) {
	fmt.Fprint(w, "NAME\tTIER\tLOCATION\tSTATE\tCREATED\tENDPOINT\n")
	for _, a := range answer.([]account) {
		created, _, _ := strings.Cut(a.Properties.DateCreated, ".")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", a.Name, a.SKU.Name, a.Location, a.Properties.ProvisioningState, created,
			a.Properties.Endpoint)
	}
}

func printKeys(w io.Writer, answer any) {
	keys := answer.(accountKeys)
	fmt.Fprintf(w, "key1\t%s\nkey2\t%s\n", keys.Key1, keys.Key2)
}
