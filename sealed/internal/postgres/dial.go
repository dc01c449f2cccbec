package postgres

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A server whose machine is gone, or cannot be reached, is given up after about so long: when it does not acknowledge
// what was sent, and when it does not answer while nothing was.
const silence = 10 * time.Second

// dialer makes connections whose other end may vanish without a word.
func dialer(connect time.Duration) *net.Dialer {
	return &net.Dialer{
		Timeout:         connect,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silence / 2, Interval: silence / 10, Count: 5},
		Control:         limitSilence,
	}
}

// findTime is how long each of several hosts gets to accept a connection before the others are tried without it.
const findTime = time.Second

// hostsLeftOut is what is known of attempts to connect.
type hostsLeftOut struct {
	since atomic.Int64 // the uptime at the first attempt without some hosts after the last one that succeeded
}

// leaveOut is for how long hosts are left out while no attempt succeeds: longer than a failover takes.
const leaveOut = time.Minute

// find leaves those hosts of several that accept connections now, in the order of the URL, if there are any. One whose
// machine is gone without a word would hold up each new connection for the whole connect_timeout, and a standby that
// has become the primary meanwhile would be found only by the next one. When that leads nowhere for long, the others
// may only be slow, and are tried after these.
func (l *hostsLeftOut) find(ctx context.Context, c *pgx.ConnConfig) {
	hosts := append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}, c.Fallbacks...)
	distinct := map[string]bool{}
	for _, h := range hosts {
		network, address := pgconn.NetworkAddress(h.Host, h.Port)
		if network == "tcp" {
			distinct[address] = false
		}
	}
	if len(distinct) < 2 {
		return
	}
	ctx, stop := context.WithTimeout(ctx, findTime)
	defer stop()
	var mu sync.Mutex // guards distinct
	var all sync.WaitGroup
	for _, address := range slices.Collect(maps.Keys(distinct)) {
		all.Go(func() {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil {
				return
			}
			conn.Close() // nothing was sent
			mu.Lock()
			defer mu.Unlock()
			distinct[address] = true
		})
	}
	all.Wait()
	var there, others []*pgconn.FallbackConfig
	for _, h := range hosts {
		if network, address := pgconn.NetworkAddress(h.Host, h.Port); network == "tcp" && !distinct[address] {
			others = append(others, h)
		} else {
			there = append(there, h)
		}
	}
	if len(there) == 0 || len(others) == 0 {
		return
	}
	hosts = there
	now := uptime()
	if since := l.since.Load(); since == 0 {
		l.since.CompareAndSwap(0, now) // or another one has just begun
	} else if now-since > int64(leaveOut) {
		hosts = append(there, others...)
	}
	c.Host, c.Port, c.TLSConfig, c.Fallbacks = hosts[0].Host, hosts[0].Port, hosts[0].TLSConfig, hosts[1:]
}
