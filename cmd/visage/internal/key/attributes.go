package key

import (
	"context"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
)

// attributes are the flags that say whether and when a key may be used.
type attributes struct{ enabled, notBefore, expires string }

func (a *attributes) define(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.enabled, "enabled", "", "`true|false`: whether the key may be used; false locks the resources that "+
		"use it")
	command.CompleteWords(c, "enabled", "true", "false")
	f.StringVar(&a.notBefore, "not-before", "", "`TIME` from which the key may be used, such as 2026-11-23T15:00:00Z")
	f.StringVar(&a.expires, "expires", "", "`TIME` at which the key expires")
}

// parse returns the flags in the vault's form.
func (a *attributes) parse() (*azkeys.KeyAttributes, error) {
	set := &azkeys.KeyAttributes{}
	switch a.enabled {
	case "true", "false":
		set.Enabled = to.Ptr(a.enabled == "true")
	case "":
	default:
		return nil, command.Misuse("--enabled must be true or false; got %q", a.enabled)
	}
	for _, at := range []struct {
		name, value string
		field       **time.Time
	}{{"not-before", a.notBefore, &set.NotBefore}, {"expires", a.expires, &set.Expires}} {
		if at.value == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339, at.value)
		if err != nil {
			return nil, command.Misuse("--%s must be a time such as 2026-11-23T15:00:00Z; got %q", at.name, at.value)
		}
		*at.field = &t
	}
	return set, nil
}

func create() *cobra.Command {
	var kty, curve string
	var size int
	var exchange bool
	var when attributes
	c := command.New("create NAME", "Create a key, or a new version of it", "visage key create faces --vault safe")
	vault := defineVault(c, false)
	c.Flags().StringVar(&kty, "kty", "RSA", "`TYPE` of the key: RSA, RSA-HSM, EC or EC-HSM")
	command.CompleteWords(c, "kty", "RSA", "RSA-HSM", "EC", "EC-HSM")
	c.Flags().IntVar(&size, "size", 2048, "size of an RSA key in `BITS`; resources need 2048")
	c.Flags().StringVar(&curve, "curve", "P-256", "`CURVE` of an EC key")
	c.Flags().BoolVar(&exchange, "exchange", false, "make a key exchange key, which opens the transfer blobs of "+
		"\"visage key import --byok\" and does nothing else")
	when.define(c)
	return inVault(c, vault, func(ctx context.Context, keys *azkeys.Client, args []string) ([]key, error) {
		set, err := when.parse()
		if err != nil {
			return nil, err
		}
		p := azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyType(kty)), KeyAttributes: set}
		if strings.HasPrefix(kty, "EC") {
			p.Curve = to.Ptr(azkeys.CurveName(curve))
		} else {
			p.KeySize = to.Ptr(int32(size))
		}
		if exchange {
			p.KeyOps = importOnly()
		}
		made, err := keys.CreateKey(ctx, args[0], p, nil)
		if err != nil {
			return nil, err
		}
		return bundleOf(made.KeyBundle), nil
	}, table)
}

func update() *cobra.Command {
	var when attributes
	c := command.New("update NAME [VERSION]",
		"Enable or disable a key, or set when it may be used. A disabled key locks the resources that use it.",
		"visage key update faces --vault safe --enabled false")
	vault := defineVault(c, false)
	when.define(c)
	return inVault(c, vault, func(ctx context.Context, keys *azkeys.Client, args []string) ([]key, error) {
		set, err := when.parse()
		if err != nil {
			return nil, err
		}
		one, err := keys.UpdateKey(ctx, args[0], second(args), azkeys.UpdateKeyParameters{KeyAttributes: set}, nil)
		if err != nil {
			return nil, err
		}
		return bundleOf(one.KeyBundle), nil
	}, table)
}
