package key

import (
	"context"
	"encoding/json"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/command"
)

func rotate() *cobra.Command {
	c := command.New("rotate NAME",
		"Create a new version of a key. Resources whose key was given without a version switch to it.",
		"visage key rotate faces --vault safe")
	return inVault(c, defineVault(c, false), func(
		ctx context.Context, keys *azkeys.Client, args []string,
	) ([]key, error) {
		one, err := keys.RotateKey(ctx, args[0], nil)
		if err != nil {
			return nil, err
		}
		return bundleOf(one.KeyBundle), nil
	}, table)
}

func rotation() *cobra.Command {
	var every, expires string
	c := command.New("policy NAME", "Show or set a key's rotation policy: when it is rotated automatically",
		"visage key policy faces --vault safe --rotate-after P90D")
	vault := defineVault(c, false)
	c.Flags().StringVar(&every, "rotate-after", "", "`AGE` at which a new version is created, such as P90D, or "+
		"\"never\"")
	c.Flags().StringVar(&expires, "expires-after", "", "`LIFETIME` of each new version, such as P2Y")
	return inVault(c, vault, func(
		ctx context.Context, keys *azkeys.Client, args []string,
	) (azkeys.KeyRotationPolicy, error) {
		if every == "" && expires == "" {
			now, err := keys.GetKeyRotationPolicy(ctx, args[0], nil)
			return now.KeyRotationPolicy, err
		}
		p := azkeys.KeyRotationPolicy{LifetimeActions: []*azkeys.LifetimeAction{}}
		if every != "" && every != "never" {
			p.LifetimeActions = append(p.LifetimeActions, &azkeys.LifetimeAction{
				Action:  &azkeys.LifetimeActionType{Type: to.Ptr(azkeys.KeyRotationPolicyActionRotate)},
				Trigger: &azkeys.LifetimeActionTrigger{TimeAfterCreate: &every},
			})
		}
		if expires != "" {
			p.Attributes = &azkeys.KeyRotationPolicyAttributes{ExpiryTime: &expires}
		}
		set, err := keys.UpdateKeyRotationPolicy(ctx, args[0], p, nil)
		return set.KeyRotationPolicy, err
	}, func(t *command.Table, p azkeys.KeyRotationPolicy) {
		// The policy is a small JSON document, and shown as such.
		b, err := json.MarshalIndent(p, "", "  ")
		if err != nil {
			t.Line("the policy cannot be shown: %v", err)
			return
		}
		t.Line("%s", b)
	})
}

func remove() *cobra.Command {
	c := command.New("delete NAME",
		"Delete a key with all its versions. Resources that use it are locked. The key can be recovered.",
		"visage key delete faces --vault safe")
	return inVault(c, defineVault(c, false), func(
		ctx context.Context, keys *azkeys.Client, args []string,
	) ([]key, error) {
		gone, err := keys.DeleteKey(ctx, args[0], nil)
		if err != nil {
			return nil, err
		}
		k := key{ID: string(*gone.Key.KID), Purge: gone.ScheduledPurgeDate}
		k.take(gone.Attributes)
		return []key{k}, nil
	}, table)
}

func restoreDeleted() *cobra.Command {
	c := command.New("recover NAME", "Recover a deleted key", "visage key recover faces --vault safe")
	return inVault(c, defineVault(c, true), func(
		ctx context.Context, keys *azkeys.Client, args []string,
	) ([]key, error) {
		back, err := keys.RecoverDeletedKey(ctx, args[0], nil)
		if err != nil {
			return nil, err
		}
		return bundleOf(back.KeyBundle), nil
	}, table)
}

func purge() *cobra.Command {
	sure := false
	c := command.New("purge NAME", "Destroy a deleted key permanently. A vault with purge protection refuses.",
		"visage key purge faces --vault safe --yes")
	vault := defineVault(c, true)
	c.Flags().BoolVar(&sure, "yes", false, "confirm: data that the key encrypts can never be opened again")
	return doInVault(c, vault, func(ctx context.Context, keys *azkeys.Client, args []string) error {
		if !sure {
			return command.Hinted(command.Misuse("purging %q destroys the key and all data that it encrypts", args[0]),
				"\"visage key purge %s --yes --vault %s\" confirms it", args[0], *vault)
		}
		_, err := keys.PurgeDeletedKey(ctx, args[0], nil)
		return err
	})
}
