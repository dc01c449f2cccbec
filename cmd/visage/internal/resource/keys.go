package resource

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
)

func keys() *cobra.Command {
	c := command.New("keys NAME", "Show the two access keys of a Face resource. Clients may send either.",
		"visage resource keys default")
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (armwire.AccountKeys, error) {
		var k armwire.AccountKeys
		err := o.Manage(ctx, http.MethodPost, operator.Path(args[0])+"/listKeys", nil, &k)
		return k, err
	}, keyTable)
}

func regenerate() *cobra.Command {
	c := command.New("regenerate NAME key1|key2",
		"Replace one access key. The other stays valid, so that clients can change over without a gap.",
		"visage resource regenerate default key1")
	operator.Complete(c, operator.Resources,
		func(context.Context, *operator.Client, *cobra.Command) ([]string, error) {
			return []string{"key1", "key2"}, nil
		})
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (armwire.AccountKeys, error) {
		var k armwire.AccountKeys
		err := o.Manage(ctx, http.MethodPost, operator.Path(args[0])+"/regenerateKey",
			armwire.KeyRegeneration{KeyName: args[1]}, &k)
		return k, err
	}, keyTable)
}

func keyTable(t *command.Table, k armwire.AccountKeys) {
	t.Row("key1", k.Key1)
	t.Row("key2", k.Key2)
}

func identity() *cobra.Command {
	var opts struct{ assign, remove bool }
	c := command.New("identity NAME", "Show, assign or remove the system-assigned identity of a Face resource",
		"visage resource identity shop --assign")
	c.Flags().BoolVar(&opts.assign, "assign", false, "assign an identity if the resource has none")
	c.Flags().BoolVar(&opts.remove, "remove", false,
		"remove the identity; data under a customer-managed key then becomes inaccessible")
	operator.Complete(c, operator.Resources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (armwire.Identity, error) {
		var a armwire.Account
		var err error
		switch {
		case opts.assign == opts.remove:
			a, err = one(ctx, o, args[0])
		default:
			kind := map[bool]string{true: "SystemAssigned", false: "None"}[opts.assign]
			body := armwire.AccountRequest{Identity: &armwire.IdentityRequest{Type: kind}}
			err = o.Manage(ctx, http.MethodPatch, operator.Path(args[0]), body, &a)
		}
		if a.Identity == nil {
			a.Identity = &armwire.Identity{Type: "None"}
		}
		return *a.Identity, err
	}, func(t *command.Table, i armwire.Identity) {
		t.Row("TYPE", "PRINCIPAL", "TENANT")
		t.Row(i.Type, command.Dash(i.PrincipalID), command.Dash(i.TenantID))
	})
}
