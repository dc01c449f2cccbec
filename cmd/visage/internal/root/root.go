// Package root implements "visage root": the root key of an instance, and what protects it.
package root

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
)

// path is that of the root key for operator.Client.ARM.
const path = "/providers/Visage.Operations/rootKey"

// Command is "visage root".
func Command() *cobra.Command {
	return command.Noun("root", "Manage the root key and its protectors", list(), add(), remove(), test(), rotate())
}

func list() *cobra.Command {
	c := command.New("list", "List the protectors of the root key, and say whether it is exposed", "visage root list")
	return operator.Show(c, func(ctx context.Context, o *operator.Client, _ []string) (armwire.RootKey, error) {
		return get(ctx, o)
	}, table)
}

func get(ctx context.Context, o *operator.Client) (root armwire.RootKey, err error) {
	err = o.ARM(ctx, http.MethodGet, path, nil, &root)
	return root, err
}

func add() *cobra.Command {
	c := command.New("add SOURCE", "Add a protector of the root key: SOURCE is as for --root-key. It opens what it "+
		"wraps before anything changes. Name it in the settings too, so that the next start uses it.",
		"visage root add tpm:/dev/tpmrm0")
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) (root armwire.RootKey,
		err error) {
		want := armwire.RootProtectorRequest{Entry: args[0]}
		defer o.Local(want, &want.Local)()
		err = o.ARM(ctx, http.MethodPost, path+"/protectors", want, &root)
		if err == nil {
			o.Note("name %s in the setting root-key, so that the next start uses it", args[0])
		}
		return root, err
	}, table)
}

func remove() *cobra.Command {
	c := command.New("remove PROTECTOR", "Remove a protector of the root key, by its name. A start whose settings "+
		"still name it does not bring it back.", "visage root remove file")
	operator.Complete(c, names)
	return operator.Do(c, func(ctx context.Context, o *operator.Client, args []string) error {
		if err := o.ARM(ctx, http.MethodDelete, path+"/protectors/"+url.PathEscape(args[0]), nil, nil); err != nil {
			return err
		}
		root, err := get(ctx, o)
		if err == nil && root.Exposed {
			o.Note("the root key stays exposed until it is rotated: copies of what the protector opened may be " +
				"somewhere; \"visage root rotate\" rotates it")
		}
		return err
	})
}

func names(ctx context.Context, o *operator.Client, _ *cobra.Command) (all []string, err error) {
	root, err := get(ctx, o)
	for _, p := range root.Protectors {
		all = append(all, p.Name)
	}
	return all, err
}

func test() *cobra.Command {
	c := command.New("test", "Ask every protector to open the root key, and compare what it opens",
		"visage root test")
	return operator.Show(c, func(ctx context.Context, o *operator.Client, _ []string) (root armwire.RootKey,
		err error) {
		err = o.ARM(ctx, http.MethodPost, path+"/test", nil, &root)
		return root, err
	}, func(t *command.Table, root armwire.RootKey) {
		t.Row("PROTECTOR", "ANSWER")
		for _, p := range root.Protectors {
			t.Row(p.Name, p.Answer)
		}
	})
}

func rotate() *cobra.Command {
	c := command.New("rotate", "Make a new root key, and seal anew what the old one sealed. Every protector must "+
		"answer. Requests go on meanwhile; \"visage root list\" shows how far it is.", "visage root rotate")
	return operator.Show(c, func(ctx context.Context, o *operator.Client, _ []string) (root armwire.RootKey,
		err error) {
		err = o.ARM(ctx, http.MethodPost, path+"/rotate", nil, &root)
		return root, err
	}, table)
}

func table(t *command.Table, root armwire.RootKey) {
	exposed := "no"
	if root.Exposed {
		exposed = "yes"
	}
	t.Line("version %d, exposed: %s", root.Version, exposed)
	if root.Kit == nil && root.Proved == nil {
		t.Line("recovery kit: none of this version")
	} else {
		t.Line("recovery kit: made %s, proved %s", when(root.Kit), when(root.Proved))
	}
	if r := root.Rotation; r != nil {
		switch {
		case r.Error != "":
			t.Line("rotation: %s: %s", r.Step, r.Error)
		case r.Total > 0:
			t.Line("rotation: %s, %d of %d", r.Step, r.Done, r.Total)
		default:
			t.Line("rotation: %s, %d", r.Step, r.Done)
		}
	}
	for _, entry := range root.Ignored {
		t.Line("not used, since it was removed: %s", entry)
	}
	t.Row("PROTECTOR", "SOURCE", "EXPOSED", "IN SETTINGS", "OPENED", "ADDED", "LAST TESTED")
	for _, p := range root.Protectors {
		t.Row(p.Name, command.Dash(p.Entry), yes(p.Exposed), yes(p.Configured), yes(p.Opened), when(p.Added),
			when(p.Tested))
	}
}

func yes(on bool) string {
	if on {
		return "yes"
	}
	return "no"
}

func when(t *time.Time) string {
	if t == nil {
		return command.Dash("")
	}
	return command.Clock(t.Format(time.RFC3339))
}
