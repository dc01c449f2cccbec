package moment_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/sealed/internal/moment"
)

// TestAge: what was before the machine stood still is old, whichever clock knows.
func TestAge(t *testing.T) {
	now := moment.Now()
	if age := now.Age(); age < 0 || age > time.Minute {
		t.Errorf("a moment that has just been is %v old", age)
	}
	if age := now.Stopped(time.Hour, 0).Age(); age < time.Hour {
		t.Errorf("after a suspension of an hour: %v", age)
	}
	if age := now.Stopped(0, time.Hour).Age(); age < time.Hour {
		t.Errorf("after an hour that only the clock on the wall has counted: %v", age)
	}
	if age := (moment.Moment{}).Age(); age < time.Hour {
		t.Errorf("the zero moment: %v", age)
	}
	synctest.Test(t, func(t *testing.T) {
		before := moment.Now()
		time.Sleep(time.Minute)
		if age := before.Age(); age < time.Minute || !moment.Now().After(before) {
			t.Errorf("after a minute: %v", age)
		}
	})
}
