// Package store implements "visage store": the stores of customers' keys beside key vaults, and the move of the sealed
// store.
package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	"github.com/visage-face/visage/keysource/stores"
)

// Command is "visage store".
func Command() *cobra.Command {
	return command.Noun("store",
		"Manage key stores of customers' keys; move the sealed store",
		add(), list(), show(), test(), update(), remove(), move(), moveKeys(), checkKeys())
}

func path(s armwire.KeyStore) string { return operator.KeyStores + "/" + s.ID }

func add() *cobra.Command {
	c := command.New("add ADDRESS [FIELD=VALUE...]", "Add a key store, which resources may use at once",
		"visage store add hashivault://vault.example.org/transit login.method=jwt")
	c.Long = "Add a key store, which resources may use at once. Its address tells the kind, and its fields are those " +
		"of the file of key stores: docs/operations/key-stores.md has them. Files must be in the folder " +
		"keystores of the server's data directory."
	operator.Complete(c, nil, func(context.Context, *operator.Client, *cobra.Command) ([]string, error) {
		var all []string
		for _, field := range stores.Fields() {
			all = append(all, field+"=")
		}
		return all, nil
	})
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]armwire.KeyStore, error) {
		described, err := describe(args[0], args[1:])
		if err != nil {
			return nil, command.Misuse("%v", err)
		}
		body, err := json.Marshal(described)
		if err != nil {
			return nil, fmt.Errorf("encode the description: %w", err)
		}
		var made armwire.KeyStore
		err = o.ARM(ctx, http.MethodPost, operator.KeyStores, json.RawMessage(body), &made)
		return []armwire.KeyStore{made}, err
	}, table)
}

// describe makes and checks the description of the store at an address.
func describe(address string, fields []string) (stores.Store, error) {
	given, err := fieldsOf(fields)
	if err != nil {
		return stores.Store{}, err
	}
	for name, value := range given {
		if value == "" {
			return stores.Store{}, fmt.Errorf("the field %s has no value: leave it out", name)
		}
	}
	s, err := stores.Described(address, given)
	if err == nil {
		err = s.Check()
	}
	return s, err
}

// fieldsOf reads fields that are given as NAME=VALUE. Files get their absolute paths.
func fieldsOf(args []string) (map[string]string, error) {
	given := map[string]string{}
	for _, field := range args {
		name, value, found := strings.Cut(field, "=")
		if !found || name == "" {
			return nil, fmt.Errorf("fields are given as NAME=VALUE; got %q", field)
		}
		if strings.HasSuffix(name, "File") && value != "" {
			file, err := filepath.Abs(value)
			if err != nil {
				return nil, err
			}
			value = file
		}
		given[name] = value
	}
	return given, nil
}

func list() *cobra.Command {
	c := command.New("list", "List the key stores, those of the settings too", "visage store list")
	return operator.Show(c, func(ctx context.Context, o *operator.Client, _ []string) (listed, error) {
		var all armwire.KeyStoreList
		err := o.ARM(ctx, http.MethodGet, operator.KeyStores, nil, &all)
		return listed{all.Value, all.AzureApplication}, err
	}, func(t *command.Table, all listed) {
		table(t, all.stores)
		if app := all.azure; app != nil {
			t.Line("")
			t.Line("Vaults of Azure that are not listed are used by the application %s for: %s", app.ClientID,
				cmp.Or(strings.Join(app.Resources, ", "), "resources that have a key in Azure already, with that key "+
					"(azure-resources names none)"))
		}
	})
}

// listed is what "visage store list" shows. In JSON, it is the list of key stores.
type listed struct {
	stores []armwire.KeyStore
	azure  *armwire.AzureApplication
}

// MarshalJSON implements json.Marshaler.
func (l listed) MarshalJSON() ([]byte, error) { return json.Marshal(l.stores) }

func show() *cobra.Command {
	c := command.New("show ADDRESS|ID", "Show a key store with its description and the resources that use it",
		"visage store show hashivault://vault.example.org/transit")
	operator.Complete(c, operator.KeyStoreAddresses)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (armwire.KeyStore, error) {
		return o.KeyStore(ctx, args[0])
	}, details)
}

func update() *cobra.Command {
	c := command.New("update ADDRESS|ID FIELD=VALUE [FIELD=VALUE...]",
		"Change a key store that was added, also while resources use it",
		"visage store update awskms://eu-central-1/111122223333 login.accessKeyId=AKIA...")
	c.Long = "Change a key store that was added, also while resources use it: all fields but its address. " +
		"FIELD= takes a field away. Resources go on over new connections with what is given, so a wrong login " +
		"closes their data: try it with \"visage store test\" at once. resources=PATH,... changes which resources " +
		"may use the store: those whose management paths are given, and those in the resource groups and " +
		"subscriptions whose paths are given; \"*\" stands for all. Resources that have a key in the store must " +
		"be among them."
	operator.Complete(c, operator.KeyStoreAddresses, func(
		context.Context, *operator.Client, *cobra.Command,
	) ([]string, error) {
		var all []string
		for _, field := range stores.Fields() {
			all = append(all, field+"=")
		}
		return all, nil
	})
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]armwire.KeyStore, error) {
		given, err := fieldsOf(args[1:])
		if err == nil {
			_, err = stores.Described("", given) // which knows the fields
		}
		if err != nil {
			return nil, command.Misuse("%v", err)
		}
		s, err := o.KeyStore(ctx, args[0])
		if err != nil {
			return nil, err
		}
		var changed armwire.KeyStore
		err = o.ARM(ctx, http.MethodPatch, path(s), changeOf(given), &changed)
		return []armwire.KeyStore{changed}, err
	}, table)
}

// changeOf returns the change of a description to other values of some fields.
func changeOf(given map[string]string) (change armwire.KeyStoreChange) {
	own := map[string]**string{
		"endpoint": &change.Endpoint, "loginEndpoint": &change.LoginEndpoint, "caFile": &change.CAFile,
	}
	for name, value := range given {
		login, isLogin := strings.CutPrefix(name, "login.")
		switch field := own[name]; {
		case field != nil:
			*field = &value
		case isLogin:
			if change.Login == nil {
				change.Login = map[string]string{}
			}
			change.Login[login] = value
		case name == stores.ResourcesField:
			change.Resources = append([]string{}, stores.SplitResources(value)...)
		}
	}
	return change
}

func remove() *cobra.Command {
	c := command.New("remove ADDRESS|ID", "Remove a key store that no resource uses",
		"visage store remove hashivault://vault.example.org/transit")
	operator.Complete(c, operator.KeyStoreAddresses)
	return operator.Do(c, func(ctx context.Context, o *operator.Client, args []string) error {
		s, err := o.KeyStore(ctx, args[0])
		if err != nil {
			return err
		}
		return o.ARM(ctx, http.MethodDelete, path(s), nil, nil)
	})
}

func test() *cobra.Command {
	var opts armwire.KeyStoreTest
	c := command.New("test ADDRESS|ID",
		"Connect to a key store and, with --key, log in and describe a key. Nothing changes. The command fails if a "+
			"step does.",
		"visage store test hashivault://vault.example.org/transit --resource vip --key faces")
	c.Flags().StringVar(&opts.Resource, "resource", "", "`NAME` of the resource as whose identity to log in; needed "+
		"where each resource logs in as itself")
	c.Flags().StringVar(&opts.Key, "key", "", "`NAME` of a key in the store (default: only the connection is tried)")
	operator.CompleteFlag(c, "resource", operator.Resources)
	operator.Complete(c, operator.KeyStoreAddresses)
	return operator.Judge(c, func(
		ctx context.Context, o *operator.Client, args []string,
	) (armwire.KeyStoreTrial, error) {
		s, err := o.KeyStore(ctx, args[0])
		if err != nil {
			return armwire.KeyStoreTrial{}, err
		}
		var trial armwire.KeyStoreTrial
		err = o.ARM(ctx, http.MethodPost, path(s)+"/test", opts, &trial)
		return trial, err
	}, trialTable, func(t armwire.KeyStoreTrial) error {
		if t.Passed {
			return nil
		}
		return command.Hinted(errors.New("the key store does not answer as it should"),
			"docs/operations/key-stores.md says what each answer means")
	})
}

func table(t *command.Table, all []armwire.KeyStore) {
	t.Row("ADDRESS", "LOGIN", "FROM", "RESOURCES", "LAST ANSWER", "ID")
	for _, s := range all {
		t.Row(s.Address, valuesOf(s)["login.method"], s.Origin, len(s.Resources)+s.OtherResources, lastOf(s), s.ID)
	}
	for _, s := range all {
		if s.Fault != "" {
			t.Line("")
			t.Line("%s cannot be used: %s", s.Address, s.Fault)
		}
		if s.Warning != "" {
			t.Line("")
			t.Line("%s: %s", s.Address, s.Warning)
		}
	}
}

// lastOf says how a store has answered last.
func lastOf(s armwire.KeyStore) string {
	if s.LastAnswer == nil {
		return "-"
	}
	return fmt.Sprintf("%s (%s, %.1f ms)", s.LastAnswer.Class, command.Clock(s.LastAnswer.At),
		s.LastAnswer.Milliseconds)
}

// valuesOf returns the fields of a description; none for one of a newer server.
func valuesOf(s armwire.KeyStore) map[string]string {
	described, err := stores.Parse(s.Description)
	if err != nil {
		return map[string]string{"login.method": "-"}
	}
	return described.Values()
}

func details(t *command.Table, s armwire.KeyStore) {
	t.Row("FIELD", "VALUE")
	t.Row("address", s.Address)
	t.Row("id", s.ID)
	t.Row("from", s.Origin)
	t.Row("added", command.Clock(s.Added))
	values := valuesOf(s)
	for _, field := range stores.Fields() {
		if value := values[field]; value != "" {
			t.Row(field, value)
		}
	}
	used := strings.Join(s.Resources, ", ")
	if s.OtherResources > 0 {
		used = strings.TrimPrefix(fmt.Sprintf("%s, and %d others", used, s.OtherResources), ", and ")
	}
	t.Row("used by", command.Dash(used))
	t.Row("last answer", lastOf(s))
	if s.Fault != "" {
		t.Line("")
		t.Line("It cannot be used: %s", s.Fault)
	}
	if s.Warning != "" {
		t.Line("")
		t.Line("Warning: %s", s.Warning)
	}
}

func trialTable(t *command.Table, trial armwire.KeyStoreTrial) {
	t.Row("STEP", "OK", "ANSWER")
	for _, s := range trial.Steps {
		t.Row(s.Step, s.State, command.Dash(s.Message))
	}
	if k := trial.Key; k != nil {
		t.Line("")
		t.Line("key: %s, version %s, answered in %.1f ms", k.Type, command.Dash(k.Version), trial.Milliseconds)
		for _, why := range k.Unfit {
			t.Line("%s", why)
		}
	}
}
