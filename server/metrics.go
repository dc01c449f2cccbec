package server

import (
	"context"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/audit"
	"github.com/visage-face/visage/metrics"
)

// openMetrics opens the figures that the instance keeps. It may use rooms of l that are opened later, since the first
// sample is taken when everything is open.
func (s *Server) openMetrics(ctx context.Context, l *layers) (*metrics.Recorder, error) {
	return metrics.Open(ctx, metrics.Config{Store: l.store, Sample: l.sample, Logger: s.log})
}

// sample returns what the memory of galleries and the data's volume hold now.
func (l *layers) sample() metrics.Sample {
	sample := metrics.Sample{Galleries: l.face.GalleryMemory()}
	for _, v := range l.store.Maintenance().Volumes() {
		if v.Holds == "data" {
			sample.DiskUsed, sample.DiskTotal = v.Total-min(v.Free, v.Total), v.Total
		}
	}
	return sample
}

// answered counts a request.
func (l *layers) answered(a api.Answered) {
	l.metrics.Observe(metrics.Observation{Resource: a.Resource, Status: a.Status, Code: a.Code, Took: a.Took})
}

// polled counts the answer of a customer's key.
func (l *layers) polled(answer audit.Outcome, dependents []visage.ResourceID) {
	check := metrics.CheckUnanswered
	switch answer {
	case audit.Done:
		check = metrics.CheckOK
	case audit.Refused:
		check = metrics.CheckRefused
	}
	l.metrics.ObserveCheck(check, dependents...)
}
