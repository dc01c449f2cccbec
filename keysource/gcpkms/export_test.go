package gcpkms

import "time"

// UseTokensFor changes how long tokens are used.
func (s *Services) UseTokensFor(life time.Duration) { s.tokenLife = life }
