package place

import (
	"context"
	"errors"
	"time"

	"github.com/visage-face/visage/sealed/internal/event"
	"github.com/visage-face/visage/sealed/internal/format"
	"github.com/visage-face/visage/sealed/internal/keystore"
)

// Begin makes beats until life ends, or End.
func (p *Place) Begin(life context.Context) {
	_, inspects := p.Place.(keystore.Inspector)
	if !p.beats && !inspects {
		return
	}
	life, p.stop = context.WithCancel(life)
	p.done = make(chan struct{})
	go p.rounds(life)
}

// End waits until no more beats are made. No more keys are changed then.
func (p *Place) End() {
	if p.done != nil {
		p.stop()
		<-p.done
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.beats && p.refused == nil {
		p.refused = errEnded
	}
}

func (p *Place) rounds(life context.Context) {
	defer close(p.done)
	for {
		select {
		case <-life.Done():
			return
		case <-p.wake:
		case <-time.After(every):
		}
		err := p.turn(life)
		p.inspect(life)
		p.mu.Lock()
		p.failed = err
		close(p.round)
		p.round = make(chan struct{})
		p.mu.Unlock()
	}
}

// inspectEvery is how long a place that others set up is not looked at.
const inspectEvery = time.Minute

// inspect looks at a place whose grade changes.
func (p *Place) inspect(ctx context.Context) {
	in, ok := p.Place.(keystore.Inspector)
	if !ok || time.Since(p.inspected) < inspectEvery {
		return
	}
	if err := in.Inspect(ctx); err == nil { // or it is looked at in the next round
		p.inspected = time.Now()
	}
}

// turn looks at the mark, and makes a beat if nobody else has made one.
func (p *Place) turn(ctx context.Context) error {
	if !p.beats {
		return nil
	}
	s, err := p.look(ctx)
	if err != nil {
		return err
	}
	if refused := p.refuses(s); refused != nil {
		p.refuse(refused)
		return refused
	}
	p.refuse(nil)
	p.mu.Lock()
	beat, since, confirmed := p.beat, p.since, p.confirmed
	p.mu.Unlock()
	switch {
	case s.doc.Beat != beat: // another process has made one, in data that is ours
		p.see(s)
		p.confirm()
		return nil
	case !confirmed && time.Since(p.opened) < watching*every:
		return nil
	case confirmed && since.Age() < every*3/4: // somebody has asked for a round
		return nil
	}
	if s.verdict == older {
		p.report(event.Event{Kind: event.KeysOlder, Note: p.Name()})
	}
	err = p.advance(ctx, s)
	if errors.Is(err, errOvertaken) {
		return nil // which the next round sees
	}
	if err == nil {
		p.confirm()
	}
	return err
}

// refuses says why the store must not change keys; nil: it may.
func (p *Place) refuses(s standing) error {
	switch s.verdict {
	case own, behind, older, ahead:
		if s.doc.Moving != nil && !p.moving {
			return p.errMoving(s)
		}
		return nil
	case foreign, found, fresh:
		return p.errCopy(s)
	}
	return p.errOther(s)
}

// refuse says whether keys may be changed.
func (p *Place) refuse(err error) {
	p.mu.Lock()
	changed := (err == nil) != (p.refused == nil)
	p.refused = err
	p.mu.Unlock()
	if changed && err != nil {
		p.report(event.Event{Kind: event.KeysElsewhere, Err: err, Note: p.Name()})
	}
}

func (p *Place) confirm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.confirmed = true
}

// may returns when keys may be changed, or says why not. Outages are waited for as long as a beat can take.
func (p *Place) may(ctx context.Context) error {
	if !p.beats {
		return nil
	}
	limit := time.NewTimer(2 * watching * every)
	defer limit.Stop()
	for {
		p.mu.Lock()
		ok := p.confirmed && p.since.Age() < trusted*every
		refused, failed, round := p.refused, p.failed, p.round
		p.mu.Unlock()
		if ok || refused != nil {
			return refused
		}
		select {
		case p.wake <- struct{}{}:
		default:
		}
		select {
		case <-round:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.done:
			return errEnded
		case <-limit.C:
			if failed == nil {
				failed = errSilent
			}
			return &keystore.OutageError{Place: p.Name(), Err: failed}
		}
		if p.pause(ctx) {
			continue
		}
	}
}

var (
	errEnded  = errors.New("the store is being closed")
	errSilent = errors.New("it could not be made sure that no other copy of the data uses it")
)

// pause waits until the next round makes sense.
func (p *Place) pause(ctx context.Context) bool {
	p.mu.Lock()
	ok := p.confirmed && p.since.Age() < trusted*every || p.refused != nil
	p.mu.Unlock()
	if ok {
		return true
	}
	select {
	case <-ctx.Done():
	case <-p.done:
	case <-time.After(every / 5):
	}
	return true
}

// Put implements keystore.Store.
func (p *Place) Put(ctx context.Context, space format.ID, epoch uint32, sealed []byte) error {
	p.mu.Lock()
	refused := p.refused
	p.mu.Unlock()
	if refused != nil { // one that is not known to be refused does no harm with a key of its own
		return refused
	}
	return p.Place.Put(ctx, space, epoch, sealed)
}

// Replace implements keystore.Store.
func (p *Place) Replace(ctx context.Context, space format.ID, epoch uint32, from, to []byte) error {
	if err := p.may(ctx); err != nil {
		return err
	}
	return p.Place.Replace(ctx, space, epoch, from, to)
}

// Tidy implements keystore.Store.
func (p *Place) Tidy(ctx context.Context, space format.ID) error {
	if err := p.may(ctx); err != nil {
		return err
	}
	return p.Place.Tidy(ctx, space)
}

// DestroyEpoch implements keystore.Store.
func (p *Place) DestroyEpoch(ctx context.Context, space format.ID, epoch uint32) error {
	if err := p.may(ctx); err != nil {
		return err
	}
	return p.Place.DestroyEpoch(ctx, space, epoch)
}

// Destroy implements keystore.Store.
func (p *Place) Destroy(ctx context.Context, space format.ID) error {
	if err := p.may(ctx); err != nil {
		return err
	}
	return p.Place.Destroy(ctx, space)
}

// Anchors returns the anchors in the place; nil: it has none.
func (p *Place) Anchors() keystore.Anchors {
	if in, ok := p.Place.(keystore.Anchors); ok {
		return anchors{in, p}
	}
	return nil
}

// anchors are those of a place. A copy of the data would refuse the original with its own.
type anchors struct {
	keystore.Anchors
	p *Place
}

// ErrUnconfirmed says that anchors wait until it is sure that no other copy of the data uses the place.
var ErrUnconfirmed = errors.New("the anchors wait until it is sure that no other copy of the data is in use")

// SetAnchor implements keystore.Anchors.
func (a anchors) SetAnchor(ctx context.Context, space format.ID, from, to []byte) error {
	a.p.mu.Lock()
	confirmed, refused := a.p.confirmed, a.p.refused
	a.p.mu.Unlock()
	switch {
	case refused != nil:
		return refused
	case !confirmed:
		return ErrUnconfirmed
	}
	return a.Anchors.SetAnchor(ctx, space, from, to)
}

// Refused says why keys are not changed; nil: they are.
func (p *Place) Refused() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}
