package custody

import (
	"context"
	"fmt"
	"slices"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// Reassign has another principal use the keys of the change under way, and reports whether there is such a change past
// its point of no return. Otherwise a change whose identity was removed could be neither finished nor undone.
func (c *Custody) Reassign(ctx context.Context, id sealed.SpaceID, as visage.PrincipalID) (underWay bool, err error) {
	sp, err := c.space(ctx, id)
	if err != nil {
		return false, fmt.Errorf("assign another principal to the change of keys: %w", err)
	}
	_, underWay, err = c.reassign(ctx, sp, as)
	return underWay, err
}

func (c *Custody) reassign(
	ctx context.Context, sp *space, as visage.PrincipalID,
) (op Operation, underWay bool, err error) {
	n := sp.noteNow()
	if n.Flow == nil || !n.Flow.committed() || as == "" {
		return Operation{}, false, nil
	}
	f := *n.Flow
	another := func(b binding) bool { return b.As != as }
	if (f.To == nil || f.To.As == as) && !slices.ContainsFunc(n.bindings(), another) {
		return f.operation(), true, nil
	}
	of := f.To
	if of == nil {
		of = n.Key
	}
	if err := c.record(ctx, sp, audit.CustodySwitch, audit.Done, of, f.Version, nil); err != nil {
		return Operation{}, true, err
	}
	err = c.updateNote(ctx, sp, func(n *note) {
		underWay = n.Flow != nil && n.Flow.ID == f.ID
		if !underWay {
			return
		}
		for _, b := range []*binding{n.Key, n.Flow.To} { // freshly decoded, so not shared
			if b != nil {
				b.As = as
			}
		}
		for i := range n.Others {
			n.Others[i].As = as
		}
		for i := range n.Flow.After {
			n.Flow.After[i].As = as
		}
	})
	c.askNow(sp)
	return f.operation(), underWay, err
}
