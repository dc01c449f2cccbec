package face

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/gallery"
	"github.com/visage-face/visage/sealed"
)

// Training is the state of the latest training of a group or large face list. Times are UTC.
type Training struct {
	Status      Status
	Created     time.Time // when it was requested
	LastAction  time.Time // when Status last changed
	LastSuccess time.Time // when the last successful training ended, kept through later runs; zero: never
	Message     string    // why it failed; empty otherwise
}

// searchable refuses to search a collection that was never trained, or is being trained.
func (st stateRecord) searchable(ref Ref) error {
	switch {
	case st.Training.underWay():
		return ref.notFinished()
	case st.Training.LastSuccess == 0:
		return ref.notTrained(visage.Invalid)
	}
	return nil
}

// Train requests a training of a group or a large face list; Run performs it. After it has succeeded, searches use the
// state at the time of this call; if it fails, the last successful training stays in force.
//
// Nothing is copied: the training records the sequence number of the newest face and opens every face up to it, which
// also loads the faces into memory for later searches.
//
// Refusals: PersonGroupNotFound and so on; PersonGroupTrainingNotFinished and so on while one is in progress;
// BadArgument for a small face list, which is never trained.
func (s *Service) Train(ctx context.Context, res visage.Resource, ref Ref) error {
	if ref.Kind == FaceList {
		return badArgument("A face list cannot be trained and needs no training: search it directly.")
	}
	err := s.update(sealed.FromReserve(ctx), res, func(tx sealed.Tx) error {
		c, st, err := findIdle(tx, ref)
		if err != nil {
			return err
		}
		now := time.Now().UnixMicro()
		st.Training = trainingRecord{
			Status: NotStarted, Created: now, LastAction: now, LastSuccess: st.Training.LastSuccess, UpTo: st.Sequence,
		}
		job := jobRecord{Kind: ref.Kind, ID: ref.ID, Of: c.Incarnation}
		if err := jobs.In().Put(tx, c.Incarnation.String(), job); err != nil {
			return fmt.Errorf("record the training: %w", err)
		}
		return putState(tx, ref.Kind, c, &st)
	})
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	s.trainings.add(res.ID)
	return nil
}

// Training returns the state of the latest training. Refusals of kind NotFound: PersonGroupNotFound and so on;
// PersonGroupNotTrained and so on when none was ever requested. BadArgument for a small face list.
func (s *Service) Training(ctx context.Context, res visage.Resource, ref Ref) (Training, error) {
	if ref.Kind == FaceList {
		return Training{}, badArgument("A face list cannot be trained and needs no training: search it directly.")
	}
	var t trainingRecord
	err := s.view(ctx, res, func(r sealed.Reader) error {
		_, st, err := findState(r, ref)
		if err != nil {
			return err
		}
		if t = st.Training; t.Status == "" {
			return ref.notTrained(visage.NotFound)
		}
		return nil
	})
	if err != nil {
		return Training{}, fmt.Errorf("training: %w", err)
	}
	if s.store.Shared() && (t.Status == NotStarted || t.Status == Running) {
		s.trainings.addUnlessLater(res.ID) // the process that had it may have ended
	}
	return t.training(), nil
}

func (t trainingRecord) training() Training {
	return Training{
		Status: t.Status, Created: moment(t.Created), LastAction: moment(t.LastAction),
		LastSuccess: moment(t.LastSuccess),
		Message:     t.Message,
	}
}

func moment(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

// train performs the trainings of a resource that have not ended, one after another, in one of the processes that share
// the store. A training that cannot end now (the space is locked, memory is full, the service stops) is tried again in
// a later round.
func (s *Service) train(ctx context.Context, id visage.ResourceID) {
	res := visage.Resource{ID: id}
	var due []jobRecord
	err := s.view(ctx, res, func(r sealed.Reader) error {
		due = nil
		for job, err := range jobs.In().All(r) {
			if err != nil {
				return err
			}
			due = append(due, job)
		}
		return nil
	})
	if err == nil && len(due) > 0 {
		err = s.alone(ctx, "train", id, s.trainings, func(ctx context.Context, claim *sealed.Claim) error {
			var waiting []error // one that waits does not keep others from their turn
			for _, job := range due {
				if err := s.trainOne(ctx, res, job, claim); err != nil {
					waiting = append(waiting, err)
				}
				if ctx.Err() != nil {
					break
				}
			}
			return errors.Join(waiting...)
		})
	}
	s.report(ctx, "train", id, err)
}

// trainOne performs one training, from the step that it had reached.
func (s *Service) trainOne(ctx context.Context, res visage.Resource, job jobRecord, claim *sealed.Claim) error {
	ref := Ref{Kind: job.Kind, ID: job.ID}
	c, st, err := s.step(ctx, res, job, claim, func(st *stateRecord) { st.Training.Status = Running })
	if err != nil || !st.Training.underWay() {
		return err
	}
	var why string
	if st.Faces == 0 {
		why = "There is no face to train with: add faces first."
	} else {
		err = s.loadTrained(ctx, res, ref, c, st)
		if err != nil && ctx.Err() != nil {
			return err
		}
		if why = failure(err, time.Since(moment(st.Training.Created))); err != nil && why == "" {
			return err
		}
		if _, damaged := errors.AsType[*sealed.CorruptError](err); damaged {
			s.log.Error("training failed", "resource", res.ID.String(), "err", err)
		}
	}
	_, _, err = s.step(ctx, res, job, claim, func(st *stateRecord) {
		st.Training.Status, st.Training.Message = Failed, why
		if why == "" {
			st.Training.Status = Succeeded
			st.Training.LastSuccess = time.Now().UnixMicro()
			st.Trained = st.Training.UpTo
		}
	})
	if err != nil {
		return err
	}
	if why != "" {
		s.metrics.trainings.WithLabelValues(string(Failed)).Inc()
		return nil
	}
	s.metrics.trainings.WithLabelValues(string(Succeeded)).Inc()
	for _, side := range c.sides() {
		s.galleries.Retire(scope(res, side), st.Training.UpTo)
	}
	return nil
}

// failure returns why a training that ended with an error fails for good; empty: it is tried again. Only what a person
// has to mend is for good: of an error that says nothing else, as when the database or another process is away, nobody
// knows that it will last. Replicas that are missing come back soon, or never: what does not fit into the memory of
// those that are there, for longer than that takes, needs more memory.
func failure(err error, waited time.Duration) string {
	refusal, refused := errors.AsType[*visage.Refusal](err)
	_, damaged := errors.AsType[*sealed.CorruptError](err)
	switch {
	case refused && errors.Is(err, gallery.ErrTooLarge) && waited > memoryPatience:
		return refusal.Message
	case damaged:
		return "The faces could not be read. The operator of the service has been told."
	case refused && refusal.RetryAfter == 0 && refusal.Kind != visage.KeyRevoked:
		return refusal.Message
	}
	return ""
}

// memoryPatience is how long a training waits for replicas with the memory that its collection needs.
const memoryPatience = 30 * time.Minute

// loadTrained loads what a training will have searched, here or in parts.
func (s *Service) loadTrained(
	ctx context.Context, res visage.Resource, ref Ref, c collectionRecord, st stateRecord,
) error {
	if parts := s.parts(res, ref, c, st, st.Training.UpTo); parts > 1 {
		return s.trainParts(ctx, res, ref, c, st, st.Training.UpTo, parts)
	}
	return s.withGallery(ctx, res, ref, c, st, st.Training.UpTo, func(*gallery.Gallery) error { return nil })
}

// step moves a training one step on, and deletes its job when it has ended. It also deletes a job whose collection is
// gone or whose training has ended already; the state that it returns is then not under way. A process that has lost
// its claim takes no step: the next holder may have ended the training, and another one may have begun since.
func (s *Service) step(
	ctx context.Context, res visage.Resource, job jobRecord, claim *sealed.Claim, change func(*stateRecord),
) (c collectionRecord, st stateRecord, err error) {
	ref := Ref{Kind: job.Kind, ID: job.ID}
	err = s.update(sealed.FromReserve(ctx), res, func(tx sealed.Tx) error {
		if err := claim.Check(tx); err != nil {
			return err
		}
		c, st, err = findState(tx, ref)
		if refusal, ok := errors.AsType[*visage.Refusal](err); ok && refusal.Kind == visage.NotFound {
			c, st = collectionRecord{}, stateRecord{}
		} else if err != nil {
			return err
		}
		if c.Incarnation != job.Of || !st.Training.underWay() {
			st = stateRecord{}
			return remove(tx, jobs.In(), job.Of.String())
		}
		before := st.Training.Status
		change(&st)
		if st.Training.Status != before {
			st.Training.LastAction = time.Now().UnixMicro()
		}
		if !st.Training.underWay() {
			if err := remove(tx, jobs.In(), job.Of.String()); err != nil {
				return err
			}
		}
		return putState(tx, ref.Kind, c, &st)
	})
	return c, st, err
}
