package kmip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/ttlv"
)

const (
	maxConns  = 8
	maxAnswer = 64 << 10 // bytes
	// how long a connection is used: shorter than the interval of polls, so that every poll asks whether the
	// certificate is still accepted
	connLife = 20 * time.Second
)

// Config says how a server is reached.
type Config struct {
	Address string // of ParseAddress
	Roots   string // the authorities that may sign the server's certificate, in PEM
	// Unmarked permits keys of which the server does not say that they stay inside: attributes that not all have.
	Unmarked bool
	// Dial connects to the server. Default: the network's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error) `json:"-"`
}

// The names of the files with the certificate that proves who asks, and its private key, in PEM. They are read for each
// connection.
const (
	Certificate = "certificate"
	PrivateKey  = "key"
)

// Files has the files.
type Files interface {
	File(ctx context.Context, name string) ([]byte, error)
}

// Server is a KMIP server. It is safe for concurrent use.
type Server struct {
	address string
	roots   *x509.CertPool
	files   Files
	slots   chan struct{} // one for each connection
	idle    chan *conn

	// as in Config
	unmarked bool
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
}

// conn is a connection, for one request at a time.
type conn struct {
	net.Conn
	stream ttlv.Stream
	until  time.Time
}

// NewServer returns the server that cfg describes. Nothing is sent yet.
func NewServer(cfg Config, files Files) (*Server, error) {
	address, err := ParseAddress(cfg.Address)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(cfg.Roots)) {
		return nil, errors.New("the authorities of the KMIP server have no certificate in PEM")
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	return &Server{address, roots, files, make(chan struct{}, maxConns), make(chan *conn, maxConns), cfg.Unmarked,
		cfg.Dial}, nil
}

// Close closes the connections. No call may be running.
func (s *Server) Close() error {
	for {
		select {
		case c := <-s.idle:
			_ = c.Close() // nothing is under way
		default:
			return nil
		}
	}
}

// refusal is a reason for which the server does not do something: its own words.
type refusal struct {
	operation kmip.Operation
	reason    kmip.ResultReason
	message   string
}

func (r *refusal) Error() string { return fmt.Sprintf("%s: %.300s", ttlv.EnumStr(r.reason), r.message) }

// ask makes a request with one operation, and returns the answer to it.
func ask[A kmip.OperationPayload](ctx context.Context, s *Server, question kmip.OperationPayload) (A, error) {
	var none A
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
	c, err := s.connection(ctx)
	if err != nil {
		return none, err
	}
	message := kmip.NewRequestMessage(kmip.V1_4, question)
	var answer kmip.ResponseMessage
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }) // which ends what is under way
	if err = c.stream.Send(&message); err == nil {
		err = c.stream.Recv(&answer)
	}
	if !stop() || err != nil {
		_ = c.Close() // it is in the middle of something
		if ctx.Err() != nil {
			return none, context.Cause(ctx)
		}
		return none, fmt.Errorf("ask the server: %w", err)
	}
	s.idle <- c // which has room: there are as many slots
	// A server that does not speak the version of the question says so in its own (§6.1).
	if v := answer.Header.ProtocolVersion; v != kmip.V1_4 {
		return none, fmt.Errorf("the server answers in version %d.%d of KMIP, and not in 1.4", v.ProtocolVersionMajor,
			v.ProtocolVersionMinor)
	}
	if len(answer.BatchItem) != 1 {
		return none, errors.New("the answer is not the one to the question")
	}
	item := answer.BatchItem[0]
	failed := item.ResultStatus == kmip.ResultStatusOperationFailed
	// An item has the operation of the question (§7.2), unless the server could not read that. So what is refused must
	// be what was asked.
	switch got, ok := item.ResponsePayload.(A); {
	case failed && item.Operation != question.Operation():
		return none, fmt.Errorf("the answer is not the one to the question: %.300s: %.300s",
			ttlv.EnumStr(item.ResultReason), item.ResultMessage)
	case failed:
		return none, &refusal{item.Operation, item.ResultReason, item.ResultMessage}
	case !ok || item.ResultStatus != kmip.ResultStatusSuccess || item.Operation != question.Operation():
		return none, errors.New("the answer is not the one to the question")
	default:
		return got, nil
	}
}

// connection returns a connection that is not old.
func (s *Server) connection(ctx context.Context) (*conn, error) {
	for {
		select {
		case c := <-s.idle:
			if time.Now().Before(c.until) {
				return c, nil
			}
			_ = c.Close() // nothing is under way
			continue
		default:
		}
		break
	}
	certificate, err := s.files.File(ctx, Certificate)
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	secret, err := s.files.File(ctx, PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("read the private key: %w", err)
	}
	defer clear(secret)
	pair, err := tls.X509KeyPair(certificate, secret)
	if err != nil {
		return nil, fmt.Errorf("read the certificate and its private key: %w", err)
	}
	endpoint := Endpoint(s.address)
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		return nil, err
	}
	raw, err := s.dial(ctx, "tcp", endpoint)
	if err != nil {
		return nil, err
	}
	secured := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: s.roots, ServerName: host, Certificates: []tls.Certificate{pair},
	})
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // nothing was sent
		return nil, err
	}
	return &conn{secured, ttlv.NewStream(secured, maxAnswer), time.Now().Add(connLife)}, nil
}
