package size_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/visage-face/visage/cluster/sizing"
	"github.com/visage-face/visage/cmd/visage/internal/size"
)

func run(t *testing.T, arguments ...string) string {
	t.Helper()
	var out bytes.Buffer
	c := size.Command()
	c.SetArgs(arguments)
	c.SetOut(&out)
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestPhotos: each identification has a photo of its own, unless another number is given, which may be none.
func TestPhotos(t *testing.T) {
	cores := func(photos ...string) float64 {
		t.Helper()
		var p sizing.Plan
		text := run(t, append(photos, "--faces", "1000000", "--rate", "50", "-o", "json")...)
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			t.Fatal(err)
		}
		return p.Cores
	}
	if own, same, none := cores(), cores("--photos", "50"), cores("--photos", "0"); own != same || none >= own/2 {
		t.Errorf("%.2f processors by default, %.2f for 50 photos, %.2f for none", own, same, none)
	}
}

// TestSettings: the plan shows the settings that it holds with, as flags of "visage serve".
func TestSettings(t *testing.T) {
	var p sizing.Plan
	if err := json.Unmarshal([]byte(run(t, "--faces", "1000000000", "-o", "json")), &p); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("\n  --gallery-memory %dMiB --partition-memory %dMiB --partition-copies %d\n",
		p.GalleryMemory>>20, p.PartitionMemory>>20, p.Replicas)
	if got := run(t, "--faces", "1000000000"); !strings.Contains(got, want) {
		t.Errorf("%s\nlacks%s", got, want)
	}
}
