// Package moment tells how long ago something was, also on a machine that was stopped in between. The clock that
// time.Since reads stands still while a machine is suspended, or its hypervisor stops it.
package moment

import "time"

// Moment is when something was, by the clocks of this machine. The zero Moment is long ago.
type Moment struct {
	at   time.Time
	boot time.Duration // since the machine was started, with the time in which it was suspended; 0: unknown
}

// Now returns the present moment.
func Now() Moment { return Moment{time.Now(), sinceBoot()} }

// Age returns how long ago the moment was: the longest time that one of the clocks says. Where a hypervisor has stopped
// all of them, only the one that people set knows, once it was set. That it may also be set forward for other reasons
// makes things look older than they are.
func (m Moment) Age() time.Duration {
	now := Now()
	return max(now.at.Sub(m.at), now.at.Round(0).Sub(m.at.Round(0)), now.boot-m.boot)
}

// After reports whether the moment was after another one of this process.
func (m Moment) After(other Moment) bool { return m.at.After(other.at) }
