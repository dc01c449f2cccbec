// Package key implements "visage key", the commands for the keys of a vault. They use the official client of Azure Key
// Vault.
package key

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
)

// Command is "visage key".
func Command() *cobra.Command {
	return command.Noun("key", "Create, import, rotate, disable and back up the keys of a vault",
		create(), importKey(), public(), list(), versions(), show(), update(), rotate(), rotation(), remove(),
		restoreDeleted(), purge(), backup(), restoreBackup())
}

// key is a key, or a version of one, in the output of these commands.
type key struct {
	ID        string     `json:"kid"`
	Type      string     `json:"kty,omitempty"`
	Enabled   *bool      `json:"enabled,omitempty"`
	NotBefore *time.Time `json:"notBefore,omitempty"`
	Expires   *time.Time `json:"expires,omitempty"`
	Created   *time.Time `json:"created,omitempty"`
	Purge     *time.Time `json:"scheduledPurge,omitempty"` // of a deleted key
}

// keysOf returns the official client of a vault of the running server.
func keysOf(o *operator.Client, vault string) (*azkeys.Client, error) {
	if vault == "" {
		return nil, command.Hinted(command.Misuse("--vault is required: the name of the key's vault"),
			"\"visage vault list\" lists the vaults")
	}
	options := &azkeys.ClientOptions{}
	options.Transport, options.Retry.MaxRetries = o.HTTP, -1
	return azkeys.NewClient(o.Origin.Sub(operator.VaultDomain).Sub(vault).String(), credential{o}, options)
}

// credential gets tokens of the operator for the official client.
type credential struct{ o *operator.Client }

// GetToken implements azcore.TokenCredential.
func (k credential) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := k.o.TokenFor(ctx, options.Scopes[0])
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(time.Hour)}, err
}

// defineVault adds the flag --vault, and completes the first operand with names of the vault's keys.
func defineVault(c *cobra.Command, deleted bool) *string {
	vault := c.Flags().String("vault", "", "`NAME` of the key vault (required)")
	operator.CompleteFlag(c, "vault", operator.Vaults)
	operator.Complete(c, func(ctx context.Context, o *operator.Client, _ *cobra.Command) ([]string, error) {
		keys, err := keysOf(o, *vault)
		if err != nil {
			return nil, err
		}
		all, err := listKeys(ctx, keys, deleted)
		var names []string
		for _, k := range all {
			names = append(names, k.ID[strings.LastIndex(k.ID, "/")+1:])
		}
		return names, err
	})
	return vault
}

// inVault makes c a command that sends a request to a vault and shows the answer.
func inVault[T any](
	c *cobra.Command, vault *string, run func(context.Context, *azkeys.Client, []string) (T, error),
	fill func(*command.Table, T),
) *cobra.Command {
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (T, error) {
		keys, err := keysOf(o, *vault)
		if err != nil {
			var none T
			return none, err
		}
		answer, err := run(ctx, keys, args)
		return answer, refusal(err, *vault)
	}, fill)
}

// doInVault makes c a command that sends a request to a vault and shows nothing.
func doInVault(
	c *cobra.Command, vault *string, run func(context.Context, *azkeys.Client, []string) error,
) *cobra.Command {
	return operator.Do(c, func(ctx context.Context, o *operator.Client, args []string) error {
		keys, err := keysOf(o, *vault)
		if err != nil {
			return err
		}
		return refusal(run(ctx, keys, args), *vault)
	})
}

// refusal converts a vault's refusal to the form of the other commands.
func refusal(err error, vault string) error {
	said, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		if dial, ok := errors.AsType[*net.OpError](err); ok {
			return &command.Failure{Err: fmt.Errorf("reach the server: %w", dial), Code: command.ExitUnreachable,
				Hint: "is it running? \"visage serve\" starts it"}
		}
		return err
	}
	defer said.RawResponse.Body.Close()
	const most = 1 << 20 // far more than any refusal has
	b, readErr := io.ReadAll(io.LimitReader(said.RawResponse.Body, most))
	if readErr != nil {
		return err
	}
	err = operator.Problem(said.RawResponse, b)
	switch {
	case said.StatusCode == http.StatusNotFound && said.ErrorCode == "KeyNotFound":
		return command.Hinted(err, "\"visage key list --vault %s\" lists the keys", vault)
	case said.StatusCode == http.StatusNotFound:
		return command.Hinted(err, "\"visage vault list\" lists the vaults")
	}
	return err
}

func bundleOf(b azkeys.KeyBundle) []key {
	k := key{ID: string(*b.Key.KID), Type: string(*b.Key.Kty)}
	k.take(b.Attributes)
	return []key{k}
}

func (k *key) take(a *azkeys.KeyAttributes) {
	if a != nil {
		k.Enabled, k.NotBefore, k.Expires, k.Created = a.Enabled, a.NotBefore, a.Expires, a.Created
	}
}

func list() *cobra.Command {
	deleted := false
	c := command.New("list", "List the keys of a vault", "visage key list --vault safe")
	vault := defineVault(c, false)
	c.Flags().BoolVar(&deleted, "deleted", false, "list deleted keys that can still be recovered")
	return inVault(c, vault, func(ctx context.Context, keys *azkeys.Client, _ []string) ([]key, error) {
		return listKeys(ctx, keys, deleted)
	}, table)
}

// listKeys returns the keys of a vault, or its deleted ones.
func listKeys(ctx context.Context, keys *azkeys.Client, deleted bool) ([]key, error) {
	all := []key{}
	for pager := keys.NewListKeyPropertiesPager(nil); !deleted && pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range page.Value {
			k := key{ID: string(*p.KID)}
			k.take(p.Attributes)
			all = append(all, k)
		}
	}
	for pager := keys.NewListDeletedKeyPropertiesPager(nil); deleted && pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range page.Value {
			k := key{ID: string(*p.KID), Purge: p.ScheduledPurgeDate}
			k.take(p.Attributes)
			all = append(all, k)
		}
	}
	return all, nil
}

func versions() *cobra.Command {
	c := command.New("versions NAME", "List the versions of a key", "visage key versions faces --vault safe")
	return inVault(c, defineVault(c, false), func(
		ctx context.Context, keys *azkeys.Client, args []string,
	) ([]key, error) {
		all := []key{}
		for pager := keys.NewListKeyPropertiesVersionsPager(args[0], nil); pager.More(); {
			page, err := pager.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, p := range page.Value {
				k := key{ID: string(*p.KID)}
				k.take(p.Attributes)
				all = append(all, k)
			}
		}
		return all, nil
	}, table)
}

func show() *cobra.Command {
	c := command.New("show NAME [VERSION]", "Show a key: the newest version, or the one given",
		"visage key show faces --vault safe")
	return inVault(c, defineVault(c, false), func(
		ctx context.Context, keys *azkeys.Client, args []string,
	) ([]key, error) {
		one, err := keys.GetKey(ctx, args[0], second(args), nil)
		if err != nil {
			return nil, err
		}
		return bundleOf(one.KeyBundle), nil
	}, table)
}

// second returns the second operand, which is optional.
func second(args []string) string {
	if len(args) > 1 {
		return args[1]
	}
	return ""
}

func table(t *command.Table, all []key) {
	t.Row("KEY", "TYPE", "ENABLED", "CREATED", "NOT BEFORE", "EXPIRES")
	clock := func(t *time.Time) string {
		if t == nil {
			return "-"
		}
		return t.UTC().Format("2006-01-02T15:04:05")
	}
	for _, k := range all {
		enabled := "-"
		switch {
		case k.Purge != nil:
			enabled = "deleted, to be purged " + clock(k.Purge)
		case k.Enabled != nil:
			enabled = fmt.Sprint(*k.Enabled)
		}
		t.Row(k.ID, command.Dash(k.Type), enabled, clock(k.Created), clock(k.NotBefore), clock(k.Expires))
	}
}
