package keys

import (
	"context"
	"slices"
	"time"
)

// RootSummary is how the root key stands.
type RootSummary struct {
	Version    uint32
	Made       time.Time // zero: not known
	Protectors []ProtectorSummary
	Exposed    bool
	Ignored    []string
	Rotating   bool
	Kit        time.Time // zero: there is none of this version
	Proved     time.Time // zero: never
}

// ProtectorSummary is how a protector stands; see sealed.ProtectorState.
type ProtectorSummary struct {
	Name, Kind string
	Entry      string
	Exposed    bool
	Attached   bool
	Opened     bool
	Added      time.Time
	Tested     time.Time
}

// State says how the root key stands. The root must be held.
func (r *Root) State(ctx context.Context) (RootSummary, error) {
	doc, err := r.Read(ctx)
	if err != nil {
		return RootSummary{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := RootSummary{Version: doc.Version, Made: moment(doc.Made), Exposed: doc.exposed(),
		Ignored: slices.Clone(r.ignored), Rotating: doc.Rotating,
		Kit: moment(doc.Kit), Proved: moment(doc.Proved)}
	for _, at := range doc.Protectors {
		_, attached := r.attached[at.Name]
		sum.Protectors = append(sum.Protectors, ProtectorSummary{
			Name: at.Name, Kind: at.Kind, Entry: at.Entry, Exposed: at.Exposed, Attached: attached,
			Opened: at.Name == r.opened, Added: moment(at.Added), Tested: moment(at.Tested),
		})
	}
	return sum, nil
}

// moment is a time that a document has in seconds; zero stays zero.
func moment(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
