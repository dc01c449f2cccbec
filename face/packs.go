package face

import (
	"errors"
	"fmt"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/vision"
)

// model returns the recogniser of a recognition model and the model's full name.
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

// recogniserOf returns the recogniser that a collection's faces are comparable by: the one that it was made with,
// whatever serves its model by now. Comparing across packs would give answers that mean nothing.
func (s *Service) recogniserOf(c collectionRecord) (Recogniser, error) {
	m := s.packs[c.Networks]
	if m == nil {
		return nil, visage.Refuse(visage.Unavailable, "ServiceUnavailable",
			"%q needs the model pack %q, which is not loaded on this server. Ask the operator to load "+
				"it.", c.ID, c.Networks)
	}
	return m, nil
}

// imageError turns what vision says of a photo into the contract's words.
func imageError(err error) error {
	if image, ok := errors.AsType[*vision.ImageError](err); ok {
		code := "InvalidImageSize"
		if image.Kind == vision.UnknownFormat || image.Kind == vision.Broken {
			code = "InvalidImage"
		}
		return visage.Refuse(visage.Invalid, code, "The image cannot be used: %s.", image.Message)
	}
	if unsupported, ok := errors.AsType[*vision.UnsupportedError](err); ok {
		return unsupportedAttributes(unsupported.Asked.Names(), unsupported.Supported)
	}
	return fmt.Errorf("recognise: %w", err)
}
