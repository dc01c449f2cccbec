package face

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/vision"
)

// model returns the recogniser and the full name of a recognition model; empty: the default.
func (s *Service) model(name string) (Recogniser, string, error) {
	if name == "" {
		name = DefaultRecognitionModel
	}
	m, ok := s.models[name]
	if !ok {
		return nil, "", badArgument("The recognition model %q is not one of %s.", printable(name), s.modelNames)
	}
	return m, name, nil
}

// recogniserOf returns the recogniser that a collection was made with, even if another serves its model by now:
// distances between templates of different packs mean nothing.
func (s *Service) recogniserOf(c collectionRecord) (Recogniser, error) {
	m := s.packs[c.Networks]
	if m == nil {
		return nil, visage.Refuse(visage.Unavailable, "ServiceUnavailable",
			"%q needs the model pack %q, which is not loaded on this server. Ask the operator to load "+
				"it.", c.ID, c.Networks)
	}
	return m, nil
}

// Models returns the names of the recognition models, sorted.
func (s *Service) Models() []string { return slices.Sorted(maps.Keys(s.models)) }

// Attributes returns the names of the attributes that Detect can give with a recognition and a detection model; empty:
// the defaults. Refusal: BadArgument.
func (s *Service) Attributes(recognition, detection string) ([]string, error) {
	recogniser, model, err := s.model(recognition)
	if err != nil {
		return nil, err
	}
	d, err := detectionModel(detection)
	if err != nil {
		return nil, err
	}
	return (detectionGives(d.name) & recognitionGives(model) & recogniser.Supports()).Names(), nil
}

// Preview returns a photo upright, as detection sees it, with at most side pixels on its longer side; nil: the
// recogniser of the model cannot show photos. Nothing is kept. Refusals: BadArgument, InvalidImage, InvalidImageSize.
func (s *Service) Preview(ctx context.Context, photo []byte, model string, side int) (*Preview, error) {
	recogniser, _, err := s.model(model)
	if err != nil {
		return nil, err
	}
	shows, ok := recogniser.(showing)
	if !ok {
		return nil, nil
	}
	p, err := shows.Preview(ctx, photo, side)
	if err != nil {
		return nil, fmt.Errorf("show a photo: %w", imageError(err))
	}
	return p, nil
}

// Calibrations returns what the confidences of each open model pack stand for, by the name of the pack. None of them
// must be changed.
func (s *Service) Calibrations() map[string]*Calibration {
	all := make(map[string]*Calibration)
	for name, m := range s.packs {
		if c := calibrationOf(m); c != nil {
			all[name] = c
		}
	}
	return all
}

// imageError turns an error of vision about a photo into a refusal of the contract.
func imageError(err error) error {
	if image, ok := errors.AsType[*vision.ImageError](err); ok {
		code := "InvalidImageSize"
		if image.Kind == vision.UnknownFormat || image.Kind == vision.Broken {
			code = "InvalidImage"
		}
		return &photoError{imageFaults[image.Kind],
			visage.Refuse(visage.Invalid, code, "The image cannot be used: %s.", image.Message)}
	}
	if unsupported, ok := errors.AsType[*vision.UnsupportedError](err); ok {
		return unsupportedAttributes(unsupported.Asked.Names(), unsupported.Supported)
	}
	return fmt.Errorf("recognise: %w", err)
}
