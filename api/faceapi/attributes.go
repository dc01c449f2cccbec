package faceapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/visage-face/visage/api"
	"github.com/visage-face/visage/face"
)

// attributesAnswer holds the attributes that were asked for, contract §3.3. Its members are the rows of the table of
// attributes, in their order: an attribute that is measured as a level or a word needs no code here.
type attributesAnswer struct {
	dialect dialect
	values  face.Attributes
}

// MarshalJSON writes the attributes that have a value.
func (a attributesAnswer) MarshalJSON() ([]byte, error) {
	var m members
	for _, row := range face.AttributeTable() {
		if v, ok := a.values[row.Bit]; ok {
			m = append(m, api.Member{Name: row.Name, Value: a.dialect.attribute(row, v)})
		}
	}
	return m.MarshalJSON()
}

// Schema describes all attributes for the OpenAPI document. Each is optional.
func (attributesAnswer) Schema() (name string, all []api.Member) {
	for _, row := range face.AttributeTable() {
		one := api.Member{Name: row.Name, Value: dialect{}.attribute(row, row.Value), Optional: true}
		if _, word := one.Value.(string); word {
			one.Enum = row.Words
		}
		all = append(all, one)
	}
	return "attributesAnswer", all
}

// level is an attribute that is measured as a level: the name of its range, and the number.
type level struct {
	row   face.Attribute
	value face.Level
}

// MarshalJSON writes the level with the name that its attribute has.
func (l level) MarshalJSON() ([]byte, error) {
	_, all := l.Schema()
	return members(all).MarshalJSON()
}

// Schema describes the level for the OpenAPI document.
func (l level) Schema() (name string, all []api.Member) {
	name = l.row.Name + "Level"
	return name, []api.Member{
		{Name: name, Value: l.value.Name, Enum: l.row.Words}, {Name: "value", Value: round(l.value.Value, 100)},
	}
}

// members is a JSON object that is not encoded field by field from a Go type.
type members []api.Member

// MarshalJSON writes the members in their order.
func (m members) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, member := range m {
		value, err := json.Marshal(member.Value)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", member.Name, err)
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%s", member.Name, value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// attribute returns the value of an attribute as the answer has it.
func (d dialect) attribute(row face.Attribute, value any) any {
	switch v := value.(type) {
	case face.Level:
		return level{row, v}
	case face.Pose:
		return headPose{round(v.Pitch, 10), round(v.Roll, 10), round(v.Yaw, 10)}
	case face.Mask:
		return mask{v.Type.String(), v.NoseAndMouth}
	case face.Occlusion:
		return occlusion{Forehead: v.Forehead, Eye: v.Eyes, Mouth: v.Mouth}
	case face.Eyewear:
		word := v.String()
		if d.capitals {
			word = strings.ToUpper(word[:1]) + word[1:]
		}
		return word
	case []face.Accessory:
		worn := make([]accessory, len(v))
		for i, w := range v {
			worn[i] = accessory{w.Type.String(), round(w.Confidence, 100)}
		}
		return worn
	}
	return fmt.Sprint(value)
}

type occlusion struct {
	Forehead bool `json:"foreheadOccluded"`
	Eye      bool `json:"eyeOccluded"`
	Mouth    bool `json:"mouthOccluded"`
}

type accessory struct {
	Type       string  `json:"type" enum:"headwear glasses mask"`
	Confidence float64 `json:"confidence"`
}

type mask struct {
	Type                string `json:"type" enum:"noMask faceMask otherMaskOrOcclusion uncertain"`
	NoseAndMouthCovered bool   `json:"noseAndMouthCovered"`
}

type headPose struct {
	Pitch float64 `json:"pitch"`
	Roll  float64 `json:"roll"`
	Yaw   float64 `json:"yaw"`
}

// round rounds to 1/unit, like the numbers in recordings of the service. It never returns a negative zero.
func round(v float64, unit float64) float64 { return math.Round(v*unit)/unit + 0 }
