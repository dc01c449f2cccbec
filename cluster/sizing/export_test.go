package sizing

import (
	"math/rand/v2"
	"time"
)

// Queue simulates customers who come at random (Poisson) to one server, and returns how long each was there.
func Queue(customers int, rate float64, service func(*rand.Rand) time.Duration, seed uint64) []time.Duration {
	rnd := rand.New(rand.NewPCG(seed, 2))
	var c clock
	s := &station{clock: &c, most: 1, service: func(int, int) time.Duration { return service(rnd) }}
	var stays []time.Duration
	var came time.Duration
	for i := range customers {
		came += time.Duration(rnd.ExpFloat64() / rate * float64(time.Second))
		c.after(came, func() {
			began := c.now
			s.arrive(&job{kind: i, done: func() { stays = append(stays, c.now-began) }})
		})
	}
	c.run()
	return stays
}
