package demo

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// The least share of the enrolled people who must be recognised on the derived photos, among those whose face is found
// there. It is not 1: the samples include profiles and closed eyes.
const leastRecognised = 0.8

// identify searches for people on photos that the service has not seen: the other samples of people who are on several,
// and photos derived from the samples by turning, scaling and other light. The people on derived photos are known from
// the position of each face on the original.
func (d *demonstration) identify(ctx context.Context) error {
	if err := os.MkdirAll(d.Out, 0o755); err != nil {
		return err
	}
	if err := d.identifyAgain(ctx); err != nil {
		return err
	}
	d.say(
		"   the samples show most people once, so more photos are derived from them: turned, scaled, in other light",
	)
	var right, wrong, missed, strangers, strangersKnown int
	for i, original := range d.photos {
		for v, variant := range variants {
			p, err := variant.apply(original)
			if err != nil {
				return err
			}
			faces, err := d.client.detect(ctx, p.bytes)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			answers, err := d.client.identify(ctx, groupID, faceIDs(faces))
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			var labels []label
			for j, f := range faces {
				truth := d.whoIsAt(i, variant, original.picture.Bounds().Size(), f.FaceRectangle)
				said, confidence := d.named(answers[j])
				l := label{box: f.FaceRectangle, text: "not known"}
				if said != nil {
					l.text, l.known = fmt.Sprintf("%s %.2f", said.name, confidence), true
				}
				labels = append(labels, l)
				switch {
				case truth == nil: // a face that was not found on the original
				case truth.id == "" && said == nil:
					strangers++
				case truth.id == "":
					strangers++
					strangersKnown++
				case said == truth:
					right++
				case said == nil:
					missed++
				default:
					wrong++
					d.say("   %s: %s was identified as %s", p.name, truth.name, said.name)
				}
			}
			picture, err := annotate(p, labels)
			if err != nil {
				return err
			}
			name := filepath.Join(d.Out, fmt.Sprintf("%s-%d.jpg", strings.TrimSuffix(original.name, ".jpg"), v+1))
			if err := os.WriteFile(name, picture, 0o644); err != nil {
				return fmt.Errorf("write picture: %w", err)
			}
			d.say("   %s: %d faces -> %s", p.name, len(faces), name)
		}
	}
	asked := right + wrong + missed
	if lost := len(d.sighted)*len(variants) - asked - strangers; lost > 0 {
		d.say("   %d faces were not found at all on the derived photos, some of which cut faces off", lost)
	}
	d.say(
		"   of %d faces of enrolled people: %d recognised, %d not, %d as another person; stranger: %d faces, "+
			"%d recognised",
		asked, right, missed, wrong, strangers, strangersKnown)
	d.must(asked > 0 && float64(right) >= leastRecognised*float64(asked), "%d of %d faces recognised", right, asked)
	d.must(wrong == 0, "%d faces were identified as another person", wrong)
	d.must(strangersKnown == 0, "a stranger was recognised")
	d.summary = append(d.summary,
		[2]string{"recognised on derived photos",
			fmt.Sprintf("%d of %d, %d as another person", right, asked, wrong)},
		[2]string{"pictures with names", d.Out})
	return nil
}

// identifyAgain identifies people on samples other than the one they were enrolled from.
func (d *demonstration) identifyAgain(ctx context.Context) error {
	asked, right := 0, 0
	for _, p := range d.people {
		if p.id == "" {
			continue
		}
		for _, s := range p.seen[1:] {
			answers, err := d.client.identify(ctx, groupID, []string{s.face.FaceID})
			if err != nil {
				return err
			}
			said, confidence := d.named(answers[0])
			asked++
			if said == p {
				right++
				d.say("   %s is also on %s: recognised, confidence %.3f", p.name, d.photos[s.photo].name, confidence)
			}
		}
	}
	if asked > 0 {
		d.must(right == asked, "%d of %d recognised on another sample", right, asked)
		d.summary = append(d.summary, [2]string{"recognised on other samples", fmt.Sprintf("%d of %d", right, asked)})
	}
	return nil
}

// named returns the person of an answer, or nil.
func (d *demonstration) named(answer identified) (*person, float64) {
	if len(answer.Candidates) == 0 {
		return nil, 0
	}
	for _, p := range d.people {
		if p.id == answer.Candidates[0].PersonID {
			return p, answer.Candidates[0].Confidence
		}
	}
	return nil, 0
}

// whoIsAt returns the person in a box of a derived photo: the one of the face of the original that maps there.
func (d *demonstration) whoIsAt(photo int, v variant, size image.Point, box Box) *person {
	x, y := float64(box.Left)+float64(box.Width)/2, float64(box.Top)+float64(box.Height)/2
	for _, s := range d.sighted {
		if s.photo != photo {
			continue
		}
		b := s.face.FaceRectangle
		cx, cy := v.place(size, float64(b.Left)+float64(b.Width)/2, float64(b.Top)+float64(b.Height)/2)
		if math.Hypot(cx-x, cy-y) < v.scale*float64(b.Width)/2 {
			return s.person
		}
	}
	return nil
}

func faceIDs(faces []detected) []string {
	var ids []string
	for _, f := range faces {
		ids = append(ids, f.FaceID)
	}
	return ids
}

// compare verifies a person against another photo of the same person and of a different one, and finds the person among
// all faces.
func (d *demonstration) compare(ctx context.Context) error {
	first, second := d.people[0], d.people[1]
	original := d.photos[first.seen[0].photo]
	p, err := variants[0].apply(original)
	if err != nil {
		return err
	}
	faces, err := d.client.detect(ctx, p.bytes)
	if err != nil {
		return err
	}
	var again string
	for _, f := range faces {
		if d.whoIsAt(first.seen[0].photo, variants[0], original.picture.Bounds().Size(), f.FaceRectangle) == first {
			again = f.FaceID
		}
	}
	if again == "" {
		return fmt.Errorf("%s was not found again", first.name)
	}
	same, confidence, err := d.client.verify(ctx, again, first.seen[0].face.FaceID)
	if err != nil {
		return err
	}
	d.say("   %s and %s: same %t, confidence %.3f", first.name, first.name, same, confidence)
	d.must(same, "%s was not verified", first.name)
	other, confidence, err := d.client.verify(ctx, again, second.seen[0].face.FaceID)
	if err != nil {
		return err
	}
	d.say("   %s and %s: same %t, confidence %.3f", first.name, second.name, other, confidence)
	d.must(!other, "%s passed for %s", first.name, second.name)
	var among []string
	for _, s := range d.sighted {
		among = append(among, s.face.FaceID)
	}
	alike, err := d.client.findSimilar(ctx, again, among)
	if err != nil {
		return err
	}
	d.must(len(alike) > 0 && alike[0].FaceID == first.seen[0].face.FaceID, "find similar did not find %s", first.name)
	d.say("   find similar among %d faces: %d, the right one first", len(among), len(alike))
	d.summary = append(d.summary, [2]string{"verify, find similar", "same person yes, other person no; found among " +
		fmt.Sprint(len(among))})
	return nil
}

// forget deletes a person and checks that no search finds them any more, at once and without training.
func (d *demonstration) forget(ctx context.Context) error {
	gone := d.people[0]
	if err := d.client.deletePerson(ctx, groupID, gone.id); err != nil {
		return err
	}
	_, err := d.client.getPerson(ctx, groupID, gone.id)
	refused, ok := errors.AsType[*problem](err)
	d.must(ok && refused.status == http.StatusNotFound, "the deleted person still exists: %v", err)
	answers, err := d.client.identify(ctx, groupID, []string{gone.seen[0].face.FaceID})
	if err != nil {
		return err
	}
	found := len(answers[0].Candidates) > 0 && answers[0].Candidates[0].PersonID == gone.id
	d.must(!found, "the deleted person is still recognised")
	d.say("   %s is deleted: 404, and not recognised on the photo they were enrolled from", gone.name)
	d.summary = append(d.summary, [2]string{"deleted person", "not found at once, without training"})
	return nil
}
