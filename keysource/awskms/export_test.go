package awskms

import "time"

// UseCredentialsFor changes how long credentials are used.
func (s *Servers) UseCredentialsFor(life time.Duration) { s.credentialsLife = life }
