package tree

import (
	"bytes"
	"context"

	"github.com/visage-face/visage/sealed/internal/engine"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keys"
	"github.com/visage-face/visage/sealed/internal/rowkey"
)

// reconcileRows is how many rows of a kind one transaction of a reconciliation looks at.
const reconcileRows = 2_000

// Reconciled counts what putting a restored space in order came to.
type Reconciled struct{ Erased, Remade, Forgotten, Older int }

// Reconcile puts a restored space in order, with keys that are not in use yet: the records are from a backup, their
// secrets from a keyring, which is newer. written hears of nursery rows by container. It can be repeated after a crash.
func Reconcile(
	ctx context.Context, env *Env, id format.SpaceID, ring *keys.Ring, eng engine.Engine,
	written func(map[format.ID]int),
) (sum Reconciled, err error) {
	step := func(fn func(*Tx) error) error {
		var rows map[format.ID]int
		err := engine.CommitAndWait(ctx, eng, format.ID(id), func(w engine.Writer) error {
			t := NewWriter(env, id, ring, w)
			defer t.Finish()
			if err := t.OpenRoot(); err != nil {
				return err
			}
			if err := fn(t); err != nil {
				return err
			}
			rows = t.rows
			return t.flush()
		})
		if err == nil {
			written(rows)
		}
		return err
	}
	var all []format.ID
	err = eng.View(ctx, func(r engine.Reader) error {
		t := NewReader(env, id, ring, r)
		defer t.Finish()
		if err := t.OpenRoot(); err != nil {
			return err
		}
		all, err = t.reconcilable()
		return err
	})
	for _, c := range all {
		for _, pass := range []func(*Tx, format.ID, format.ID, *Reconciled) (format.ID, bool, error){
			(*Tx).reconcileRecords, (*Tx).reconcileNursery, (*Tx).reconcilePages,
		} {
			position := format.ID{}
			for more := err == nil; more && err == nil; {
				var goOn format.ID
				var found Reconciled
				err = step(func(t *Tx) (err error) {
					found = Reconciled{} // the transaction may run again
					goOn, more, err = pass(t, c, position, &found)
					return err
				})
				position = goOn
				sum.Erased, sum.Remade = sum.Erased+found.Erased, sum.Remade+found.Remade
				sum.Forgotten, sum.Older = sum.Forgotten+found.Forgotten, sum.Older+found.Older
			}
		}
	}
	return sum, err
}

// reconcilable lists the containers of a restored space, those among them that were dropped since its backup.
func (t *Tx) reconcilable() ([]format.ID, error) {
	all, err := t.Containers()
	if err != nil {
		return nil, err
	}
	seen := map[format.ID]bool{}
	for _, c := range all {
		seen[c] = true
	}
	err = t.eachContainer(rowkey.Record, func(c format.ID) error {
		if !seen[c] {
			all = append(all, c)
		}
		return nil
	})
	return all, err
}

// reconcileRecords looks at records from a position on: one without a secret was erased after the backup, and goes. So
// does one that its secret does not open, for it was erased and another one was made with its id; that secret goes with
// the next passes. One of another version than its secret's opens all the same, since every version has the same
// secret, and is put again. What is damaged stays, and is found by whoever reads it, as in the store it is from; where
// the secret has been folded into a page, damage cannot be told from another record.
func (t *Tx) reconcileRecords(
	container, position format.ID, found *Reconciled,
) (goOn format.ID, more bool, err error) {
	lower, upper := rowkey.Range(format.ID(t.space), rowkey.Record, container, position)
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
	remade := 0
	looked, last := 0, position
	for row, err := range rowkey.Scan(t.r, lower, upper) {
		if err != nil {
			return position, false, err
		}
		_, id := rowkey.Parse(row.Key)
		last, looked = id, looked+1
		secret, nursery, known, err := t.secretAndRow(container, id)
		if err != nil {
			return position, false, err
		}
		version, err := format.RecordVersion(row.Value)
		if err != nil {
			clear(secret.Key)
			return position, false, t.Corrupt("record", container, id, err)
		}
		if !known {
			erased = append(erased, id)
		} else {
			o := old{id: id, secret: secret}
			o.plaintext, o.schema, err = format.OpenRecord(nil, t.place(container, id),
				format.Secret{Key: secret.Key, Version: version}, row.Value)
			switch {
			case err == nil && version != secret.Version:
				o.secret.Version = max(version, secret.Version)
				anew = append(anew, o)
			case err == nil:
				clear(o.plaintext)
				clear(secret.Key)
			default:
				clear(secret.Key)
				if nursery == nil || !bytes.Equal(format.NurserySalt(nursery), format.RecordSalt(row.Value)) {
					erased, remade = append(erased, id), remade+1
				}
			}
		}
		if looked == reconcileRows {
			break
		}
	}
	for _, id := range erased {
		if err := t.w.Delete(rowkey.Of(format.ID(t.space), rowkey.Record, container, id)); err != nil {
			return position, false, err
		}
	}
	for _, o := range anew {
		o.secret.Version++
		if err := t.rewrite(container, o.id, o.schema, o.secret, o.plaintext); err != nil {
			return position, false, err
		}
	}
	found.Erased, found.Remade, found.Older = len(erased)-remade, remade, len(anew)
	goOn, ok := rowkey.Next(last)
	return goOn, ok && looked == reconcileRows, nil
}

// reconcileNursery takes nursery rows away whose record is not in the backup.
func (t *Tx) reconcileNursery(
	container, position format.ID, found *Reconciled,
) (goOn format.ID, more bool, err error) {
	tr, err := t.tree(container)
	if err != nil || tr == nil || tr.head.Dropped {
		return position, false, err
	}
	space := format.ID(t.space)
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
			found.Forgotten++
			if err = t.uncountStored(tr, last); err == nil {
				err = t.w.Delete(key)
			}
		}
	}
	goOn, ok := rowkey.Next(last)
	return goOn, ok && len(keys) == reconcileRows, err
}

// reconcilePages does the same with the entries of one page.
func (t *Tx) reconcilePages(container, position format.ID, found *Reconciled) (goOn format.ID, more bool, err error) {
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
		_, stored, err := t.r.Get(rowkey.Of(format.ID(t.space), rowkey.Record, container, id))
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
	found.Forgotten = len(gone)
	goOn, more = rowkey.Next(leaf.upper)
	return goOn, more, nil
}
