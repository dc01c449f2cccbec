package sealed

import (
	"context"

	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// turnPages is how many lowest key pages one transaction of a turn rewrites: about a megabyte.
const turnPages = 64

// rewritePages brings every page under a fresh key, folding the nursery rows on the way.
func (sp *Space) rewritePages(ctx context.Context) error {
	var containers []format.ID
	err := sp.View(ctx, func(r Reader) (err error) {
		containers, err = r.txn().containers()
		return err
	})
	for _, c := range containers {
		position := format.ID{}
		for more := true; more && err == nil; {
			var goOn format.ID
			err = sp.updateAlone(ctx, func(t *txn) (err error) {
				goOn, more, err = t.turnStep(c, position)
				return err
			})
			position = goOn
		}
	}
	return err
}

// containers lists the containers of the space.
func (t *txn) containers() (list []format.ID, err error) {
	w := t.root.leaves()
	for {
		n, err := w.next()
		if err != nil || n == nil {
			return list, err
		}
		if err := t.root.open(n); err != nil {
			return list, err
		}
		for i := range n.page.Len() {
			if id, _ := n.page.At(i); id != rowkey.Root {
				list = append(list, id)
			}
		}
	}
}

// turnStep rewrites up to turnPages lowest pages of a container, those above them and its head, and returns where to go
// on.
func (t *txn) turnStep(container, position format.ID) (goOn format.ID, more bool, err error) {
	tr, err := t.tree(container)
	if err != nil || tr == nil || tr.head.Dropped {
		return position, false, err
	}
	tr.rekey, tr.written = true, true
	for range turnPages {
		leaf, err := tr.leaf(position)
		if err == nil {
			err = tr.change(leaf)
		}
		if err != nil {
			return position, false, err
		}
		if position, more = rowkey.Next(leaf.upper); !more {
			break
		}
	}
	return position, more, nil
}
