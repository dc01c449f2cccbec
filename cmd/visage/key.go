package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// vaultKey is a key, or a version of one, as these commands show it.
type vaultKey struct {
	ID        string     `json:"kid"`
	Type      string     `json:"kty,omitempty"`
	Enabled   *bool      `json:"enabled,omitempty"`
	NotBefore *time.Time `json:"notBefore,omitempty"`
	Expires   *time.Time `json:"expires,omitempty"`
	Created   *time.Time `json:"created,omitempty"`
	Purge     *time.Time `json:"scheduledPurge,omitempty"` // of a deleted key
}

// keys returns the official client of a vault of the running server.
func (c *client) keys(vault string) (*azkeys.Client, error) {
	if vault == "" {
		return nil, &failure{err: errors.New("--vault is needed: which vault, by its name"), code: exitUsage,
			hint: "\"visage vault list\" shows the vaults there are"}
	}
	options := &azkeys.ClientOptions{}
	options.Transport, options.Retry.MaxRetries = c.http, -1
	return azkeys.NewClient(c.origin.Sub(vaultDomain).Sub(vault).String(), credential{c}, options)
}

// vaultDomain is what stands between a vault's name and the server's host.
const vaultDomain = "vault"

// credential gets tokens of the operator for the official client.
type credential struct{ c *client }

// GetToken implements azcore.TokenCredential.
func (k credential) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := k.c.tokenFor(ctx, options.Scopes[0])
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(time.Hour)}, err
}

// keyCommand is a command on the keys of a vault.
func keyCommand(
	c command, nArgs int, more func(*flag.FlagSet), run func(context.Context, *azkeys.Client, []string) (any, error),
	table func(io.Writer, any),
) command {
	vault := ""
	return resourceCommand(c, nArgs, func(fs *flag.FlagSet) {
		fs.StringVar(&vault, "vault", "", "key vault, by its name (required)")
		if more != nil {
			more(fs)
		}
	}, func(ctx context.Context, cl *client, args []string) (any, error) {
		keys, err := cl.keys(vault)
		if err != nil {
			return nil, err
		}
		answer, err := run(ctx, keys, args)
		return answer, keyRefusal(err, vault)
	}, table)
}

// keyRefusal says what a vault refused as the other commands do.
func keyRefusal(err error, vault string) error {
	said, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		if dial, ok := errors.AsType[*net.OpError](err); ok {
			return &failure{err: fmt.Errorf("reach the server: %w", dial), code: exitUnreachable,
				hint: "is it running? \"visage serve\" starts it"}
		}
		return err
	}
	defer said.RawResponse.Body.Close()
	b, readErr := io.ReadAll(io.LimitReader(said.RawResponse.Body, maxAnswer))
	if readErr != nil {
		return err
	}
	err = problem(said.RawResponse, b)
	switch {
	case said.StatusCode == http.StatusNotFound && said.ErrorCode == "KeyNotFound":
		return hinted(err, "\"visage key list --vault %s\" shows the keys there are", vault)
	case said.StatusCode == http.StatusNotFound:
		return hinted(err, "\"visage vault list\" shows the vaults there are")
	}
	return err
}

func bundleOf(b azkeys.KeyBundle) []vaultKey {
	k := vaultKey{ID: string(*b.Key.KID), Type: string(*b.Key.Kty)}
	k.take(b.Attributes)
	return []vaultKey{k}
}

func (k *vaultKey) take(a *azkeys.KeyAttributes) {
	if a != nil {
		k.Enabled, k.NotBefore, k.Expires, k.Created = a.Enabled, a.NotBefore, a.Expires, a.Created
	}
}

// keyAttributes are the flags for what a key may be used for, and when.
type keyAttributes struct{ enabled, notBefore, expires string }

func (o *keyAttributes) define(fs *flag.FlagSet) {
	fs.StringVar(&o.enabled, "enabled", "", "true or false: whether the key may be used; false closes what is under it")
	fs.StringVar(&o.notBefore, "not-before", "", "when the key begins to be usable, such as 2026-11-23T15:00:00Z")
	fs.StringVar(&o.expires, "expires", "", "when it ends")
}

func (o *keyAttributes) attributes() (*azkeys.KeyAttributes, error) {
	wrong := func(name, value, allowed string) error {
		return &failure{err: fmt.Errorf("--%s is %q; allowed: %s", name, value, allowed), code: exitUsage,
			hint: "\"visage help key update\" shows how it is called"}
	}
	a := &azkeys.KeyAttributes{}
	switch o.enabled {
	case "true", "false":
		a.Enabled = to.Ptr(o.enabled == "true")
	case "":
	default:
		return nil, wrong("enabled", o.enabled, "true, false")
	}
	for name, at := range map[string]struct {
		value string
		field **time.Time
	}{"not-before": {o.notBefore, &a.NotBefore}, "expires": {o.expires, &a.Expires}} {
		if at.value == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339, at.value)
		if err != nil {
			return nil, wrong(name, at.value, "a time such as 2026-11-23T15:00:00Z")
		}
		*at.field = &t
	}
	return a, nil
}

func keyCreateCommand() command {
	var kty, curve string
	var size int
	var when keyAttributes
	return keyCommand(command{
		name: "key create", args: "NAME", summary: "Make a key, or a new version of it.",
		example: "visage key create faces --vault safe",
	}, 1, func(fs *flag.FlagSet) {
		fs.StringVar(&kty, "kty", "RSA", "RSA, RSA-HSM, EC or EC-HSM (default: RSA)")
		fs.IntVar(&size, "size", 2048, "bits of an RSA key; what resources can be under has 2048 (default: 2048)")
		fs.StringVar(&curve, "curve", "P-256", "curve of an EC key (default: P-256)")
		when.define(fs)
	}, func(ctx context.Context, c *azkeys.Client, args []string) (any, error) {
		attributes, err := when.attributes()
		if err != nil {
			return nil, err
		}
		p := azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyType(kty)), KeyAttributes: attributes}
		if strings.HasPrefix(kty, "EC") {
			p.Curve = to.Ptr(azkeys.CurveName(curve))
		} else {
			p.KeySize = to.Ptr(int32(size))
		}
		made, err := c.CreateKey(ctx, args[0], p, nil)
		if err != nil {
			return nil, err
		}
		return bundleOf(made.KeyBundle), nil
	}, printVaultKeys)
}

func keyShowCommand() command {
	return keyCommand(command{
		name: "key show", args: "NAME [VERSION]", summary: "Show a key: its newest version, or the one that is named.",
		example: "visage key show faces --vault safe",
	}, 2, nil, func(ctx context.Context, c *azkeys.Client, args []string) (any, error) {
		one, err := c.GetKey(ctx, args[0], second(args), nil)
		if err != nil {
			return nil, err
		}
		return bundleOf(one.KeyBundle), nil
	}, printVaultKeys)
}

func second(args []string) string {
	if len(args) > 1 {
		return args[1]
	}
	return ""
}

func keyListCommand() command {
	deleted := false
	return keyCommand(command{
		name: "key list", summary: "List the keys of a vault.", example: "visage key list --vault safe",
	}, 0, func(fs *flag.FlagSet) {
		fs.BoolVar(&deleted, "deleted", false, "list those that were deleted and can be recovered")
	}, func(ctx context.Context, c *azkeys.Client, _ []string) (any, error) {
		all := []vaultKey{}
		for pager := c.NewListKeyPropertiesPager(nil); !deleted && pager.More(); {
			page, err := pager.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, p := range page.Value {
				k := vaultKey{ID: string(*p.KID)}
				k.take(p.Attributes)
				all = append(all, k)
			}
		}
		for pager := c.NewListDeletedKeyPropertiesPager(nil); deleted && pager.More(); {
			page, err := pager.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, p := range page.Value {
				k := vaultKey{ID: string(*p.KID), Purge: p.ScheduledPurgeDate}
				k.take(p.Attributes)
				all = append(all, k)
			}
		}
		return all, nil
	}, printVaultKeys)
}

func keyVersionsCommand() command {
	return keyCommand(command{
		name: "key versions", args: "NAME", summary: "List the versions of a key.",
		example: "visage key versions faces --vault safe",
	}, 1, nil, func(ctx context.Context, c *azkeys.Client, args []string) (any, error) {
		all := []vaultKey{}
		for pager := c.NewListKeyPropertiesVersionsPager(args[0], nil); pager.More(); {
			page, err := pager.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, p := range page.Value {
				k := vaultKey{ID: string(*p.KID)}
				k.take(p.Attributes)
				all = append(all, k)
			}
		}
		return all, nil
	}, printVaultKeys)
}

func keyUpdateCommand() command {
	var when keyAttributes
	return keyCommand(command{
		name: "key update", args: "NAME [VERSION]",
		summary: "Say whether and when a key may be used. Disabling it closes the resources under it; enabling it " +
			"opens them again.",
		example: "visage key update faces --vault safe --enabled false",
	}, 2, when.define, func(ctx context.Context, c *azkeys.Client, args []string) (any, error) {
		attributes, err := when.attributes()
		if err != nil {
			return nil, err
		}
		one, err := c.UpdateKey(ctx, args[0], second(args), azkeys.UpdateKeyParameters{KeyAttributes: attributes}, nil)
		if err != nil {
			return nil, err
		}
		return bundleOf(one.KeyBundle), nil
	}, printVaultKeys)
}

func keyRotateCommand() command {
	return keyCommand(command{
		name: "key rotate", args: "NAME",
		summary: "Make a new version of a key. Resources whose key was named without a version follow.",
		example: "visage key rotate faces --vault safe",
	}, 1, nil, func(ctx context.Context, c *azkeys.Client, args []string) (any, error) {
		one, err := c.RotateKey(ctx, args[0], nil)
		if err != nil {
			return nil, err
		}
		return bundleOf(one.KeyBundle), nil
	}, printVaultKeys)
}

func keyDeleteCommand() command {
	return keyCommand(command{
		name: "key delete", args: "NAME",
		summary: "Delete a key with all its versions. Resources under it close; it can be recovered.",
		example: "visage key delete faces --vault safe",
	}, 1, nil, func(ctx context.Context, c *azkeys.Client, args []string) (any, error) {
		gone, err := c.DeleteKey(ctx, args[0], nil)
		if err != nil {
			return nil, err
		}
		k := vaultKey{ID: string(*gone.Key.KID), Purge: gone.ScheduledPurgeDate}
		k.take(gone.Attributes)
		return []vaultKey{k}, nil
	}, printVaultKeys)
}

func keyRecoverCommand() command {
	return keyCommand(command{
		name: "key recover", args: "NAME", summary: "Bring a deleted key back.",
		example: "visage key recover faces --vault safe",
	}, 1, nil, func(ctx context.Context, c *azkeys.Client, args []string) (any, error) {
		back, err := c.RecoverDeletedKey(ctx, args[0], nil)
		if err != nil {
			return nil, err
		}
		return bundleOf(back.KeyBundle), nil
	}, printVaultKeys)
}

func keyPurgeCommand() command {
	sure := false
	return keyCommand(command{
		name: "key purge", args: "NAME",
		summary: "Destroy a deleted key for good. A vault with purge protection refuses.",
		example: "visage key purge faces --vault safe --yes",
	}, 1, func(fs *flag.FlagSet) {
		fs.BoolVar(&sure, "yes", false, "yes, destroy it: what it wraps opens no more")
	},
		func(ctx context.Context, c *azkeys.Client, args []string) (any, error) {
			if !sure {
				return nil, &failure{err: fmt.Errorf("purging %q destroys it, and with it what it protects", args[0]),
					code: exitUsage,
					hint: fmt.Sprintf("\"visage key purge %s --yes\" with its vault does it", args[0])}
			}
			_, err := c.PurgeDeletedKey(ctx, args[0], nil)
			return nil, err
		}, nil)
}

func printVaultKeys(w io.Writer, answer any) {
	fmt.Fprint(w, "KEY\tTYPE\tENABLED\tCREATED\tNOT BEFORE\tEXPIRES\n")
	clock := func(t *time.Time) string {
		if t == nil {
			return "-"
		}
		return t.UTC().Format("2006-01-02T15:04:05")
	}
	for _, k := range answer.([]vaultKey) {
		enabled := "-"
		switch {
		case k.Purge != nil:
			enabled = "deleted, to be purged " + clock(k.Purge)
		case k.Enabled != nil:
			enabled = fmt.Sprint(*k.Enabled)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, dash(k.Type), enabled, clock(k.Created), clock(k.NotBefore),
			clock(k.Expires))
	}
}
