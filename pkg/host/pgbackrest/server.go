package pgbackrest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/unit"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// The bounds of a connection to pgBackRest's server.
const (
	// serverWithin is a hundred times what it takes from its start to its first answer.
	serverWithin = 10 * time.Second
	// serverSurvives is enough: by its first answer it has read all that it reads.
	serverSurvives = 500 * time.Millisecond
	// reachWithin bounds a question to another node's, before a backup begins.
	reachWithin = 2 * time.Second
)

// ServerOptions are what a Server needs of the host.
type ServerOptions struct {
	// Restart stops the unit and starts it again.
	Restart func(ctx context.Context, unit string) error
	// Free refuses a port that anybody but the unit has; may be nil.
	Free func(port int, unit string) error
}

// Server is the unit.Program of pgBackRest's server, through which the primary's node reads a
// replica's files. A backup that a restart cuts off is copied from the primary.
type Server struct{ o ServerOptions }

var (
	_ unit.Program   = (*Server)(nil)
	_ unit.Surviving = (*Server)(nil)
)

// NewServer returns the program.
func NewServer(o ServerOptions) *Server { return &Server{o} }

// Restart reports that the agent may start it again: a stopped one is drift (R9).
func (s *Server) Restart() bool { return true }

// Survive implements unit.Surviving.
func (s *Server) Survive() time.Duration { return serverSurvives }

// Validate looks whether the port is free and the certificate one that could be shown: pgBackRest
// has no word for a check of a server's settings.
func (s *Server) Validate(_ context.Context, staged unit.Staged) error {
	at, err := addressOf(staged.Unit)
	if err != nil {
		return err
	}
	for _, f := range staged.Unit.Files {
		if f.Path != at.peer {
			continue
		}
		if _, err := peerOf(staged.Paths[f.Path], at.host); err != nil {
			return rejected("%s: %v", f.Path, err)
		}
	}
	if s.o.Free == nil {
		return nil
	}
	return s.o.Free(at.port, staged.Unit.Unit)
}

// BeforeStart has nothing to prepare.
func (s *Server) BeforeStart(context.Context, plan.Unit) error { return nil }

// Reload starts it again. SIGHUP has pgBackRest 2.45 read its files again and bind its port anew,
// which fails while anybody is connected, and it ends of that (measured).
func (s *Server) Reload(ctx context.Context, u plan.Unit) error { return s.o.Restart(ctx, u.Unit) }

// Prove has the running server show the certificate that is in place, and take it.
func (s *Server) Prove(ctx context.Context, u plan.Unit) error {
	at, err := addressOf(u)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, serverWithin)
	defer cancel()
	for {
		err := at.reach(ctx)
		if err == nil {
			return nil
		}
		if pause(ctx, lookEvery) != nil {
			return &plan.Refusal{Reason: observed.NotAnswering, Message: fmt.Sprintf("%s does not answer: %v", u.Unit, err), Next: "systemctl status " + u.Unit}
		}
	}
}

func rejected(format string, args ...any) error {
	return &plan.Refusal{Reason: observed.Rejected, Message: fmt.Sprintf(format, args...)}
}

// serverAddress is where a server is, and the file by which it is known. The host of one that
// listens on all addresses is empty: it is this one.
type serverAddress struct {
	host string
	port int
	peer string
}

func (s serverAddress) dial() string {
	host := s.host
	if host == "" {
		host = "localhost"
	}
	return net.JoinHostPort(host, strconv.Itoa(s.port))
}

// addressOf reads it from the server's own settings.
func addressOf(u plan.Unit) (serverAddress, error) {
	for _, f := range u.Files {
		if at, ok := parseServer([]byte(f.Content)); ok {
			return at, nil
		}
	}
	return serverAddress{}, rejected("%s: no file says where it listens", u.Unit)
}

func parseServer(b []byte) (serverAddress, bool) {
	c := parseConfig(b)["global"]
	port, err := strconv.Atoi(c["tls-server-port"])
	host := c["tls-server-address"]
	at := serverAddress{host, port, c["tls-server-cert-file"]}
	if host == "*" || host == "::" {
		at.host = ""
	}
	return at, err == nil && host != ""
}

// peerOf is a client that shows the certificate in a file and trusts nothing else.
func peerOf(file, host string) (*tls.Config, error) {
	c, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		return nil, err
	}
	own, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(own)
	return &tls.Config{
		Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS12,
		// Names in it are addresses too, which Go looks for elsewhere: VerifyConnection does
		// what pgBackRest does.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if _, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: trusted}); err != nil {
				return err
			}
			if host == "" || slices.Contains(s.PeerCertificates[0].DNSNames, host) {
				return nil
			}
			return fmt.Errorf("its certificate is not for %s", host)
		},
	}, nil
}

// reach connects, and shows the certificate.
func (s serverAddress) reach(ctx context.Context) error {
	show, err := peerOf(s.peer, s.host)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	conn, err := (&tls.Dialer{Config: show}).DialContext(ctx, "tcp", s.dial())
	if err != nil {
		return err
	}
	return conn.Close()
}

// servers is where this host's own is; the others of the cluster listen on the same port, and
// know the same certificate.
func servers(cluster string) (serverAddress, error) {
	file := plan.BackupServerConfig(cluster)
	b, err := os.ReadFile(file)
	if err != nil {
		return serverAddress{}, fmt.Errorf("this node has no server of its own yet: %w", err)
	}
	at, ok := parseServer(b)
	if !ok {
		return serverAddress{}, fmt.Errorf("%s does not say where servers listen", file)
	}
	return at, nil
}

// ReachPeer says why a member at an address can't be copied from by this host; nil: it can, as far
// as one can tell before.
func (d *Driver) ReachPeer(ctx context.Context, cluster, address string) error {
	at, err := servers(cluster)
	if err != nil {
		return err
	}
	at.host = address
	return at.reach(ctx)
}

// options are those with which a backup is copied from a member at an address. Members have their
// data, port and socket in the same places.
func (s serverAddress) options(c config, cluster, address string) []string {
	out := []string{
		"--backup-standby=y", "--pg2-host=" + address, "--pg2-host-type=tls", fmt.Sprintf("--pg2-host-port=%d", s.port),
		"--pg2-host-ca-file=" + s.peer, "--pg2-host-cert-file=" + s.peer, "--pg2-host-key-file=" + s.peer,
		// A replica's host that is gone says nothing; pgBackRest itself waits half an hour for it.
		"--tcp-keep-alive-count=3", "--tcp-keep-alive-idle=10", "--tcp-keep-alive-interval=5",
	}
	for _, o := range []string{"path", "port", "socket-path", "user"} {
		if v := c.get(cluster, "pg1-"+o, ""); v != "" {
			out = append(out, "--pg2-"+o+"="+v)
		}
	}
	return out
}
