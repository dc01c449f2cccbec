package hashivault

import "time"

// UseTokensFor changes how long tokens are used.
func (s *Servers) UseTokensFor(life time.Duration) { s.tokenLife = life }

// Age makes the last refusal older, and the last login of an operator's test.
func (r *Refusals) Age(by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at, r.retry = r.at.Add(-by), r.retry.Add(-by)
}
