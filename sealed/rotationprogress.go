package sealed

import "sync"

// Rotation is how far a rotation is.
type Rotation struct {
	Running bool   // what earlier versions of the key sealed is still being sealed anew
	Step    string // what is being done; empty: nothing yet
	Done    int    // of Step: spaces, or entries of logs
	Total   int    // zero: not known
	Err     error  // why it does not go on; it is tried again
}

// rotation is the part of a rotation of the root key that takes time: what earlier versions sealed is sealed anew.
type rotation struct {
	due chan struct{} // holds a token when there is something to do

	mu  sync.Mutex // guards all below
	now Rotation
	// at is called before each part of a step, with the step's name; an error ends this try. Tests have one; nil:
	// nothing.
	at func(step string) error
}

func newRotation() rotation { return rotation{due: make(chan struct{}, 1)} }

func (r *rotation) wake() {
	select {
	case r.due <- struct{}{}:
	default:
	}
}

func (r *rotation) state(running bool) Rotation {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !running {
		return Rotation{}
	}
	now := r.now
	now.Running = true
	return now
}

// begin notes that a part of a step begins.
func (r *rotation) begin(step string, done, total int) error {
	r.mu.Lock()
	r.now = Rotation{Step: step, Done: done, Total: total}
	at := r.at
	r.mu.Unlock()
	if at == nil {
		return nil
	}
	return at(step)
}

func (r *rotation) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Err = err
}
