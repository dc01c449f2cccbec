package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// TestBallast wants collections to come as seldom as is said, and as often as GOGC and GOMEMLIMIT say where they do.
func TestBallast(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	defer debug.SetGCPercent(debug.SetGCPercent(garbage))
	b := ballast()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if want := uint64(ballastBytes) * (100 + garbage) / 100; m.NextGC < want {
		t.Errorf("the next collection comes at %d bytes, want at least %d", m.NextGC, want)
	}
	runtime.KeepAlive(b)
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "50")
			if ballast() != nil {
				t.Error("there is ballast though the environment says when to collect")
			}
		})
	}
}
