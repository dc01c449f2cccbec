package faceapi

import (
	"net/http"
	"time"

	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/face"
)

// trainingAnswer is the status of a training, contract §8.
type trainingAnswer struct {
	Status      string     `json:"status" enum:"notstarted notStarted running succeeded failed"`
	Created     timestamp  `json:"createdDateTime"`
	LastAction  *timestamp `json:"lastActionDateTime,omitempty"`
	LastSuccess *timestamp `json:"lastSuccessfulTrainingDateTime,omitempty"`
	Message     string     `json:"message,omitempty"`
}

// timestamp is a time in the format of contract §2.4.
type timestamp time.Time

// MarshalText writes UTC with up to seven fractional digits.
func (t timestamp) MarshalText() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(nil, "2006-01-02T15:04:05.9999999Z"), nil
}

func timestampOf(t time.Time) *timestamp {
	if t.IsZero() {
		return nil
	}
	return (*timestamp)(&t)
}

func (p *plane) trainingRoutes(f family) []api.Route {
	item := f.path + "/{" + f.id + "}"
	return []api.Route{
		// The legacy clients declare their empty body as JSON; it is not read (contract §8).
		p.route(http.MethodPost, item+"/train", 0, quick, p.train(f), api.Doc{
			Summary: "Train a " + f.noun, Status: http.StatusAccepted,
			Headers: []api.Param{{Name: "Operation-Location", Text: "The address of the training's status.",
				Value: ""}},
		}),
		p.get(item+"/training", p.training(f),
			api.Doc{Summary: "Return the status of the training of a " + f.noun, Answer: trainingAnswer{}}),
	}
}

func (p *plane) train(f family) handle {
	return func(r *api.Request) (any, error) {
		if err := p.service.Train(r.Context(), r.Resource, f.ref(r)); err != nil {
			return nil, err
		}
		// Without an absolute address here, the pollers of the clients take the training for finished.
		return api.Reply{Status: http.StatusAccepted, Header: http.Header{
			"Operation-Location":            {r.Address(p.base + f.path + "/" + r.Path(f.id) + "/training")},
			"Access-Control-Expose-Headers": {"Operation-Location"},
		}}, nil
	}
}

func (p *plane) training(f family) handle {
	return func(r *api.Request) (any, error) {
		t, err := p.service.Training(r.Context(), r.Resource, f.ref(r))
		if err != nil {
			return nil, err
		}
		answer := trainingAnswer{
			Status: string(t.Status), Created: timestamp(t.Created), LastAction: timestampOf(t.LastAction),
			LastSuccess: timestampOf(t.LastSuccess), Message: t.Message,
		}
		if t.Status == face.NotStarted {
			answer.Status = p.notStarted
		}
		return answer, nil
	}
}
