package face

import (
	"context"
	"fmt"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/sealed"
)

// sweep removes from a resource's space what no request can reach any more: detected faces whose hour has passed, and
// the contents of deleted collections. It drops contents before it deletes the record that names them, so the next
// round continues after a crash. Of the processes that share the store one sweeps, but each stores its own matches.
func (s *Service) sweep(ctx context.Context, id visage.ResourceID) {
	res := visage.Resource{ID: id}
	now := hourNumber(time.Now())
	var over []int64
	var dropped []trashRecord
	err := s.view(ctx, res, func(r sealed.Reader) error {
		over, dropped = nil, nil
		for h, err := range hours.In().All(r) {
			if err != nil {
				return err
			}
			if h.Hour < now {
				over = append(over, h.Hour)
			}
		}
		for t, err := range trash.In().All(r) {
			if err != nil {
				return err
			}
			dropped = append(dropped, t)
		}
		return nil
	})
	if err == nil {
		err = s.writeMatches(ctx, res)
	}
	due := false
	if err == nil {
		due, err = s.expiryDue(ctx, res)
	}
	if err == nil && (due || len(over)+len(dropped) > 0) {
		err = s.alone(ctx, "sweep", id, s.sweeps, func(ctx context.Context, claim *sealed.Claim) error {
			for _, hour := range over {
				if err := s.dropHour(ctx, res, hour); err != nil {
					return err
				}
			}
			for _, t := range dropped {
				if err := s.dropContents(ctx, res, t); err != nil {
					return err
				}
			}
			if !due {
				return nil
			}
			return s.expireNow(ctx, res, claim)
		})
	}
	s.report(ctx, "sweep", id, err)
}

// dropHour removes the detected faces that expired in an hour.
func (s *Service) dropHour(ctx context.Context, res visage.Resource, hour int64) error {
	name := hourName(hour)
	if err := detections.In(name).Drop(ctx, s.space(res)); err != nil {
		return fmt.Errorf("drop expired faces: %w", outcome(err))
	}
	err := s.update(ctx, res, func(tx sealed.Tx) error { return remove(tx, hours.In(), name) })
	if err == nil {
		s.metrics.swept.Inc()
	}
	return err
}

// dropContents removes the contents of a deleted collection, or the templates that a migration left.
func (s *Service) dropContents(ctx context.Context, res visage.Resource, t trashRecord) error {
	name, space := t.Of.String(), s.space(res)
	drops := []func(context.Context, *sealed.Space) error{faces.In(name).Drop}
	if !t.Templates {
		drops = append(drops, persons.In(name).Drop, userData.In(name).Drop, enrolled.In(name).Drop,
			matched.In(name).Drop, changes.In(name).Drop)
	}
	for _, drop := range drops {
		if err := drop(ctx, space); err != nil {
			return fmt.Errorf("drop contents of a deleted collection: %w", outcome(err))
		}
	}
	receipt, err := s.erase(ctx, res, func(tx sealed.Tx) error { return remove(tx, trash.In(), t.id()) })
	if err == nil {
		what := erasedContents
		if t.Templates {
			what = erasedTemplates
		}
		s.erased(ctx, res, audit.GroupDelete, Ref{}, receipt, map[audit.Detail]string{audit.DetailOperation: what})
	}
	return err
}
