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
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Location string            `json:"location"`
	Tags     map[string]string `json:"tags,omitempty"`
	SKU      struct {
		Name string `json:"name"`
	} `json:"sku"`
	Identity   *accountIdentity `json:"identity,omitempty"`
	Properties struct {
		Endpoint           string      `json:"endpoint"`
		CustomSubDomain    string      `json:"customSubDomainName,omitempty"`
		DateCreated        string      `json:"dateCreated"`
		DisableLocalAuth   bool        `json:"disableLocalAuth"`
		Encryption         *encryption `json:"encryption,omitempty"`
		ProvisioningState  string      `json:"provisioningState"`
		DeletionDate       string      `json:"deletionDate,omitempty"`
		ScheduledPurgeDate string      `json:"scheduledPurgeDate,omitempty"`
	} `json:"properties"`
}

type accountIdentity struct {
	Type        string `json:"type"`
	PrincipalID string `json:"principalId,omitempty"`
	TenantID    string `json:"tenantId,omitempty"`
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
// It takes nArgs arguments, of which those in brackets in c.args may be left out.
func resourceCommand(c command, nArgs int, more func(fs *flag.FlagSet),
	run func(context.Context, *client, []string) (any, error),
	table func(w io.Writer, answer any)) command {
	c.define = func(fs *flag.FlagSet) func(context.Context, streams, []string) error {
		dir, output := defineDir(fs), defineOutput(fs)
		if more != nil {
			more(fs)
		}
		return func(ctx context.Context, s streams, args []string) error {
			least := nArgs - strings.Count(c.args, "[")
			if len(args) < least || len(args) > nArgs {
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
			cl.notes = s.err
			answer, err := run(ctx, cl, args)
			if err != nil {
				return resourceHint(err, args)
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

// resourceHint names the command that helps with what the server refused.
func resourceHint(err error, args []string) error {
	r, ok := errors.AsType[*refused](err)
	if _, has := errors.AsType[*failure](err); has || !ok {
		return err
	}
	switch r.code {
	case "ResourceNotFound":
		return hinted(err, "\"visage resource list\" shows the resources there are")
	case "AccessRequestNotFound":
		return hinted(err, "\"visage cmk requests\" shows the requests there are")
	case "LegalHold", "LegalHoldNotFound":
		return hinted(err, "\"visage hold list %s\" shows the holds there are", args[0])
	case "FlagMustBeSetForRestore":
		return hinted(
			err, "\"visage resource recover %s\" brings it back, \"visage resource purge %s --yes\" destroys it",
			args[0], args[0],
		)
	case "CustomerManagedKeyNotApproved":
		return hinted(err, "\"visage cmk request\" asks for it, \"visage cmk requests\" shows how far that has come")
	}
	return err
}

func resourceCreateCommand() command {
	var opts struct {
		sku, location, tags, subdomain string
		identity, noKeys               bool
	}
	return resourceCommand(command{
		name: "resource create", args: "NAME", summary: "Create a Face resource, with two keys of its own.",
		example: "visage resource create shop --sku S0",
	}, 1, func(fs *flag.FlagSet) {
		fs.StringVar(&opts.sku, "sku", "S0", "pricing tier: F0, S0 or E0 (default: S0)")
		fs.StringVar(&opts.location, "location", "local", "location, a word that is given back (default: local)")
		fs.StringVar(&opts.tags, "tags", "", "tags: name=value, with commas between")
		fs.StringVar(&opts.subdomain, "custom-domain", "", "first label of the resource's own host (default: its name)")
		fs.BoolVar(&opts.identity, "assign-identity", false, "give it a system-assigned identity")
		fs.BoolVar(&opts.noKeys, "disable-keys", false, "let bearer tokens open it, and no key")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		properties := map[string]any{"disableLocalAuth": opts.noKeys}
		body := map[string]any{
			"kind": "Face", "location": opts.location, "sku": map[string]string{"name": opts.sku},
			"properties": properties,
		}
		if opts.subdomain != "" {
			properties["customSubDomainName"] = opts.subdomain
		}
		if opts.tags != "" {
			tags, err := parseTags(opts.tags)
			if err != nil {
				return nil, err
			}
			body["tags"] = tags
		}
		if opts.identity {
			body["identity"] = map[string]string{"type": "SystemAssigned"}
		}
		// PUT also changes what is there; creating must not.
		var there account
		err := c.manage(ctx, http.MethodGet, pathTo(args[0]), nil, &there)
		if r, ok := errors.AsType[*refused](err); !ok || r.code != "ResourceNotFound" {
			if err == nil {
				err = hinted(fmt.Errorf("resource %q exists already", there.Name),
					"\"visage resource show %s\" shows it",
					there.Name)
			}
			return nil, err
		}
		var made account
		err = c.manage(ctx, http.MethodPut, pathTo(args[0]), body, &made)
		return []account{made}, err
	}, printAccounts)
}

func resourceListCommand() command {
	deleted := false
	return resourceCommand(command{name: "resource list", summary: "List the Face resources.",
		example: "visage resource list -o json"},
		0, func(fs *flag.FlagSet) {
			fs.BoolVar(&deleted, "deleted", false, "list those that were deleted and can be recovered")
		}, func(ctx context.Context, c *client, _ []string) (any, error) {
			var answer struct {
				Value []account `json:"value"`
			}
			if deleted {
				err := c.provider(ctx, http.MethodGet, "/deletedAccounts", nil, &answer)
				return answer.Value, err
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
		err := c.manage(ctx, http.MethodGet, pathTo(args[0]), nil, &one)
		return []account{one}, err
	}, printAccounts)
}

func resourceUpdateCommand() command {
	var opts struct {
		sku, tags, subdomain string
		noKeys, withKeys     bool
	}
	return resourceCommand(command{
		name: "resource update", args: "NAME", summary: "Change a Face resource. What is not given stays.",
		example: "visage resource update shop --tags team=front",
	}, 1, func(fs *flag.FlagSet) {
		fs.StringVar(&opts.sku, "sku", "", "pricing tier: F0 or S0; E0 is chosen when a resource is made, and kept")
		fs.StringVar(&opts.tags, "tags", "", "tags in place of those there are: name=value, with commas between")
		fs.StringVar(&opts.subdomain, "custom-domain", "", "first label of the resource's own host, once and for all")
		fs.BoolVar(&opts.noKeys, "disable-keys", false, "let bearer tokens open it, and no key")
		fs.BoolVar(&opts.withKeys, "enable-keys", false, "let its keys open it again")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		body, properties := map[string]any{}, map[string]any{}
		if opts.sku != "" {
			body["sku"] = map[string]string{"name": opts.sku}
		}
		if opts.tags != "" {
			tags, err := parseTags(opts.tags)
			if err != nil {
				return nil, err
			}
			body["tags"] = tags
		}
		if opts.subdomain != "" {
			properties["customSubDomainName"] = opts.subdomain
		}
		if opts.noKeys != opts.withKeys {
			properties["disableLocalAuth"] = opts.noKeys
		}
		body["properties"] = properties
		var one account
		err := c.manage(ctx, http.MethodPatch, pathTo(args[0]), body, &one)
		return []account{one}, err
	}, printAccounts)
}

func resourceKeysCommand() command {
	return resourceCommand(command{
		name: "resource keys", args: "NAME",
		summary: "Show the two keys of a Face resource. Either opens its data plane.",
		example: "visage resource keys default",
	}, 1, nil, func(ctx context.Context, c *client, args []string) (any, error) {
		var keys accountKeys
		err := c.manage(ctx, http.MethodPost, pathTo(args[0])+"/listKeys", nil, &keys)
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
		err := c.manage(ctx, http.MethodPost, pathTo(args[0])+"/regenerateKey",
			map[string]string{"keyName": args[1]}, &keys)
		return keys, err
	}, printKeys)
}

func resourceIdentityCommand() command {
	var opts struct{ assign, remove bool }
	return resourceCommand(command{
		name: "resource identity", args: "NAME",
		summary: "Show, assign or remove the system-assigned identity of a Face resource.",
		example: "visage resource identity shop --assign",
	}, 1, func(fs *flag.FlagSet) {
		fs.BoolVar(&opts.assign, "assign", false, "give it one, if it has none")
		fs.BoolVar(&opts.remove, "remove", false,
			"take it away: data under a customer's key cannot be reached any more")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		var one account
		var err error
		switch {
		case opts.assign == opts.remove:
			err = c.manage(ctx, http.MethodGet, pathTo(args[0]), nil, &one)
		default:
			kind := map[bool]string{true: "SystemAssigned", false: "None"}[opts.assign]
			body := map[string]any{"identity": map[string]string{"type": kind}}
			err = c.manage(ctx, http.MethodPatch, pathTo(args[0]), body, &one)
		}
		if one.Identity == nil {
			one.Identity = &accountIdentity{Type: "None"}
		}
		return *one.Identity, err
	}, func(w io.Writer, answer any) {
		i := answer.(accountIdentity)
		fmt.Fprintf(w, "TYPE\tPRINCIPAL\tTENANT\n%s\t%s\t%s\n", i.Type, dash(i.PrincipalID), dash(i.TenantID))
	})
}

// pathTo is the path of a resource, relative to those of the group.
func pathTo(name string) string { return "/" + url.PathEscape(name) }

// parseTags reads name=value,name=value.
func parseTags(s string) (map[string]string, error) {
	tags := map[string]string{}
	for pair := range strings.SplitSeq(s, ",") {
		name, value, found := strings.Cut(pair, "=")
		if !found || name == "" {
			return nil, &failure{err: fmt.Errorf("--tags has %q; allowed: name=value, with commas between", pair),
				code: exitUsage}
		}
		tags[name] = value
	}
	return tags, nil
}

// dash stands where there is nothing, so that columns stay columns.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func printAccounts(w io.Writer, answer any) {
	fmt.Fprint(w, "NAME\tTIER\tLOCATION\tSTATE\tCREATED\tENDPOINT\n")
	for _, a := range answer.([]account) {
		created, _, _ := strings.Cut(a.Properties.DateCreated, ".")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", a.Name, a.SKU.Name, a.Location, a.Properties.ProvisioningState,
			created,
			a.Properties.Endpoint)
	}
}

func printKeys(w io.Writer, answer any) {
	keys := answer.(accountKeys)
	fmt.Fprintf(w, "key1\t%s\nkey2\t%s\n", keys.Key1, keys.Key2)
}
