// Package cmk implements "visage cmk": the commands that put resources under customer-managed keys, and those for
// requests to use such keys.
package cmk

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
)

// Command is "visage cmk".
func Command() *cobra.Command {
	return command.Noun("cmk", "Encrypt resources with customer-managed keys, and approve requests to use them",
		status(), check(), enable(), change(), disable(), lock(), unlock(), policy(),
		addStore(), removeStore(), promoteStore(),
		request(), requests(), approve(), reject(), withdraw(), capacity())
}

// encryption is a resource and the key that encrypts its data.
type encryption struct {
	Name       string              `json:"name"`
	Encryption *armwire.Encryption `json:"encryption"` // null: the service's key
}

func encryptionOf(a armwire.Account) encryption { return encryption{a.Name, a.Properties.Encryption} }

func status() *cobra.Command {
	c := command.New("status NAME", "Show which key encrypts a resource's data, and the state of that key",
		"visage cmk status vip")
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (encryption, error) {
		var a armwire.Account
		err := o.Manage(ctx, http.MethodGet, operator.Path(args[0]), nil, &a)
		return encryptionOf(a), err
	}, table)
}

// key is the flags that name a key.
type key struct {
	id, vault, name, version string
	register                 bool
}

func (k *key) define(c *cobra.Command) {
	k.defineName(c)
	c.Flags().BoolVar(&k.register, "register", true, "create a system-assigned identity and grant it access to the "+
		"key; --register=false skips this")
}

// defineName defines the flags that only name a key.
func (k *key) defineName(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&k.id, "key", "", "`IDENTIFIER` of the key: https://VAULT/keys/NAME[/VERSION], or as "+
		"docs/operations/key-stores.md has it for each kind of store, such as hashivault://HOST/MOUNT/keys/NAME; "+
		"without a version, the newest is used, and newer versions are adopted automatically")
	f.StringVar(&k.vault, "vault", "", "instead of --key: `NAME` or address of the key's vault")
	f.StringVar(&k.name, "key-name", "", "`NAME` of the key in --vault")
	f.StringVar(&k.version, "key-version", "", "`VERSION` of the key in --vault (default: the newest, as with --key)")
	operator.CompleteFlag(c, "vault", operator.Vaults)
}

// request returns the key as the management plane expects it.
func (k *key) request(ctx context.Context, o *operator.Client) (*armwire.EncryptionRequest, error) {
	var in armwire.KeyVaultProperties
	switch {
	case k.id != "" && k.vault == "" && k.name == "" && k.version == "":
		in.VaultURI = k.id
	case k.id != "" || k.vault == "" || k.name == "":
		return nil, command.Misuse("name the key either with --key, or with --vault and --key-name")
	default:
		address, err := o.VaultAddress(ctx, k.vault)
		if err != nil {
			return nil, err
		}
		in = armwire.KeyVaultProperties{VaultURI: address, KeyName: k.name, KeyVersion: k.version}
	}
	return &armwire.EncryptionRequest{KeySource: "Microsoft.KeyVault", Key: &in, Register: k.register}, nil
}

func enable() *cobra.Command {
	return encryptCommand("enable", "Encrypt a resource's data with a customer-managed key",
		"visage cmk enable vip --key https://safe.vault.localhost:8443/keys/faces")
}

func change() *cobra.Command {
	return encryptCommand("switch", "Switch a resource to another customer-managed key or another version",
		"visage cmk switch vip --vault safe --key-name other")
}

func encryptCommand(verb, summary, example string) *cobra.Command {
	var k key
	c := command.New(verb+" NAME", summary, example)
	k.define(c)
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (encryption, error) {
		want, err := k.request(ctx, o)
		if err != nil {
			return encryption{}, err
		}
		return encrypt(ctx, o, args[0], want)
	}, table)
}

func disable() *cobra.Command {
	c := command.New("disable NAME",
		"Encrypt a resource's data with the service's key again. The customer-managed key must still answer.",
		"visage cmk disable vip")
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (encryption, error) {
		return encrypt(ctx, o, args[0], &armwire.EncryptionRequest{KeySource: "Microsoft.CognitiveServices"})
	}, table)
}

// steps describes each step of a change, by the server's names.
var steps = map[string]string{
	"wrapped":   "wrapping a new data key",
	"intended":  "writing the audit entry",
	"pending":   "recording the change",
	"acked":     "asking the key once more, over a new connection",
	"turned":    "sealing the key pages under the new data key",
	"destroyed": "destroying the earlier keys",
	"rewrapped": "wrapping the data key under the new version",
	"done":      "ending the change",
}

// pollInterval is the time between two requests for the progress of a change. Most changes take milliseconds.
const pollInterval = 200 * time.Millisecond

// encrypt changes the key that encrypts a resource's data, and waits until the change is complete.
func encrypt(
	ctx context.Context, o *operator.Client, name string, want *armwire.EncryptionRequest,
) (encryption, error) {
	var a armwire.Account
	body := armwire.AccountRequest{Properties: armwire.AccountRequestProperties{Encryption: want}}
	if err := o.Manage(ctx, http.MethodPatch, operator.Path(name), body, &a); err != nil {
		return encryption{}, err
	}
	a, err := finished(ctx, o, name, a)
	return encryptionOf(a), err
}

// finished waits until the change that a command has begun is complete, and returns the account then; a is the answer
// to the command.
func finished(ctx context.Context, o *operator.Client, name string, a armwire.Account) (armwire.Account, error) {
	step, waited := "", false
	for a.Properties.ProvisioningState == "Accepted" {
		if s := a.Properties.Encryption.Status; s.Operation != nil && s.Operation.Step != step {
			step = s.Operation.Step
			o.Note("%s: %s", s.Operation.Kind, cmp.Or(steps[step], step))
		}
		select {
		case <-ctx.Done():
			return a, ctx.Err()
		case <-time.After(pollInterval):
		}
		a, waited = armwire.Account{}, true
		if err := o.Manage(ctx, http.MethodGet, operator.Path(name), nil, &a); err != nil {
			return a, err
		}
	}
	// An operation without a wait before it is an earlier one: this request changed nothing.
	if s := a.Properties.Encryption.Status; waited && s.Operation != nil && s.Operation.Progress == "failed" {
		return a, &operator.Refused{
			Status: http.StatusConflict, Code: s.Operation.Code, Message: s.Operation.Reason,
		}
	}
	return a, nil
}

func lock() *cobra.Command {
	return postCommand("lock", "Lock a resource that has a customer-managed key, at once. It stays locked until "+
		"\"visage cmk unlock\".")
}

func unlock() *cobra.Command {
	return postCommand("unlock", "End a lock set by \"visage cmk lock\", and ask the key at once. The data opens if "+
		"the key permits it.")
}

func postCommand(verb, summary string) *cobra.Command {
	c := command.New(verb+" NAME", summary, "visage cmk "+verb+" vip")
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (encryption, error) {
		var a armwire.Account
		err := o.Manage(ctx, http.MethodPost, operator.Path(args[0])+"/encryption:"+verb, nil, &a)
		return encryptionOf(a), err
	}, table)
}

func policy() *cobra.Command {
	var opts struct {
		grace                  time.Duration
		lockOnExpiry, byUnlock bool
	}
	c := command.New("policy NAME",
		"Replace the policy for when a customer-managed key does not answer. All of it is replaced: flags that you "+
			"omit reset to their defaults, whatever was set before.",
		"visage cmk policy vip --grace 5m")
	f := c.Flags()
	f.DurationVar(&opts.grace, "grace", 0,
		"`DURATION` for which data stays available while the vault does not answer, 1m to 24h "+
			"(default: --key-grace of the server)")
	f.BoolVar(&opts.lockOnExpiry, "lock-on-expiry", false,
		"lock the data when the key expires, although it still unwraps")
	f.BoolVar(&opts.byUnlock, "manual-restore", false,
		"after a revocation, open the data only by \"visage cmk unlock\"")
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (encryption, error) {
		var a armwire.Account
		body := armwire.KeyPolicy{
			GraceSeconds: int64(opts.grace / time.Second), LockOnExpiry: opts.lockOnExpiry,
			ManualRestore: opts.byUnlock,
		}
		err := o.Manage(ctx, http.MethodPut, operator.Path(args[0])+"/encryption:policy", body, &a)
		return encryptionOf(a), err
	}, table)
}

func table(t *command.Table, e encryption) {
	t.Row("NAME", "STATE", "SINCE", "KEY", "LAST SUCCESS", "NEXT CHECK", "REASON")
	if e.Encryption == nil || e.Encryption.Status == nil {
		t.Row(e.Name, "service-managed", "-", "-", "-", "-", "-")
		return
	}
	s := e.Encryption.Status
	t.Row(e.Name, s.State, command.Clock(s.Since), command.Dash(s.Key), command.Clock(s.LastSuccess),
		command.Clock(s.NextCheck), command.Dash(s.Reason))
	for i, store := range s.Stores {
		answer := command.Dash(store.Answer)
		if store.Serving {
			answer += ", serves"
		}
		if store.Expires != "" {
			answer += ", " + expiry(store.Expires, time.Now())
		}
		t.Row(fmt.Sprintf("  store %d", i+1), answer, "-", store.Key, command.Clock(store.LastSuccess),
			command.Clock(store.NextCheck), command.Dash(store.Cause))
	}
	if len(s.Stores) == 0 && s.Expires != "" {
		t.Line("the key %s", expiry(s.Expires, time.Now()))
	}
}
