package backup

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/cmd/visage/internal/command"
	"github.com/visage-face/visage/cmd/visage/internal/operator"
	"github.com/visage-face/visage/cmd/visage/internal/settings"
)

// isRecorded ends the description of commands that call tell.
const isRecorded = "A running server records the result in its audit log and shows it on the page Operations of the " +
	"console."

// tell makes the running server record how the verification of a copy ended. The result holds without it: copies are
// verified on machines without a server too, so that a server that cannot be told is only mentioned.
func tell(ctx context.Context, c *cobra.Command, s command.Streams, v armwire.VerifiedCopy) {
	dir, err := settings.Dir(c.Flags())
	if err == nil {
		var o *operator.Client
		if o, err = operator.Dial(dir); err == nil {
			err = o.ARM(ctx, http.MethodPost, "/providers/Visage.Operations/verified", v, nil)
		}
	}
	if err != nil {
		fmt.Fprintf(s.Err, "visage: no server has recorded this verification: %v\n", err)
	}
}
