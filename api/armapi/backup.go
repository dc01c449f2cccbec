package armapi

import (
	"context"
	"io"
	"net/http"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/api/armapi/armwire"
)

// Backups writes backups and keyrings while the service runs.
type Backups interface {
	// WriteBackup writes the data of all resources, sealed as stored.
	WriteBackup(ctx context.Context, by visage.Caller, w io.Writer) error
	// WriteKeyring writes the wrapped keys of that data.
	WriteKeyring(ctx context.Context, by visage.Caller, w io.Writer) error
	// WriteVerification opens every stored value whose key is available now, and writes a line of JSON for each
	// resource.
	WriteVerification(ctx context.Context, by visage.Caller, w io.Writer) error
	// RecordVerified records that the operator has verified a copy where it lies, and how that ended. Refusal:
	// InvalidRequestContent for a copy that is none of this instance.
	RecordVerified(ctx context.Context, by visage.Caller, v armwire.VerifiedCopy) error
}

// operations is the provider of the operator's actions on the instance. It is an extension: Azure has none like it.
const operations = oneSubscription + "/providers/Visage.Operations"

// backupRoutes stream backups. They are for the operator only, since they contain every resource.
func (p *plane) backupRoutes(route routeMaker) []api.Route {
	streamed := func(write func(context.Context, visage.Caller, io.Writer) error) handle {
		return func(r *api.Request) (any, error) {
			return api.Reply{Status: http.StatusOK, Stream: func(ctx context.Context, w io.Writer) error {
				return write(ctx, r.Caller(), w)
			}}, nil
		}
	}
	return []api.Route{
		route(http.MethodPost, operations+"/backup", p.forOperator(streamed(p.Backups.WriteBackup)),
			api.Doc{Summary: "Stream a backup of the data of all resources"}),
		route(http.MethodPost, operations+"/keyring", p.forOperator(streamed(p.Backups.WriteKeyring)),
			api.Doc{Summary: "Stream a copy of the keyring"}),
		route(http.MethodPost, operations+"/verify", p.forOperator(streamed(p.Backups.WriteVerification)),
			api.Doc{Summary: "Open all that is stored and stream what does not open, resource by resource"}),
		route(http.MethodPost, operations+"/verified", p.forOperator(p.recordVerified),
			api.Doc{Summary: "Record how the verification of a backup or of a copy of the keyring ended",
				Body: armwire.VerifiedCopy{}}),
	}
}

// recordVerified records the verification of a copy.
func (p *plane) recordVerified(r *api.Request) (any, error) {
	var v armwire.VerifiedCopy
	if err := read(r, &v); err != nil {
		return nil, err
	}
	if err := p.Backups.RecordVerified(r.Context(), r.Caller(), v); err != nil {
		return nil, err
	}
	return api.Reply{Status: http.StatusNoContent}, nil
}
