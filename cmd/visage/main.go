// Command visage runs the service, and has the commands for everything that an operator does with it. "visage help"
// lists them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/cmd/visage/internal/auditlog"
	"github.com/visage-face/visage/cmd/visage/internal/backup"
	"github.com/visage-face/visage/cmd/visage/internal/bench"
	"github.com/visage-face/visage/cmd/visage/internal/build"
	"github.com/visage-face/visage/cmd/visage/internal/cluster"
	"github.com/visage-face/visage/cmd/visage/internal/cmk"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/console"
	"github.com/visage-face/visage/cmd/visage/internal/database"
	"github.com/visage-face/visage/cmd/visage/internal/demo"
	"github.com/visage-face/visage/cmd/visage/internal/drill"
	"github.com/visage-face/visage/cmd/visage/internal/environment"
	"github.com/visage-face/visage/cmd/visage/internal/health"
	"github.com/visage-face/visage/cmd/visage/internal/identity"
	"github.com/visage-face/visage/cmd/visage/internal/key"
	"github.com/visage-face/visage/cmd/visage/internal/models"
	"github.com/visage-face/visage/cmd/visage/internal/person"
	"github.com/visage-face/visage/cmd/visage/internal/recovery"
	"github.com/visage-face/visage/cmd/visage/internal/resource"
	"github.com/visage-face/visage/cmd/visage/internal/retention"
	"github.com/visage-face/visage/cmd/visage/internal/root"
	"github.com/visage-face/visage/cmd/visage/internal/serve"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
	"github.com/visage-face/visage/cmd/visage/internal/size"
	"github.com/visage-face/visage/cmd/visage/internal/store"
	"github.com/visage-face/visage/cmd/visage/internal/vault"
	"github.com/visage-face/visage/cmd/visage/internal/verify"
	"github.com/visage-face/visage/keysource/helper"
	"github.com/visage-face/visage/keysource/stores"
)

// garbage is how much garbage is let grow, in percent of what lives, unless GOGC says so. What lives is little, for
// templates and keys have memory of their own, and opening a record leaves two kilobytes behind: at the usual 100 a
// third of the time of reading goes into collecting.
const garbage = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	if len(os.Args) == 2 && os.Args[1] == helper.Argument { // by the service alone, for a key store
		if err := stores.ServeHelper(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command.Execute(ctx, program(), command.Streams{Out: os.Stdout, Err: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}

// program puts the commands together.
func program() *cobra.Command {
	r := command.Root("visage", "Visage recognises faces, keeps them encrypted, and speaks the Azure AI Face API.")
	command.AddGroup(r, "Service", serve.Command(), health.Command(), cluster.Command(), environment.Command(),
		demo.Command(), build.Command())
	command.AddGroup(r, "Resources and their data", resource.Command(), cmk.Command(), retention.Command(),
		retention.HoldCommand(), auditlog.Command(), auditlog.ReceiptCommand())
	command.AddGroup(r, "Keys and identities", vault.Command(), key.Command(), store.Command(),
		identity.Command(),
		person.Command(), console.Command())
	command.AddGroup(r, "Operation", backup.Command(), backup.KeyringCommand(), backup.RestoreCommand(),
		root.Command(), recovery.Command(), verify.Command(), drill.Command(), size.Command(),
		database.Command())
	command.AddGroup(r, "Recognition", models.Command(), models.EvaluateCommand(), bench.Command())
	r.AddCommand(settings.Topic())
	r.Version = build.Version() // for "visage --version"; "visage version" says more
	return r
}
