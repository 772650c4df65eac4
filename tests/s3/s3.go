// Package s3 runs an S3 server, MinIO, on a host of the lab, for tests of backups: over
// TLS as pgBackRest wants it, with a bucket, and with every way in which it can be away.
// It is the lab's and none of the product's. MinIO is built from source once and cached
// (lab.Second).
package s3

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

const (
	// Port is where it answers.
	Port = 9000
	// CAFile is the authority that signed its certificate, on every host.
	CAFile = "/etc/ssl/lab-s3-ca.pem"
	// unit is its systemd unit.
	unit = "lab-s3.service"
	// home has everything of it but the unit.
	home = "/var/lib/lab-s3"
	// startsWithin is how long until it answers; measured: 3 s on two busy cores.
	startsWithin = time.Minute
)

// Server is a MinIO on a host.
type Server struct {
	Host *lab.Host
	// Bucket is the one that it begins with.
	Bucket string
	// Key and Secret are its root user's.
	Key, Secret string
	client      *http.Client
}

// Endpoint is its name and port. pgBackRest 2.45 compares a certificate with names alone,
// never with addresses, so it is the host's name, which every host of the lab knows.
func (s *Server) Endpoint() string { return fmt.Sprintf("%s:%d", s.Host.Name, Port) }

// Start installs MinIO from dir on a host, has it run with an empty bucket, and gives all
// hosts the authority's certificate. What an earlier Start left is removed first.
func Start(ctx context.Context, l *lab.Lab, h *lab.Host, dir string) (*Server, error) {
	s := &Server{Host: h, Bucket: "backups", Key: "lab-" + random(8), Secret: random(24)}
	if err := s.Remove(ctx, l); err != nil {
		return nil, err
	}
	pair, err := certificate(h.Name, time.Now())
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %s: %w", h.Name, err)
	}
	for _, every := range l.Hosts() {
		if err := every.WriteFile(ctx, CAFile, 0o644, pair.authority); err != nil {
			return nil, err
		}
	}
	for _, f := range []struct {
		path    string
		mode    fs.FileMode
		content string
	}{
		{home + "/certs/public.crt", 0o644, string(pair.public)},
		{home + "/certs/private.key", 0o600, string(pair.private)},
		{home + "/env", 0o600, fmt.Sprintf("MINIO_ROOT_USER=%s\nMINIO_ROOT_PASSWORD=%s\nMINIO_UPDATE=off\nMINIO_CI_CD=on\n", s.Key, s.Secret)},
		{"/etc/systemd/system/" + unit, 0o644, unitFile},
	} {
		if err := h.WriteFile(ctx, f.path, f.mode, []byte(f.content)); err != nil {
			return nil, err
		}
	}
	if err := h.CopyFile(ctx, filepath.Join(dir, "minio"), home+"/minio", 0o755); err != nil {
		return nil, err
	}
	if _, err := h.Exec(ctx, "systemctl", "daemon-reload"); err != nil {
		return nil, err
	}
	s.client = pair.client(net.JoinHostPort(h.IP, fmt.Sprint(Port)))
	if err := s.Run(ctx); err != nil {
		return nil, err
	}
	return s, s.makeBucket(ctx)
}

// unitFile is a program that is let be: nothing starts it again, because tests stop it.
var unitFile = fmt.Sprintf(`[Unit]
Description=S3 of the lab

[Service]
EnvironmentFile=%[1]s/env
ExecStart=%[1]s/minio server --quiet --certs-dir %[1]s/certs --address :%[2]d --console-address 127.0.0.1:9001 %[1]s/data
LimitNOFILE=65536
`, home, Port)

// Remove takes everything away again, objects too. What is not there is no error.
func (s *Server) Remove(ctx context.Context, l *lab.Lab) error {
	s.Heal(ctx)
	const script = `systemctl kill --signal=CONT %[1]s; systemctl stop %[1]s; rm -rf %[2]s /etc/systemd/system/%[1]s; systemctl daemon-reload; systemctl reset-failed %[1]s; true`
	if _, err := s.Host.Exec(ctx, "sh", "-c", fmt.Sprintf("{ "+script+"; } 2>/dev/null", unit, home)); err != nil {
		return fmt.Errorf("remove S3 from %s: %w", s.Host.Name, err)
	}
	for _, h := range l.Hosts() {
		if _, err := h.Exec(ctx, "rm", "-f", CAFile); err != nil {
			return err
		}
	}
	return nil
}

// Run starts it and returns once it answers.
func (s *Server) Run(ctx context.Context) error {
	if _, err := s.Host.Exec(ctx, "systemctl", "start", unit); err != nil {
		return fmt.Errorf("start S3: %w", err)
	}
	return s.answers(ctx)
}

// Stop ends it: whoever connects is refused at once.
func (s *Server) Stop(ctx context.Context) error {
	_, err := s.Host.Exec(ctx, "systemctl", "stop", unit)
	return err
}

// Freeze stops it as a hung program: whoever connects is let in by the kernel and gets no answer.
func (s *Server) Freeze(ctx context.Context) error { return s.Host.Pause(ctx, unit) }

// Thaw ends Freeze and returns once it answers.
func (s *Server) Thaw(ctx context.Context) error {
	if err := s.Host.Resume(ctx, unit); err != nil {
		return err
	}
	return s.answers(ctx)
}

// Cut drops what is sent to it, in open connections too, as a broken network does: whoever
// connects waits. The host's other programs, such as etcd, are reached as before.
func (s *Server) Cut(ctx context.Context) error {
	rules := fmt.Sprintf("table inet lab_s3\ndelete table inet lab_s3\ntable inet lab_s3 {\n chain in {\n  type filter hook input priority 0\n  tcp dport %d drop\n }\n}\n", Port)
	cmd := s.Host.Command(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cut S3 off: %w: %s", err, out)
	}
	return nil
}

// Heal ends Cut; when there is none it does nothing.
func (s *Server) Heal(ctx context.Context) {
	_, _ = s.Host.Exec(ctx, "nft", "delete", "table", "inet", "lab_s3")
}

// answers waits until it is alive, by its own word.
func (s *Server) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startsWithin)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.health(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			said, _ := s.Host.Exec(context.WithoutCancel(ctx), "journalctl", "-u", unit, "-n", "20", "--no-pager", "-o", "cat")
			return errors.Join(fmt.Errorf("wait %s for S3 on %s: %w", startsWithin, s.Host.Name, err), errors.New(said))
		case <-tick.C:
		}
	}
}

func (s *Server) health(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.Endpoint()+"/minio/health/live", nil)
	if err != nil {
		return err
	}
	return s.do(req)
}

// makeBucket asks for it as any S3 client does.
func (s *Server) makeBucket(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "https://"+s.Endpoint()+"/"+s.Bucket, nil)
	if err != nil {
		return err
	}
	// It is alive before it takes requests: 503 for a second or two.
	for deadline := time.Now().Add(startsWithin); ; {
		sign(req, s.Key, s.Secret, time.Now())
		err = s.do(req)
		if err == nil || time.Now().After(deadline) || !strings.Contains(err.Error(), "503") {
			break
		}
		time.Sleep(250 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("make bucket %s: %w", s.Bucket, err)
	}
	return nil
}

func (s *Server) do(req *http.Request) error {
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", req.Method, req.URL, res.Status)
	}
	return nil
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
