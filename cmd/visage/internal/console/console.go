// Package console implements "visage console": a one-time address of the web console.
package console

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
)

// Command is "visage console".
func Command() *cobra.Command {
	person, stay := "", false
	c := command.New("console", "Print an address that signs in to the web console once, and open it. "+
		"It lasts two minutes. The browser is opened when you work at a desktop. You sign in as the operator unless "+
		"you name a person.", "visage console")
	c.Flags().StringVar(&person, "person", "", "sign in as this person: `NAME`, e-mail address or object id")
	c.Flags().BoolVar(&stay, "no-open", false, "print the address only")
	operator.CompleteFlag(c, "person", operator.PeopleNames)
	return operator.Show(c, func(ctx context.Context, o *operator.Client, _ []string) (armwire.SignInAddress, error) {
		id := o.Operator.ClientID // its object id too
		if person != "" {
			p, err := o.Person(ctx, person)
			if err != nil {
				return armwire.SignInAddress{}, err
			}
			id = p.ObjectID
		}
		var made armwire.SignInAddress
		err := o.ARM(ctx, http.MethodPost, operator.ServicePrincipals+"/"+url.PathEscape(id)+"/signInAddress", nil,
			&made)
		if err != nil || stay || !command.IsTerminal(command.StreamsOf(c).Out) {
			return made, err
		}
		if err := open(ctx, made.Address); err != nil {
			o.Note("the browser was not opened: %v", err)
		}
		return made, nil
	}, func(t *command.Table, made armwire.SignInAddress) { t.Line("%s", made.Address) })
}

// open shows an address in the browser of the desktop, if there is one. The command line of the browser does not have
// the address: all users of the machine could read it there, and sign in first. It has a file with a redirection, which
// only its owner can read. The file stays, and is worth nothing when the address has been used or is over.
func open(ctx context.Context, address string) error {
	program := opener(runtime.GOOS, os.Getenv)
	if program == "" {
		return nil
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return nil // a machine without a desktop
	}
	page, err := redirection(address)
	if err != nil {
		return err
	}
	if err := exec.CommandContext(ctx, path, page).Run(); err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	return nil
}

// opener is the program that opens files as the person at the desktop likes it; empty where there is no desktop.
func opener(system string, getenv func(string) string) string {
	switch {
	case system == "darwin":
		return "open"
	case getenv("DISPLAY") != "" || getenv("WAYLAND_DISPLAY") != "":
		return "xdg-open"
	}
	return ""
}

// redirection writes a page that leads to an address, readable by its owner alone, and returns its path.
func redirection(address string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for the redirection: %w", err)
	}
	dir := filepath.Join(cache, "visage")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a folder for the redirection: %w", err)
	}
	path := filepath.Join(dir, "console.html")
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) { // another's file would keep its mode
		return "", fmt.Errorf("remove the former redirection: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("write the redirection: %w", err)
	}
	_, err = fmt.Fprintf(f, "<!doctype html><meta charset=utf-8><title>Visage</title>"+
		"<meta http-equiv=refresh content=\"0;url=%[1]s\"><a href=\"%[1]s\">Visage</a>\n", html.EscapeString(address))
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return "", fmt.Errorf("write the redirection: %w", err)
	}
	return path, nil
}
