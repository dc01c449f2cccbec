package operator

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
)

// Names requests the names of one kind of objects from the server. c is the command line that is being completed.
type Names func(ctx context.Context, o *Client, c *cobra.Command) ([]string, error)

// completionTimeout bounds how long a shell waits for names. A server on this machine answers in milliseconds.
const completionTimeout = time.Second

// Complete completes the operands of a command with names from the running server, one kind for each operand; nil
// completes file names. Without a server it offers nothing, and reports no error.
func Complete(c *cobra.Command, kinds ...Names) *cobra.Command {
	files := c.ValidArgsFunction
	c.ValidArgsFunction = func(c *cobra.Command, operands []string, word string) ([]string, cobra.ShellCompDirective) {
		wanted := len(strings.Fields(c.Use)) - 1
		if len(operands) >= wanted || len(operands) >= len(kinds) || kinds[len(operands)] == nil {
			return files(c, operands, word)
		}
		return kinds[len(operands)].offer(c), cobra.ShellCompDirectiveNoFileComp
	}
	return c
}

// CompleteFlag completes the value of a flag with names from the running server.
func CompleteFlag(c *cobra.Command, flag string, kind Names) {
	// It fails only for a flag that does not exist.
	_ = c.RegisterFlagCompletionFunc(flag,
		func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return kind.offer(c), cobra.ShellCompDirectiveNoFileComp
		})
}

// offer returns the names from the server of a command line, or none.
func (kind Names) offer(c *cobra.Command) []string {
	dir, err := settings.Dir(c.Flags())
	if err != nil {
		return nil
	}
	o, err := Dial(dir)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.Context(), completionTimeout)
	defer cancel()
	names, err := kind(ctx, o, c)
	if err != nil {
		return nil
	}
	return names
}

// Resources names the Face resources.
func Resources(ctx context.Context, o *Client, _ *cobra.Command) ([]string, error) {
	var all armwire.Page[armwire.Account]
	err := o.Manage(ctx, http.MethodGet, "", nil, &all)
	return namesOf(all.Value, func(a armwire.Account) string { return a.Name }), err
}

// DeletedResources names the Face resources that can be recovered.
func DeletedResources(ctx context.Context, o *Client, _ *cobra.Command) ([]string, error) {
	var all armwire.Page[armwire.Account]
	err := o.Provider(ctx, http.MethodGet, "/deletedAccounts", nil, &all)
	return namesOf(all.Value, func(a armwire.Account) string { return a.Name }), err
}

// Vaults names the key vaults.
func Vaults(ctx context.Context, o *Client, _ *cobra.Command) ([]string, error) {
	var all armwire.Page[armwire.Vault]
	err := o.ARM(ctx, http.MethodGet, o.VaultPath(""), nil, &all)
	return namesOf(all.Value, func(v armwire.Vault) string { return v.Name }), err
}

// DeletedVaults names the key vaults that can be recovered.
func DeletedVaults(ctx context.Context, o *Client, _ *cobra.Command) ([]string, error) {
	var all armwire.Page[armwire.DeletedVault]
	err := o.ARM(ctx, http.MethodGet, deletedVaults, nil, &all)
	return namesOf(all.Value, func(v armwire.DeletedVault) string { return v.Name }), err
}

// Identities names applications and managed identities.
func Identities(ctx context.Context, o *Client, _ *cobra.Command) ([]string, error) {
	all, err := o.Principals(ctx)
	return namesOf(all, func(p armwire.ServicePrincipal) string { return p.Name }), err
}

// PeopleNames names the people who sign in to the console.
func PeopleNames(ctx context.Context, o *Client, _ *cobra.Command) ([]string, error) {
	all, err := o.People(ctx)
	return namesOf(all, func(p armwire.Person) string { return p.Name }), err
}

// AccessRequests names the requests for customer-managed keys.
func AccessRequests(ctx context.Context, o *Client, _ *cobra.Command) ([]string, error) {
	var all armwire.AccessRequestList
	err := o.Provider(ctx, http.MethodGet, "/accessRequests", nil, &all)
	return namesOf(all.Value, func(r armwire.AccessRequest) string { return r.Name }), err
}

// KeyStoreAddresses names the stores of customers' keys beside key vaults.
func KeyStoreAddresses(ctx context.Context, o *Client, _ *cobra.Command) ([]string, error) {
	var all armwire.KeyStoreList
	err := o.ARM(ctx, http.MethodGet, KeyStores, nil, &all)
	return namesOf(all.Value, func(s armwire.KeyStore) string { return s.Address }), err
}

func namesOf[T any](all []T, name func(T) string) []string {
	names := make([]string, 0, len(all))
	for _, one := range all {
		names = append(names, name(one))
	}
	return names
}
