package cmk

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
)

func addStore() *cobra.Command {
	var k key
	c := command.New("add-store NAME", "Have a key in a further key store protect a resource too. "+
		"While the first key gives no answer, the further one keeps the data open. A key that is added already moves "+
		"to another version.",
		"visage cmk add-store vip --key https://spare.vault.localhost:8443/keys/faces")
	k.define(c)
	operator.Complete(c, operator.Resources)
	return storeCommand(c, "addStore", func(ctx context.Context, o *operator.Client) (any, error) {
		return k.store(ctx, o)
	})
}

func removeStore() *cobra.Command {
	var k key
	c := command.New("remove-store NAME", "Have the key of one store protect a resource no more. "+
		"All keys that remain must answer; without the first key, the second is the first.",
		"visage cmk remove-store vip --key https://spare.vault.localhost:8443/keys/faces")
	k.defineName(c)
	operator.Complete(c, operator.Resources)
	return storeCommand(c, "removeStore", func(ctx context.Context, o *operator.Client) (any, error) {
		return k.store(ctx, o)
	})
}

func promoteStore() *cobra.Command {
	c := command.New("promote-store NAME", "Replace a first key that is lost by the key that serves. "+
		"The first key must have given no answer for an hour, and its last answer must not have been a refusal. It is "+
		"not asked again.",
		"visage cmk promote-store vip")
	operator.Complete(c, operator.Resources)
	return storeCommand(c, "promoteStore", func(context.Context, *operator.Client) (any, error) { return nil, nil })
}

// storeCommand sends a change of the stores to the management plane.
func storeCommand(
	c *cobra.Command, action string, body func(context.Context, *operator.Client) (any, error),
) *cobra.Command {
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (encryption, error) {
		want, err := body(ctx, o)
		if err != nil {
			return encryption{}, err
		}
		var a armwire.Account
		if err := o.Manage(ctx, http.MethodPost, operator.Path(args[0])+"/encryption:"+action, want, &a); err != nil {
			return encryption{}, err
		}
		a, err = finished(ctx, o, args[0], a)
		if e := a.Properties.Encryption; e != nil && e.Status != nil && e.Status.Notice != "" {
			o.Note("%s", e.Status.Notice)
		}
		return encryptionOf(a), err
	}, table)
}

// store returns the key of a store as the management plane expects it.
func (k *key) store(ctx context.Context, o *operator.Client) (*armwire.StoreKeyRequest, error) {
	want, err := k.request(ctx, o)
	if err != nil {
		return nil, err
	}
	return &armwire.StoreKeyRequest{Key: want.Key, Register: want.Register}, nil
}
