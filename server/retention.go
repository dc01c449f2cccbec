package server

import (
	"context"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api/armapi/armwire"
	"github.com/visage-face/visage/face"
)

// retentions implements retention and legal holds for the management plane.
type retentions struct{ face *face.Service }

// Keeping implements armapi.Retentions.
func (r retentions) Keeping(ctx context.Context, of visage.Resource) (armwire.Keeping, error) {
	k, err := r.face.Keeping(ctx, of)
	if err != nil {
		return armwire.Keeping{}, err
	}
	answer := armwire.Keeping{Collections: []armwire.Retention{}, Holds: []armwire.Hold{}}
	if k.Default != nil {
		answer.Default = &armwire.Retention{Days: &k.Default.Days, Since: string(k.Default.Since)}
	}
	for _, c := range k.Collections {
		answer.Collections = append(answer.Collections, armwire.Retention{
			Kind: kindName(c.Ref.Kind), ID: c.Ref.ID, Days: &c.Retention.Days, Since: string(c.Retention.Since),
		})
	}
	for _, h := range k.Holds {
		answer.Holds = append(answer.Holds, armwire.Hold{
			Kind: kindName(h.On.Ref.Kind), ID: h.On.Ref.ID, Item: h.On.Item, Reason: h.Reason, By: h.By,
			Placed: &h.Placed,
		})
	}
	return answer, nil
}

// SetRetention implements armapi.Retentions.
func (r retentions) SetRetention(ctx context.Context, of visage.Resource, want armwire.Retention) error {
	ref, err := refOf(want.Kind, want.ID)
	if err != nil || want.Days == nil {
		if err == nil {
			err = r.face.SetRetention(ctx, of, ref, nil)
		}
		return err
	}
	since := face.Since(want.Since)
	if since == "" {
		since = face.SinceEnrolment
	}
	return r.face.SetRetention(ctx, of, ref, &face.Retention{Days: *want.Days, Since: since})
}

// Expire implements armapi.Retentions.
func (r retentions) Expire(ctx context.Context, of visage.Resource, dry bool) (armwire.Expired, error) {
	gone, err := r.face.Expire(ctx, of, dry)
	return armwire.Expired(gone), err
}

// Hold implements armapi.Retentions.
func (r retentions) Hold(ctx context.Context, of visage.Resource, h armwire.Hold) error {
	ref, err := refOf(h.Kind, h.ID)
	if err != nil {
		return err
	}
	return r.face.Hold(ctx, of, face.Held{Ref: ref, Item: visage.FoldUUID(h.Item)}, h.Reason)
}

// Release implements armapi.Retentions.
func (r retentions) Release(ctx context.Context, of visage.Resource, h armwire.Hold) error {
	ref, err := refOf(h.Kind, h.ID)
	if err != nil {
		return err
	}
	return r.face.Release(ctx, of, face.Held{Ref: ref, Item: visage.FoldUUID(h.Item)})
}

// Held implements armapi.Retentions.
func (r retentions) Held(ctx context.Context, of visage.Resource) (bool, error) {
	return r.face.Held(ctx, of)
}

// kindName is the name of a kind of collection in paths; empty for the zero kind, which means the resource.
func kindName(k face.Kind) string {
	if k == 0 {
		return ""
	}
	return strings.ToLower(k.String())
}

// refOf parses the name of a group or list; without kind and id it is the resource.
func refOf(kind, id string) (face.Ref, error) {
	if kind == "" && id == "" {
		return face.Ref{}, nil
	}
	for k := face.FaceList; k <= face.LargePersonGroup; k++ {
		if strings.EqualFold(kind, k.String()) {
			return face.Ref{Kind: k, ID: id}, nil
		}
	}
	return face.Ref{}, visage.Refuse(visage.Invalid, "BadArgument",
		"kind must be facelist, largefacelist, persongroup or largepersongroup.")
}
