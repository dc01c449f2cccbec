package resource

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
)

func remove() *cobra.Command {
	c := command.New("delete NAME",
		"Delete a Face resource. It stops serving at once, and can be recovered for 48 hours.",
		"visage resource delete shop")
	operator.Complete(c, operator.Resources)
	return operator.Do(c, func(ctx context.Context, o *operator.Client, args []string) error {
		if _, err := one(ctx, o, args[0]); err != nil {
			return err
		}
		if err := o.Manage(ctx, http.MethodDelete, operator.Path(args[0]), nil, nil); err != nil {
			return err
		}
		gone, err := deleted(ctx, o, args[0])
		if err != nil {
			return err
		}
		o.Note("%s can be recovered until %s", gone.Name, gone.Properties.ScheduledPurgeDate)
		return nil
	})
}

func restore() *cobra.Command {
	c := command.New("recover NAME", "Recover a deleted Face resource with its faces and access keys",
		"visage resource recover shop")
	operator.Complete(c, operator.DeletedResources)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]armwire.Account, error) {
		gone, err := deleted(ctx, o, args[0])
		if err != nil {
			return nil, err
		}
		return change(ctx, o, http.MethodPut, args[0], armwire.AccountRequest{
			Kind: "Face", Location: gone.Location, Properties: armwire.AccountRequestProperties{Restore: true},
		})
	}, table)
}

func purge() *cobra.Command {
	sure := false
	c := command.New("purge NAME", "Destroy a deleted Face resource and all its faces permanently",
		"visage resource purge shop --yes")
	c.Flags().BoolVar(&sure, "yes", false, "confirm: the data cannot be recovered afterwards")
	operator.Complete(c, operator.DeletedResources)
	return operator.Do(c, func(ctx context.Context, o *operator.Client, args []string) error {
		if !sure {
			return command.Hinted(command.Misuse("purging %q destroys all its faces permanently", args[0]),
				"\"visage resource purge %s --yes\" confirms it", args[0])
		}
		gone, err := deleted(ctx, o, args[0])
		if err != nil {
			return err
		}
		path := fmt.Sprintf("/locations/%s/resourceGroups/%s/deletedAccounts/%s", url.PathEscape(gone.Location),
			url.PathEscape(o.Operator.ResourceGroup), url.PathEscape(gone.Name))
		return o.Provider(ctx, http.MethodDelete, path, nil, nil)
	})
}

// deleted returns the deleted resource with a name.
func deleted(ctx context.Context, o *operator.Client, name string) (armwire.Account, error) {
	var all armwire.Page[armwire.Account]
	if err := o.Provider(ctx, http.MethodGet, "/deletedAccounts", nil, &all); err != nil {
		return armwire.Account{}, err
	}
	for _, one := range all.Value {
		if strings.EqualFold(one.Name, name) {
			return one, nil
		}
	}
	return armwire.Account{}, command.Hinted(fmt.Errorf("no deleted resource is called %q", name),
		"\"visage resource list --deleted\" lists the deleted resources")
}
