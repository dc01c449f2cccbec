package face

import (
	"context"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
)

// A collection moves from one model pack to another by a migration. A template of one pack cannot be made from one of
// another, and photos are not kept, so the customer sends the photo of every face again. Until all have been sent, the
// templates of both packs are stored side by side, in containers of their own, and a detected face is compared with
// those of the pack that detected it. Every step is one transaction, so a crash falls before a step or after it.

// Migration is the progress of moving a list or group to another recognition model.
type Migration struct {
	From, To string    // recognition models; their names may be equal, their packs differ
	Faces    int       // in the list or group
	Sent     int       // of Faces, those that have a template of the new pack
	Started  time.Time // UTC
}

// StartMigration begins to move a list or group to the pack that serves a recognition model now. Until
// CompleteMigration, searches answer as before; in addition, faces that were detected with the new model are compared
// with those that MigrateFace was given. Faces that are added meanwhile get templates of both packs from their one
// photo. Starting again with the same model changes nothing. Refusals: BadArgument, also when that pack made the
// existing templates; FaceListNotFound and so on; FaceListMigrationExists and so on during a migration to another
// model; LargeFaceListTrainingNotFinished and so on.
func (s *Service) StartMigration(ctx context.Context, res visage.Resource, ref Ref, model string) error {
	if model == "" {
		return badArgument("recognitionModel is required: give the model to migrate to.")
	}
	recogniser, model, err := s.model(model)
	if err != nil {
		return err
	}
	templates := visage.NewUUID()
	before, st, err := s.changeMigration(ctx, res, ref, func(tx sealed.Tx, c *collectionRecord, st *stateRecord) error {
		switch m := c.Migration; {
		case m != nil && m.Model == model && m.Networks == recogniser.Name():
			return nil
		case m != nil:
			return visage.Refuse(visage.Conflict, ref.Kind.String()+"MigrationExists",
				"A migration of the %s %q to another model is in progress. Complete or cancel it "+
					"first.", ref.Kind, ref.ID)
		case c.Networks == recogniser.Name():
			return badArgument("The faces of %q already have templates of the model pack that serves "+
				"%s.", ref.ID, model)
		}
		c.Migration = &migrationRecord{
			Model: model, Networks: recogniser.Name(), Templates: templates, Started: time.Now().Unix(),
		}
		st.Sent = 0
		st.note(sidesChanged)
		return nil
	})
	if err != nil {
		return fmt.Errorf("start migration: %w", err)
	}
	s.changed(ctx, res, before, st)
	return nil
}

// changeMigration changes a collection and its state in one transaction, and returns the earlier collection
// and the new state.
func (s *Service) changeMigration(
	ctx context.Context, res visage.Resource, ref Ref,
	change func(tx sealed.Tx, c *collectionRecord, st *stateRecord) error,
) (before collectionRecord, st stateRecord, err error) {
	release, err := s.locks.acquire(ctx, collectionsOrder(res, ref.Kind)+ref.ID)
	if err != nil {
		return before, st, err
	}
	defer release()
	err = s.update(sealed.FromReserve(ctx), res, func(tx sealed.Tx) error {
		var c collectionRecord
		if c, st, err = findIdle(tx, ref); err != nil {
			return err
		}
		before = c
		if err := change(tx, &c, &st); err != nil {
			return err
		}
		if err := collections.In(ref.Kind.String()).Put(tx, ref.ID, c); err != nil {
			return fmt.Errorf("write %s: %w", ref.Kind, err)
		}
		return putState(tx, ref.Kind, c, &st)
	})
	return before, st, err
}

// Migration returns the progress of the migration of a list or group. Refusals of kind NotFound: FaceListNotFound and
// so on; FaceListMigrationNotFound and so on when none is in progress.
func (s *Service) Migration(ctx context.Context, res visage.Resource, ref Ref) (Migration, error) {
	var m Migration
	err := s.view(ctx, res, func(r sealed.Reader) error {
		c, st, err := findState(r, ref)
		switch {
		case err != nil:
			return err
		case c.Migration == nil:
			return ref.notMigrating()
		}
		m = Migration{
			From: c.Model, To: c.Migration.Model, Faces: st.Faces, Sent: st.Sent,
			Started: time.Unix(c.Migration.Started, 0).UTC(),
		}
		return nil
	})
	if err != nil {
		return Migration{}, fmt.Errorf("migration: %w", err)
	}
	return m, nil
}

// CompleteMigration ends a migration: only the new pack answers, and the templates of the old one are dropped. With
// dropMissing, faces whose photo has not been sent are deleted first, as by DeleteFace; if that is interrupted, the
// migration goes on without those that were deleted.
//
// Refusals: FaceListMigrationNotFound and so on; FaceListMigrationNotFinished and so on while faces are missing;
// LegalHold when a missing face or its person is held; LargeFaceListTrainingNotFinished and so on.
func (s *Service) CompleteMigration(ctx context.Context, res visage.Resource, ref Ref, dropMissing bool) error {
	if dropMissing {
		if err := s.dropMissing(ctx, res, ref); err != nil {
			return fmt.Errorf("complete migration: %w", err)
		}
	}
	before, st, err := s.changeMigration(ctx, res, ref, func(tx sealed.Tx, c *collectionRecord, st *stateRecord) error {
		switch {
		case c.Migration == nil:
			return ref.notMigrating()
		case st.Sent < st.Faces:
			return visage.Refuse(visage.Conflict, ref.Kind.String()+"MigrationNotFinished",
				"Of the %d faces of %q, %d have not been migrated. Send their photos, or delete these faces with "+
					"dropMissing.",
				st.Faces, ref.ID, st.Faces-st.Sent)
		}
		if err := putTrash(tx, trashRecord{Of: c.templates(), Templates: true}); err != nil {
			return err
		}
		*c, st.Sent = c.next(), 0
		st.note(sidesChanged)
		return nil
	})
	if err != nil {
		return fmt.Errorf("complete migration: %w", err)
	}
	s.galleries.Drop(scope(res, before))
	s.changed(ctx, res, before.next(), st)
	s.sweeps.add(res.ID)
	return nil
}

// CancelMigration ends a migration and undoes it: only the old pack answers, and the templates of the new one are
// dropped. Refusals: FaceListMigrationNotFound and so on; LargeFaceListTrainingNotFinished and so on.
func (s *Service) CancelMigration(ctx context.Context, res visage.Resource, ref Ref) error {
	before, st, err := s.changeMigration(ctx, res, ref, func(tx sealed.Tx, c *collectionRecord, st *stateRecord) error {
		if c.Migration == nil {
			return ref.notMigrating()
		}
		if err := putTrash(tx, trashRecord{Of: c.Migration.Templates, Templates: true}); err != nil {
			return err
		}
		c.Migration, st.Sent = nil, 0
		st.note(sidesChanged)
		return nil
	})
	if err != nil {
		return fmt.Errorf("cancel migration: %w", err)
	}
	s.galleries.Drop(scope(res, before.next()))
	before.Migration = nil
	s.changed(ctx, res, before, st)
	s.sweeps.add(res.ID)
	return nil
}
