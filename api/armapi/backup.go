package armapi

import (
	"context"
	"io"
	"net/http"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
)

// Backups writes what an operator takes away, while the service goes on.
type Backups interface {
	// WriteBackup writes the data of all resources, sealed as it is stored.
	WriteBackup(ctx context.Context, by visage.Caller, w io.Writer) error
	// WriteKeyring writes the keys of that data, as they are wrapped.
	WriteKeyring(ctx context.Context, by visage.Caller, w io.Writer) error
	// WriteVerification opens all that is stored, as far as its keys let it be opened now, and writes a line of JSON
	// for each resource.
	WriteVerification(ctx context.Context, by visage.Caller, w io.Writer) error
}

// operations is the provider of what operators do with the instance. It is ours; Azure has nothing like it.
const operations = oneSubscription + "/providers/Visage.Operations"

// backupRoutes are the streams of backups, for the operator alone: they hold every resource there is.
func (p *plane) backupRoutes(route routeMaker) []api.Route {
	streamed := func(write func(context.Context, visage.Caller, io.Writer) error) handle {
		return func(r *api.Request) (any, error) {
			return api.Reply{Status: http.StatusOK, Stream: func(ctx context.Context, w io.Writer) error {
				return write(ctx, r.Caller(), w)
			}}, nil
		}
	}
	return []api.Route{
		route(http.MethodPost, operations+"/backup", forOperator(streamed(p.Backups.WriteBackup)),
			api.Doc{Summary: "Stream a backup of the data of all resources"}),
		route(http.MethodPost, operations+"/keyring", forOperator(streamed(p.Backups.WriteKeyring)),
			api.Doc{Summary: "Stream a copy of the keyring"}),
		route(http.MethodPost, operations+"/verify", forOperator(streamed(p.Backups.WriteVerification)),
			api.Doc{Summary: "Open all that is stored and stream what does not open, resource by resource"}),
	}
}
