package custody

import (
	"time"

	"github.com/visage-face/visage"
	"github.com/visage-face/visage/keysource"
	"github.com/visage-face/visage/sealed"
)

// watchKey tells apart what has to be asked for separately: a vault may refuse one principal and not another.
type watchKey struct {
	uri, version string
	as           visage.PrincipalID
	follow       bool
}

// watch is one key in one version as one principal sees it, and the resources that stand and fall with it.
//
// Between two polls it is a timer and no goroutine: there may be very many.
type watch struct {
	key watchKey
	ref visage.KeyRef

	// guarded by Custody.mu
	spaces map[sealed.SpaceID]*space
	timer  *time.Timer // has Run attend to it when it goes off; nil: Run does not know it yet
	asking bool        // a goroutine attends to it
	asked  bool        // it is to be asked at once
	looked time.Time   // for a newer version

	following bool // resources go over to a newer version

	// Of the goroutine that attends to it.
	src      keysource.Source
	apart    int // questions left until src, which has a connection of its own, makes room for one that shares
	failures int
	good     int       // polls with a good answer since the dates were looked at
	expires  time.Time // of the key, when it was looked at last; zero: never
	expired  bool
}

// askNow has a key asked after now. Custody.mu is held.
func (w *watch) askNow() {
	w.asked = true
	if w.timer != nil && !w.asking {
		w.timer.Reset(0)
	}
}

// wake wakes the goroutine that waits for ch, if it sleeps.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it is awake already
	}
}
