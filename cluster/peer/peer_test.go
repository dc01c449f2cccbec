package peer_test

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visage-face/visage/cluster/peer"
)

// TestMain makes the entropy source of the FIPS module start outside of a bubble, whose clock stands still.
func TestMain(m *testing.M) {
	rand.Read(make([]byte, 1))
	os.Exit(m.Run())
}

func authority(t *testing.T, instance peer.Instance) *peer.Authority {
	t.Helper()
	a, err := peer.NewAuthority(instance)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func identity(t *testing.T, a *peer.Authority, node string) *peer.Identity {
	t.Helper()
	i, err := a.Identity(node, 0)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// connect makes a connection between two configurations, and returns both states and errors.
func connect(t *testing.T, server, client *tls.Config, host string) (atServer, atClient *tls.Conn, err error) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	client.ServerName = host
	atServer, atClient = tls.Server(a, server), tls.Client(b, client)
	served := make(chan error, 1)
	go func() {
		err := atServer.HandshakeContext(t.Context())
		if err != nil {
			a.Close()
		}
		served <- err
	}()
	err = atClient.HandshakeContext(t.Context())
	if err == nil {
		// In TLS 1.3 a client learns that its certificate was refused when it reads.
		go atClient.Read(make([]byte, 1))
	} else {
		b.Close()
	}
	return atServer, atClient, errors.Join(err, <-served)
}

func TestReplicasProveThemselves(t *testing.T) {
	a := authority(t, peer.Instance{1})
	one, two := identity(t, a, "one"), identity(t, a, "two")
	atServer, atClient, err := connect(t, one.ServerTLS(), two.ClientTLS(), a.Instance().Host("one"))
	if err != nil {
		t.Fatal(err)
	}
	of, from := atClient.ConnectionState(), atServer.ConnectionState()
	if node, err := two.Peer(&of); err != nil || node != "one" {
		t.Errorf("the client is connected with %q, %v", node, err)
	}
	if node, err := one.Peer(&from); err != nil || node != "two" {
		t.Errorf("the server is connected with %q, %v", node, err)
	}
}

// TestOthersAreRefused: replicas of another instance, another authority for the same one, a replica under another
// name, a client without a certificate.
func TestOthersAreRefused(t *testing.T) {
	a := authority(t, peer.Instance{1})
	one, two := identity(t, a, "one"), identity(t, a, "two")
	stranger := identity(t, authority(t, peer.Instance{2}), "two")
	twin := identity(t, authority(t, peer.Instance{1}), "two")
	bare := two.ClientTLS()
	bare.GetClientCertificate = nil
	host := a.Instance().Host("one")
	for name, c := range map[string]struct {
		server, client *tls.Config
		host           string
	}{
		"a client of another instance":        {one.ServerTLS(), stranger.ClientTLS(), host},
		"a client of another authority":       {one.ServerTLS(), twin.ClientTLS(), host},
		"a server of another instance":        {stranger.ServerTLS(), two.ClientTLS(), host},
		"a server that is another replica":    {two.ServerTLS(), one.ClientTLS(), host},
		"a client without a certificate":      {one.ServerTLS(), bare, host},
		"a server of another authority":       {twin.ServerTLS(), one.ClientTLS(), a.Instance().Host("two")},
		"a host that is none of the instance": {one.ServerTLS(), two.ClientTLS(), "localhost"},
	} {
		if _, _, err := connect(t, c.server, c.client, c.host); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// TestExpiry: a certificate is renewed at half of its life; a connection that outlives one is not a replica's any more,
// and a new one is.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := authority(t, peer.Instance{1})
		one, two := identity(t, a, "one"), identity(t, a, "two")
		host := a.Instance().Host("one")
		atServer, atClient, err := connect(t, one.ServerTLS(), two.ClientTLS(), host)
		if err != nil {
			t.Fatal(err)
		}
		of, from := atClient.ConnectionState(), atServer.ConnectionState()
		time.Sleep(peer.Life / 2)
		if _, err := two.Peer(&of); err != nil {
			t.Errorf("after half of its life: %v", err)
		}
		_, later, err := connect(t, one.ServerTLS(), two.ClientTLS(), host)
		if err != nil {
			t.Fatal(err)
		}
		renewed := later.ConnectionState()
		if !renewed.PeerCertificates[0].NotAfter.After(of.PeerCertificates[0].NotAfter) {
			t.Error("the certificate was not renewed at half of its life")
		}
		time.Sleep(peer.Life/2 + time.Second)
		for name, check := range map[string]func() (string, error){
			"client": func() (string, error) { return two.Peer(&of) },
			"server": func() (string, error) { return one.Peer(&from) },
		} {
			if _, err := check(); !errors.Is(err, peer.ErrPeer) {
				t.Errorf("the %s accepts an expired certificate: %v", name, err)
			}
		}
		if _, err := two.Peer(&renewed); err != nil {
			t.Errorf("the renewed certificate: %v", err)
		}
		if _, _, err := connect(t, one.ServerTLS(), two.ClientTLS(), host); err != nil {
			t.Errorf("a new connection: %v", err)
		}
	})
}

func TestNames(t *testing.T) {
	a := authority(t, peer.Instance{1})
	for _, name := range []string{"", "-a", "a-", "A", "a.b", "ä", string(make([]byte, 64))} {
		if _, err := a.Identity(name, 0); !errors.Is(err, peer.ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	host := a.Instance().Host("node-7")
	if node, err := a.Instance().Node(host); err != nil || node != "node-7" {
		t.Errorf("the node of %s is %q, %v", host, node, err)
	}
	other := peer.Instance{9}
	if node, err := other.Node(host); !errors.Is(err, peer.ErrName) {
		t.Errorf("in another instance, %s is %q, %v", host, node, err)
	}
	if _, err := a.Identity("a", 0); err != nil {
		t.Error(err)
	}
	if none := identity(t, a, "a"); func() error { _, err := none.Peer(nil); return err }() == nil {
		t.Error("a connection without TLS is a replica's")
	}
}

// TestAuthoritiesAreKept: one that was exported, and one that was renewed, accept each other's replicas.
func TestAuthoritiesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := authority(t, peer.Instance{7})
		certificate, key, err := a.Export()
		if err != nil {
			t.Fatal(err)
		}
		again, err := peer.OpenAuthority(certificate, key)
		if err != nil {
			t.Fatal(err)
		}
		if again.Instance() != a.Instance() || again.Aged() {
			t.Errorf("opened as %v, aged %t", again.Instance(), again.Aged())
		}
		time.Sleep(9*365*24*time.Hour + time.Hour)
		if !again.Aged() {
			t.Error("not aged a year before its end")
		}
		renewed, err := again.Renew()
		if err != nil {
			t.Fatal(err)
		}
		for _, pair := range [][2]*peer.Authority{{a, renewed}, {renewed, a}, {again, a}} {
			one, two := identity(t, pair[0], "one"), identity(t, pair[1], "two")
			if _, _, err := connect(t, one.ServerTLS(), two.ClientTLS(), a.Instance().Host("one")); err != nil {
				t.Errorf("connect: %v", err)
			}
		}
		other := authority(t, peer.Instance{7})
		otherCertificate, otherKey, err := other.Export()
		if err != nil {
			t.Fatal(err)
		}
		for name, pair := range map[string][2][]byte{
			"another key": {certificate, otherKey}, "another certificate": {otherCertificate, key},
			"no key": {certificate, nil}, "no certificate": {nil, key},
		} {
			if _, err := peer.OpenAuthority(pair[0], pair[1]); err == nil {
				t.Errorf("opened with %s", name)
			}
		}
	})
}
