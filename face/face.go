// Package face is what the Face service means: which photo, list, group and person operations exist, what they may be asked, what they
// answer and what they refuse. It knows no wire format and no disk; templates come from a recogniser, are kept in sealed spaces and are
// searched in galleries.
package face

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/vision"
)

// Recogniser finds faces on photos and makes comparable templates of them. *vision.Pipeline is one. It must be safe for concurrent use.
type Recogniser interface {
	// Detect finds the faces on a photo, largest first, and what want asks for; see vision.Pipeline.Detect for the errors.
	Detect(ctx context.Context, photo []byte, want vision.Want) (*vision.Photo, error)
	// Confidence turns a cosine distance (0 same … 2 opposite) into a confidence (0 … 1), falling; 0.5 is the same-person line.
	Confidence(distance float64) float64
	// Dim is the length of a template.
	Dim() int
	// Supports are the attributes Detect can give.
	Supports() vision.Attributes
}

// Config is what a Service is made of.
type Config struct {
	// Models maps a recognition model's name on the wire to what serves it. Required, and must hold DefaultRecognitionModel. Several names
	// may share one recogniser; templates of different names are never compared all the same.
	Models map[string]Recogniser
	// Resources lists the Face resources that exist, for the work that no request starts: resuming trainings and sweeping what has
	// expired. Required.
	Resources func(ctx context.Context) ([]visage.ResourceID, error)
	// GalleryBytes bounds the memory of all loaded galleries together, in bytes. Default 1 GiB. A collection that needs more than this
	// alone cannot be searched.
	GalleryBytes int64
	// Logger gets what no caller is told. Default: discard.
	Logger *slog.Logger
}

// Service performs the operations of the Face contract. It is safe for concurrent use.
//
// Every method takes the resource it works for, whose tier decides the quotas. Errors are of two sorts: a *visage.Refusal is an answer for
// the caller; everything else is an internal failure that callers must not be shown. What a method reports as done is durable.
type Service struct{}

// New checks cfg and makes a Service. It starts nothing; see Run.
func New(cfg Config) (*Service, error) { return nil, errors.New("make face service: not wired yet") }

// Run does the work that no request waits for until ctx ends: it executes trainings (those a crash interrupted too), removes detected faces
// whose time is up, and removes what deleted collections leave behind. Without it trainings do not proceed. It returns nil after everything
// it started has ended.
func (s *Service) Run(ctx context.Context) error { return nil }

// Collectors returns the metrics of the service, to be registered once.
func (s *Service) Collectors() []prometheus.Collector { return nil }

var errNotWired = errors.New("not wired yet")
