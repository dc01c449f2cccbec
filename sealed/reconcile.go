package sealed

import (
	"context"
	"fmt"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// reconcileRows is how many rows of a kind one transaction of a reconciliation looks at.
const reconcileRows = 2_000

// reconciled counts what putting a restored space in order came to.
type reconciled struct{ erased, forgotten, older int }

// reconcile puts a restored space in order, with keys that nobody else uses yet: the records are from a backup, their
// secrets from a keyring, which is newer. It can be repeated after a crash, and ends by taking the mark from the
// bundle.
func (s *Store) reconcile(ctx context.Context, id SpaceID, ring *keys.Ring) error {
	sp := &Space{store: s, id: id}
	step := func(fn func(*txn) error) error {
		var rows map[format.ID]int
		err := engine.CommitAndWait(ctx, s.engine, format.ID(id), func(w engine.Writer) error {
			t := &txn{sp: sp, ring: ring, r: w, w: w}
			defer t.finish()
			if err := t.openRoot(); err != nil {
				return err
			}
			if err := fn(t); err != nil {
				return err
			}
			rows = t.rows
			return t.flush()
		})
		if err == nil {
			s.folds.note(id, rows)
		}
		return err
	}
	var all []format.ID
	err := s.engine.View(ctx, func(r engine.Reader) error {
		t := &txn{sp: sp, ring: ring, r: r}
		defer t.finish()
		if err := t.openRoot(); err != nil {
			return err
		}
		known, err := t.containers()
		if err != nil {
			return err
		}
		seen := map[format.ID]bool{}
		for _, c := range known {
			seen[c] = true
		}
		all = known
		return t.eachContainer(rowkey.Record, func(c format.ID) error { // of containers that were dropped since
			if !seen[c] {
				all = append(all, c)
			}
			return nil
		})
	})
	var sum reconciled
	for _, c := range all {
		for _, pass := range []func(*txn, format.ID, format.ID, *reconciled) (format.ID, bool, error){
			(*txn).reconcileRecords, (*txn).reconcileNursery, (*txn).reconcilePages,
		} {
			position := format.ID{}
			for more := err == nil; more && err == nil; {
				var goOn format.ID
				var found reconciled
				err = step(func(t *txn) (err error) {
					found = reconciled{} // the transaction may run again
					goOn, more, err = pass(t, c, position, &found)
					return err
				})
				position = goOn
				sum.erased, sum.forgotten, sum.older = sum.erased+found.erased, sum.forgotten+found.forgotten,
					sum.older+found.older
			}
		}
	}
	if err == nil {
		err = s.bundles.Change(ctx, id, func(doc *keys.Doc) error {
			doc.Restored = false
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("put restored space %s in order: %w", id, err)
	}
	s.report(Event{Kind: SpaceRestored, Space: id, Note: fmt.Sprintf(
		"%d records had been erased since the backup, %d were made since and are not in it, %d are older in it",
		sum.erased, sum.forgotten, sum.older)})
	return nil
}

// reconcileRecords looks at records from a position on: one without a secret was erased after the backup, and goes; one
// of another version than its secret's opens all the same, since every version has the same secret, and is put anew.
func (t *txn) reconcileRecords(
	container, position format.ID, found *reconciled,
) (goOn format.ID, more bool, err error) {
	lower, upper := rowkey.Range(format.ID(t.sp.id), rowkey.Record, container, position)
	type old struct {
		id        format.ID
		secret    format.Secret
		schema    byte
		plaintext []byte
	}
	var anew []old
	defer func() {
		for _, o := range anew {
			clear(o.secret.Key)
			clear(o.plaintext)
		}
	}()
	var erased []format.ID
	looked, last := 0, position
	for row, err := range rowkey.Scan(t.r, lower, upper) {
		if err != nil {
			return position, false, err
		}
		_, id := rowkey.Parse(row.Key)
		last, looked = id, looked+1
		secret, known, err := t.secret(container, id)
		if err != nil {
			return position, false, err
		}
		version, err := format.RecordVersion(row.Value)
		switch {
		case !known:
			erased = append(erased, id)
		case err == nil && version == secret.Version:
			clear(secret.Key)
		case err == nil:
			o := old{id: id, secret: secret}
			at := t.place(container, id)
			o.plaintext, o.schema, err = format.OpenRecord(nil, at, format.Secret{Key: secret.Key, Version: version},
				row.Value)
			o.secret.Version = max(version, secret.Version)
			anew = append(anew, o)
		}
		if err != nil {
			return position, false, t.corrupt("record", container, id, err)
		}
		if looked == reconcileRows {
			break
		}
	}
	for _, id := range erased {
		if err := t.w.Delete(rowkey.Of(format.ID(t.sp.id), rowkey.Record, container, id)); err != nil {
			return position, false, err
		}
	}
	for _, o := range anew {
		o.secret.Version++
		if err := t.rewrite(container, o.id, o.schema, o.secret, o.plaintext); err != nil {
			return position, false, err
		}
	}
	found.erased, found.older = len(erased), len(anew)
	goOn, ok := rowkey.Next(last)
	return goOn, ok && looked == reconcileRows, nil
}

// reconcileNursery takes nursery rows away whose record is not in the backup.
func (t *txn) reconcileNursery(
	container, position format.ID, found *reconciled,
) (goOn format.ID, more bool, err error) {
	tr, err := t.tree(container)
	if err != nil || tr == nil || tr.head.Dropped {
		return position, false, err
	}
	space := format.ID(t.sp.id)
	lower, upper := rowkey.Range(space, rowkey.Nursery, container, position)
	keys, err := rowkey.Collect(t.r, lower, upper, reconcileRows)
	last := position
	for _, key := range keys {
		if len(key) != rowkey.Size {
			continue
		}
		_, last = rowkey.Parse(key)
		stored := false
		if err == nil {
			_, stored, err = t.r.Get(rowkey.Of(space, rowkey.Record, container, last))
		}
		if err == nil && !stored {
			found.forgotten++
			if err = t.uncountStored(tr, last); err == nil {
				err = t.w.Delete(key)
			}
		}
	}
	goOn, ok := rowkey.Next(last)
	return goOn, ok && len(keys) == reconcileRows, err
}

// reconcilePages does the same with the entries of one page.
func (t *txn) reconcilePages(container, position format.ID, found *reconciled) (goOn format.ID, more bool, err error) {
	tr, err := t.tree(container)
	if err != nil || tr == nil || tr.head.Dropped {
		return position, false, err
	}
	leaf, err := tr.leaf(position)
	if err == nil {
		err = tr.open(leaf)
	}
	if err != nil {
		return position, false, err
	}
	var gone []format.ID
	for i := range leaf.page.Len() {
		id, _ := leaf.page.At(i)
		_, stored, err := t.r.Get(rowkey.Of(format.ID(t.sp.id), rowkey.Record, container, id))
		if err != nil {
			return position, false, err
		}
		if !stored {
			gone = append(gone, id)
		}
	}
	if len(gone) > 0 {
		if err := tr.change(leaf); err != nil {
			return position, false, err
		}
	}
	for _, id := range gone {
		leaf.page.Remove(id)
	}
	found.forgotten = len(gone)
	goOn, more = rowkey.Next(leaf.upper)
	return goOn, more, nil
}
