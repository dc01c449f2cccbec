package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certFile is the certificate of cert-file and key-file. Both files are read again when one of them has changed, so
// that a certificate that was renewed is served without a restart.
type certFile struct {
	cert, key string
	log       *slog.Logger
	told      func(*x509.Certificate) // hears of each certificate that is served

	mu     sync.Mutex // guards the fields below
	pair   *tls.Certificate
	looked time.Time
	seen   [2]fileStamp // of the files that were read last, be it in vain
	said   string       // why they could not be read again, as the log has it; empty: they were
}

// fileStamp tells a file that was written anew from the one before.
type fileStamp struct {
	written time.Time
	size    int64
}

// lookEvery is how often the files are looked at, at most.
const lookEvery = time.Second

// openCertFile reads the files.
func openCertFile(cert, key string, log *slog.Logger, told func(*x509.Certificate)) (*certFile, error) {
	c := &certFile{cert: cert, key: key, log: log, told: told}
	var err error
	if c.seen, err = c.stamps(); err == nil {
		err = c.read()
	}
	if err != nil {
		return nil, fmt.Errorf("read cert-file and key-file: %w", err)
	}
	c.looked = time.Now()
	return c, nil
}

func (c *certFile) stamps() (all [2]fileStamp, err error) {
	for i, path := range []string{c.cert, c.key} {
		info, err := os.Stat(path)
		if err != nil {
			return all, err
		}
		all[i] = fileStamp{info.ModTime(), info.Size()}
	}
	return all, nil
}

// read reads the pair; c.mu is held, or nobody else has c yet.
func (c *certFile) read() error {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return err
	}
	c.pair = &pair
	c.told(pair.Leaf)
	return nil
}

// forHello implements tls.Config.GetCertificate. Files that do not fit together, because one of them is being replaced,
// leave the former pair.
func (c *certFile) forHello(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < lookEvery {
		return c.pair, nil
	}
	c.looked = time.Now()
	now, err := c.stamps()
	if err == nil && now == c.seen {
		return c.pair, nil
	}
	if err == nil {
		c.seen, err = now, c.read()
	}
	switch {
	case err == nil:
		c.said = ""
		c.log.Info("the certificate was read again", "ends", c.pair.Leaf.NotAfter)
	case err.Error() != c.said:
		c.said = err.Error()
		c.log.Warn("the certificate was not read again; the former one is served", "err", err)
	}
	return c.pair, nil
}
