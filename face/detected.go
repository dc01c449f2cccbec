package face

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/sealed"
	"github.com/visage-face/visage/vision"
)

// Five of the 122 random bits of a detected face's id hold the hour in which the face expires, modulo 32. At most 25
// such hours are alive at any moment, so the id says which container holds the face, and no index has to be kept and
// swept. The bits reveal nothing: the owner of the id chose the time to live.
const hourBits = 0x1f

// newFaceID makes the id of a face that expires in an hour, counted from 1970.
func newFaceID(hour int64) uuid {
	u := visage.NewUUID()
	u[15] = u[15]&^hourBits | byte(hour)&hourBits
	return u
}

// hourOf returns the hour in which the face of an id expires, if it is alive in the hour now.
func hourOf(u uuid, now int64) int64 { return now + (int64(u[15]&hourBits)-now)&hourBits }

// hourNumber counts the hours since 1970.
func hourNumber(t time.Time) int64 { return t.Unix() / 3600 }

// hourName is the name of the container of the faces that expire in an hour.
func hourName(hour int64) string { return strconv.FormatInt(hour, 10) }

// keep stores the templates of detected faces until they expire, and returns the ids of the faces, in their order. A
// face without a template gets none: its id is empty.
func (s *Service) keep(
	ctx context.Context, res visage.Resource, m Recogniser, model string, expires time.Time, found []vision.Face,
) ([]string, error) {
	hour := hourNumber(expires)
	var records []detectionRecord
	defer forget(&records)
	ids := make([]string, len(found))
	for i, f := range found {
		if f.Template == nil {
			continue
		}
		code, err := encode(m, f.Template)
		if err != nil {
			return nil, err
		}
		id := newFaceID(hour)
		ids[i] = id.String()
		records = append(records, detectionRecord{
			ID: id, Expires: expires.UnixMilli(), Model: model, Networks: m.Name(), Code: storedCode(code),
		})
	}
	if len(records) == 0 {
		return ids, nil
	}
	err := s.update(ctx, res, func(tx sealed.Tx) error {
		name := hourName(hour)
		if _, err := hours.In().Get(tx, name); errors.Is(err, sealed.ErrNotFound) {
			if err := hours.In().Put(tx, name, hourRecord{Hour: hour}); err != nil {
				return fmt.Errorf("write hour: %w", err)
			}
		} else if err != nil {
			return fmt.Errorf("read hour: %w", err)
		}
		for _, d := range records {
			if err := detections.In(name).Add(tx, d.ID.String(), d); err != nil {
				return fmt.Errorf("write detected face: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// probes reads detected faces, in the order of the ids. A refusal of an unknown or expired face is of the given kind:
// the contract has both 400 and 404.
func (s *Service) probes(r sealed.Reader, kind visage.Kind, ids ...string) ([]detectionRecord, error) {
	now := time.Now()
	found := make([]detectionRecord, len(ids))
	for i, text := range ids {
		id, err := parseID("face", text)
		if err != nil {
			return nil, err
		}
		d, err := detections.In(hourName(hourOf(id, hourNumber(now)))).Get(r, text)
		if err != nil && !errors.Is(err, sealed.ErrNotFound) {
			return nil, fmt.Errorf("read detected face: %w", err)
		}
		// A template of networks that are no longer installed can be compared with nothing: the face must be detected
		// again, as after its time to live.
		if err != nil || now.UnixMilli() >= d.Expires || s.packs[d.Networks] == nil {
			return nil, visage.Refuse(kind, "FaceNotFound", "The face %s does not exist, or its time to live has "+
				"ended.", text)
		}
		found[i] = d
	}
	return found, nil
}

// forget clears the codes of detected faces, which are biometric data, once they have been used.
func forget(probes *[]detectionRecord) {
	for _, d := range *probes {
		clear(d.code())
	}
}
