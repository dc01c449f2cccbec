// Package person implements "visage person": the people who sign in to the web console.
package person

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
)

// Command is "visage person".
func Command() *cobra.Command {
	return command.Noun("person", "Enrol the people who sign in to the web console",
		create(), list(), update(), invite(), remove())
}

// path is the path of a person for operator.Client.ARM.
func path(p armwire.Person) string { return operator.People + "/" + url.PathEscape(p.ObjectID) }

func create() *cobra.Command {
	var want armwire.PersonRequest
	c := command.New("create NAME", "Create a person. \"visage person invite\" lets them sign in, \"visage identity "+
		"assign\" gives them a role.", "visage person create 'Ada Lovelace' --email ada@example.org")
	c.Flags().StringVar(&want.Email, "email", "", "e-mail `ADDRESS`")
	defineLanguage(c, &want.Language)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]armwire.Person, error) {
		want.Name = args[0]
		var made armwire.Person
		err := o.ARM(ctx, http.MethodPost, operator.People, want, &made)
		return []armwire.Person{made}, err
	}, table)
}

func defineLanguage(c *cobra.Command, into *string) {
	c.Flags().StringVar(into, "language", "", "`LANGUAGE` of the console: en, fr, or empty for the browser's")
	command.CompleteWords(c, "language", "en", "fr")
}

func list() *cobra.Command {
	c := command.New("list", "List the people who sign in to the web console", "visage person list")
	return operator.Show(c, func(ctx context.Context, o *operator.Client, _ []string) ([]armwire.Person, error) {
		return o.People(ctx)
	}, table)
}

func update() *cobra.Command {
	name, email, language := "", "", ""
	c := command.New("update PERSON", "Change the name, the e-mail address or the language of a person. PERSON is a "+
		"name, an e-mail address or an object id.", "visage person update 'Ada Lovelace' --language fr")
	c.Flags().StringVar(&name, "name", "", "new `NAME`")
	c.Flags().StringVar(&email, "email", "", "new e-mail `ADDRESS`; empty: none")
	defineLanguage(c, &language)
	operator.Complete(c, operator.PeopleNames)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, args []string) ([]armwire.Person, error) {
		var want armwire.PersonUpdate
		for flag, into := range map[string]**string{
			"name": &want.Name, "email": &want.Email, "language": &want.Language,
		} {
			if f := c.Flags().Lookup(flag); f.Changed {
				value := f.Value.String()
				*into = &value
			}
		}
		if want == (armwire.PersonUpdate{}) {
			return nil, command.Hinted(errors.New("nothing to change"), "give --name, --email or --language")
		}
		p, err := o.Person(ctx, args[0])
		if err != nil {
			return nil, err
		}
		var now armwire.Person
		err = o.ARM(ctx, http.MethodPatch, path(p), want, &now)
		return []armwire.Person{now}, err
	}, table)
}

func invite() *cobra.Command {
	c := command.New("invite PERSON", "Print an address at which a person signs in once, to register a passkey. It is "+
		"valid for 72 hours. Anyone who has the address can use it: send it over a channel that only the person reads.",
		"visage person invite ada@example.org")
	operator.Complete(c, operator.PeopleNames)
	return operator.Show(c,
		func(ctx context.Context, o *operator.Client, args []string) (made armwire.SignInAddress, err error) {
			p, err := o.Person(ctx, args[0])
			if err != nil {
				return made, err
			}
			err = o.ARM(ctx, http.MethodPost, path(p)+"/invite", nil, &made)
			return made, err
		}, func(t *command.Table, made armwire.SignInAddress) { t.Line("%s", made.Address) })
}

func remove() *cobra.Command {
	c := command.New("delete PERSON", "Delete a person with their roles, sessions and passkeys",
		"visage person delete 'Ada Lovelace'")
	operator.Complete(c, operator.PeopleNames)
	return operator.Do(c, func(ctx context.Context, o *operator.Client, args []string) error {
		p, err := o.Person(ctx, args[0])
		if err != nil {
			return err
		}
		return o.ARM(ctx, http.MethodDelete, path(p), nil, nil)
	})
}

func table(t *command.Table, all []armwire.Person) {
	t.Row("NAME", "E-MAIL", "LANGUAGE", "OBJECT ID", "PASSKEYS", "SESSIONS", "CREATED")
	for _, p := range all {
		t.Row(p.Name, command.Dash(p.Email), command.Dash(p.Language), p.ObjectID, len(p.Passkeys), p.Sessions,
			command.Clock(p.Created))
	}
}
