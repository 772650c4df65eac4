package certificate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/pgctrl/pgctrl/internal/pki"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const (
	// showWithin is how long a reload may take to show: both programs take milliseconds.
	showWithin = 3 * time.Second
	lookEvery  = 50 * time.Millisecond
)

// errPlain: the server speaks no TLS.
var errPlain = errors.New("it offers no TLS")

// Prove looks whether what listens on the port of this host shows the certificate that is
// in the file; where there is none, that it offers no TLS.
func Prove(ctx context.Context, port string, f Files) error {
	var want *x509.Certificate
	var err error
	if f.Any() {
		if want, err = Leaf(f.Certificate); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, showWithin)
	defer cancel()
	wrong := "" // by the last answer
	for {
		got, err := Shown(ctx, net.JoinHostPort("localhost", port))
		switch {
		case errors.Is(err, errPlain) && want == nil:
			return nil
		case errors.Is(err, errPlain):
			wrong = "offers no TLS"
		case err != nil && ctx.Err() == nil: // it is busy, or about to go
		case err != nil && wrong == "":
			return fmt.Errorf("ask port %s for its certificate: %w", port, err)
		case err != nil:
		case want == nil:
			wrong = "goes on to offer TLS"
		case pki.Fingerprint(got) != pki.Fingerprint(want):
			wrong = "shows another certificate than " + f.Certificate
		default:
			return nil
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			if wrong == "" || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("ask port %s for its certificate: %w", port, ctx.Err())
			}
			return &plan.Refusal{Reason: observed.Rejected, Document: "postgres",
				Message: fmt.Sprintf("what listens on port %s %s %s after the reload; its log says why", port, wrong, showWithin)}
		}
	}
}

// sslRequest asks a server that speaks PostgreSQL's protocol whether it has TLS.
var sslRequest = []byte{0, 0, 0, 8, 4, 210, 22, 47}

// Shown is the certificate that a server shows. Nobody is trusted here and nothing is
// sent; who it is shown to decides for himself.
func Shown(ctx context.Context, address string) (*x509.Certificate, error) {
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if at, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(at)
	}
	if _, err := conn.Write(sslRequest); err != nil {
		return nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return nil, err
	}
	if answer[0] != 'S' {
		return nil, errPlain
	}
	c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // what it shows is all that is asked
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}
