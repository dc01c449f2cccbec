package hashivault

import "time"

// UseTokensFor changes how long tokens are used.
func (s *Servers) UseTokensFor(life time.Duration) { s.tokenLife = life }
