package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// encryption is who holds the key of a resource's data, as the management plane writes it.
type encryption struct {
	KeySource string `json:"keySource"`
	Key       *struct {
		KeyName    string `json:"keyName"`
		KeyVersion string `json:"keyVersion,omitempty"`
		VaultURI   string `json:"keyVaultUri"`
	} `json:"keyVaultProperties,omitempty"`
	Status *struct {
		State       string `json:"state"`
		Since       string `json:"since,omitempty"`
		Code        string `json:"code,omitempty"`
		Reason      string `json:"reason,omitempty"`
		Key         string `json:"keyIdentifier,omitempty"`
		Version     string `json:"keyVersion,omitempty"`
		PrincipalID string `json:"principalId,omitempty"`
		LastSuccess string `json:"lastSuccess,omitempty"`
		NextCheck   string `json:"nextCheck,omitempty"`
		Policy      *struct {
			GraceSeconds  int64 `json:"graceSeconds"`
			LockOnExpiry  bool  `json:"lockOnExpiry"`
			ManualRestore bool  `json:"manualRestore"`
		} `json:"policy,omitempty"`
		Operation *struct {
			Kind     string `json:"kind"`
			Progress string `json:"progress"`
			Step     string `json:"step,omitempty"`
			Code     string `json:"code,omitempty"`
			Reason   string `json:"reason,omitempty"`
			Started  string `json:"started,omitempty"`
			Ended    string `json:"ended,omitempty"`
		} `json:"operation,omitempty"`
	} `json:"status,omitempty"`
}

// custody is a resource and who holds its key.
type custody struct {
	Name       string      `json:"name"`
	Encryption *encryption `json:"encryption"` // null: the service, by default
}

func custodyOf(a account) custody { return custody{a.Name, a.Properties.Encryption} }

func cmkStatusCommand() command {
	return resourceCommand(command{
		name: "cmk status", args: "NAME", summary: "Show who holds the key of a resource's data, and how that stands.",
		example: "visage cmk status vip",
	}, 1, nil, func(ctx context.Context, c *client, args []string) (any, error) {
		var one account
		err := c.manage(ctx, http.MethodGet, pathTo(args[0]), nil, &one)
		return custodyOf(one), err
	}, printCustody)
}

// keyOptions say which key is meant.
type keyOptions struct {
	key, vault, name, version string
	register                  bool
}

func (o *keyOptions) define(fs *flag.FlagSet) {
	fs.StringVar(&o.key, "key", "",
		"identifier of the key, https://VAULT/keys/NAME or https://VAULT/keys/NAME/VERSION;\n"+
			"without a version the newest is used, and every newer one from then on")
	fs.StringVar(&o.vault, "vault", "", "vault of the key, by its name or its address, in place of --key")
	fs.StringVar(&o.name, "key-name", "", "name of the key in --vault")
	fs.StringVar(&o.version, "key-version", "", "version of the key in --vault (default: as with --key)")
	fs.BoolVar(&o.register, "register", true,
		"switch the system-assigned identity on and give it access to the key (default: true)")
}

// encryption is what the management plane is sent.
func (o *keyOptions) encryption(ctx context.Context, c *client) (map[string]any, error) {
	wrong := func(format string, args ...any) (map[string]any, error) {
		return nil, &failure{err: fmt.Errorf(format, args...), code: exitUsage,
			hint: "\"visage help cmk enable\" shows how it is called"}
	}
	properties := map[string]string{}
	switch {
	case o.key != "" && o.vault == "" && o.name == "" && o.version == "":
		properties["keyVaultUri"] = o.key
	case o.key != "" || o.vault == "" || o.name == "":
		return wrong("a key is named by --key, or by --vault and --key-name")
	default:
		address, err := c.vaultAddress(ctx, o.vault)
		if err != nil {
			return nil, err
		}
		properties["keyVaultUri"], properties["keyName"], properties["keyVersion"] = address, o.name, o.version
	}
	return map[string]any{"keySource": "Microsoft.KeyVault", "keyVaultProperties": properties, "register": o.register},
		nil
}

// vaultAddress returns the address of a vault that may be named by its name.
func (c *client) vaultAddress(ctx context.Context, vault string) (string, error) {
	if strings.Contains(vault, "/") {
		return vault, nil
	}
	var one struct {
		Properties struct {
			VaultURI string `json:"vaultUri"`
		} `json:"properties"`
	}
	err := c.arm(ctx, http.MethodGet,
		fmt.Sprintf("/resourceGroups/%s/providers/Microsoft.KeyVault/vaults/%s", c.operator.ResourceGroup,
			url.PathEscape(vault)), nil, &one)
	return one.Properties.VaultURI, err
}

func cmkEnableCommand() command {
	return cmkKeyCommand("enable", "Put the data of a resource under a key of the customer's own.",
		"visage cmk enable vip --key https://safe.vault.localhost:8443/keys/faces")
}

func cmkSwitchCommand() command {
	return cmkKeyCommand("switch", "Put the data of a resource under another key, or another version of it.",
		"visage cmk switch vip --vault safe --key-name other")
}

func cmkKeyCommand(verb, summary, example string) command {
	var opts keyOptions
	return resourceCommand(command{name: "cmk " + verb, args: "NAME", summary: summary, example: example}, 1,
		opts.define,
		func(ctx context.Context, c *client, args []string) (any, error) {
			want, err := opts.encryption(ctx, c)
			if err != nil {
				return nil, err
			}
			return c.encrypt(ctx, args[0], want)
		}, printCustody)
}

func cmkDisableCommand() command {
	return resourceCommand(command{
		name: "cmk disable", args: "NAME",
		summary: "Put the data of a resource back under the service's key. The customer's key must answer.",
		example: "visage cmk disable vip",
	}, 1, nil, func(ctx context.Context, c *client, args []string) (any, error) {
		return c.encrypt(ctx, args[0], map[string]any{"keySource": "Microsoft.CognitiveServices"})
	}, printCustody)
}

// askAgain is how long the client waits before it asks again how far a change has come.
const askAgain = 200 * time.Millisecond

// encrypt changes who holds the key of a resource, and waits until that is done.
func (c *client) encrypt(ctx context.Context, name string, want map[string]any) (any, error) {
	var one account
	body := map[string]any{"properties": map[string]any{"encryption": want}}
	err := c.manage(ctx, http.MethodPatch, pathTo(name), body, &one)
	step, waited := "", false
	for err == nil && one.Properties.ProvisioningState == "Accepted" {
		if s := one.Properties.Encryption.Status; s.Operation != nil && s.Operation.Step != step {
			step = s.Operation.Step
			fmt.Fprintf(c.notes, "visage: %s: %s\n", s.Operation.Kind, step)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(askAgain):
		}
		err, waited = c.manage(ctx, http.MethodGet, pathTo(name), nil, &one), true
	}
	if err != nil {
		return nil, err
	}
	// else it is one from before, which changed nothing
	if s := one.Properties.Encryption.Status; waited && s.Operation != nil && s.Operation.Progress == "failed" {
		return nil, &refused{http.StatusConflict, s.Operation.Code, s.Operation.Reason}
	}
	return custodyOf(one), nil
}

func cmkLockCommand() command {
	return cmkDoorCommand("lock", "Close the data of a resource under a customer's key at once, until it is unlocked.")
}

func cmkUnlockCommand() command {
	return cmkDoorCommand("unlock", "Ask the customer's key again at once. The data opens when it says yes.")
}

func cmkDoorCommand(verb, summary string) command {
	return resourceCommand(
		command{name: "cmk " + verb, args: "NAME", summary: summary, example: "visage cmk " + verb + " vip"}, 1, nil,
		func(ctx context.Context, c *client, args []string) (any, error) {
			var one account
			err := c.manage(ctx, http.MethodPost, pathTo(args[0])+"/encryption:"+verb, nil, &one)
			return custodyOf(one), err
		}, printCustody)
}

func cmkPolicyCommand() command {
	var opts struct {
		grace                  time.Duration
		lockOnExpiry, byUnlock bool
	}
	return resourceCommand(command{
		name: "cmk policy", args: "NAME",
		summary: "Say what happens when a resource's key does not simply say yes. What is not given is the default.",
		example: "visage cmk policy vip --grace 5m",
	}, 1, func(fs *flag.FlagSet) {
		fs.DurationVar(&opts.grace, "grace", 0,
			"how long the vault may give no answer before data is refused, 1m to 24h (default: the instance's, 1h)")
		fs.BoolVar(&opts.lockOnExpiry, "lock-on-expiry", false, "an expired key locks, though it still unwraps")
		fs.BoolVar(&opts.byUnlock, "manual-restore", false, "access that returns opens only by \"visage cmk unlock\"")
	}, func(ctx context.Context, c *client, args []string) (any, error) {
		var one account
		body := map[string]any{
			"graceSeconds": int64(opts.grace / time.Second), "lockOnExpiry": opts.lockOnExpiry,
			"manualRestore": opts.byUnlock,
		}
		err := c.manage(ctx, http.MethodPut, pathTo(args[0])+"/encryption:policy", body, &one)
		return custodyOf(one), err
	}, printCustody)
}

func printCustody(w io.Writer, answer any) {
	fmt.Fprint(w, "NAME\tSTATE\tSINCE\tKEY\tLAST SUCCESS\tNEXT CHECK\tREASON\n")
	one := answer.(custody)
	if one.Encryption == nil || one.Encryption.Status == nil {
		fmt.Fprintf(w, "%s\tservice-managed\t-\t-\t-\t-\t-\n", one.Name)
		return
	}
	s := one.Encryption.Status
	clock := func(stamp string) string {
		short, _, _ := strings.Cut(stamp, ".")
		return dash(short)
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", one.Name, s.State, clock(s.Since), dash(s.Key), clock(s.LastSuccess),
		clock(s.NextCheck), dash(s.Reason))
}
