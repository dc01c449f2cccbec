package face

import (
	"cmp"
	"slices"
	"strings"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/vision"
)

// AttributeTable returns the table of attributes: one row each, in the order in which answers list them.
func AttributeTable() []Attribute { return vision.AttributeTable() }

// refusedAttributes are those that the original service has retired or gives only to approved customers, by their names
// in lower case.
var refusedAttributes = map[string]string{
	"emotion": "emotion", "gender": "gender",
	"age": "age", "smile": "smile", "facialhair": "facialHair", "hair": "hair", "makeup": "makeup",
}

// attributeBit returns the bit of an attribute by its name in lower case; zero: there is none of that name.
func attributeBit(name string) vision.Attributes {
	for _, row := range vision.AttributeTable() {
		if strings.ToLower(row.Name) == name {
			return row.Bit
		}
	}
	return 0
}

// detectionGives returns the attributes that a detection model of the contract gives.
func detectionGives(model string) (given vision.Attributes) {
	for _, row := range vision.AttributeTable() {
		if slices.Contains(row.Detection, model) {
			given |= row.Bit
		}
	}
	return given
}

// recognitionGives returns the attributes that a recognition model of the contract gives.
func recognitionGives(model string) (given vision.Attributes) {
	for _, row := range vision.AttributeTable() {
		if row.Recognition == nil || slices.Contains(row.Recognition, model) {
			given |= row.Bit
		}
	}
	return given
}

// parseAttributes reads the names of attributes. It refuses first those that the models named in the request do not
// give, then those that this service never gives, then those that the installed networks cannot measure. No refusal
// lists an attribute as supported that the same request could not get.
func parseAttributes(names []string, d detector, model string, supported vision.Attributes) (vision.Attributes, error) {
	byDetector, byModel := detectionGives(d.name), recognitionGives(model)
	given := byDetector & byModel & supported
	var asked vision.Attributes
	var refused []string
	for _, name := range names {
		lower := strings.ToLower(strings.TrimSpace(name))
		bit, refusedName := attributeBit(lower), refusedAttributes[lower]
		switch {
		case bit != 0:
			asked |= bit
		case refusedName != "":
			refused = append(refused, refusedName)
		default:
			return 0, badArgument("%q is not a face attribute; with %s and %s this service supports %s.",
				printable(name), d.name, model, listed(given))
		}
	}
	if len(names) > 0 && byDetector == 0 {
		return 0, badArgument("The detection model %s does not return attributes.", d.name)
	}
	if missing := asked &^ byDetector; missing != 0 {
		return 0, badArgument("The detection model %s does not support %s; with it and %s this service "+
			"supports %s.", d.name, listed(missing), model, listed(given))
	}
	if missing := asked &^ byModel; missing != 0 {
		return 0, badArgument("The recognition model %s does not support %s; with it and %s this service "+
			"supports %s.", model, listed(missing), d.name, listed(given))
	}
	refused = append(refused, (asked &^ supported).Names()...)
	if len(refused) > 0 {
		return 0, unsupportedAttributes(refused, given)
	}
	return asked, nil
}

// unsupportedAttributes is the refusal of contract §1.5 for attributes that this service does not give. The attributes
// in given are those that the same request could have asked for.
func unsupportedAttributes(names []string, given vision.Attributes) error {
	refusal := visage.Refuse(visage.Unsupported, "InvalidRequest",
		"This service does not support the attributes %s. With the models of this request it supports %s.",
		strings.Join(slices.Compact(names), ", "), listed(given))
	refusal.InnerCode = "UnsupportedFeature"
	return refusal
}

// listed returns the names of attributes for a sentence.
func listed(attributes vision.Attributes) string {
	return cmp.Or(strings.Join(attributes.Names(), ", "), "none")
}
