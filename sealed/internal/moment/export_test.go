package moment

import "time"

// Stopped is a moment as it looks when the machine has stood still since then for so long: by the clock that counts
// from the start of the machine, and by the one that people set.
func (m Moment) Stopped(boot, wall time.Duration) Moment {
	m.boot -= boot
	if wall > 0 {
		m.at = m.at.Round(0).Add(-wall)
	}
	return m
}
