package e2e

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgctrl/pgctrl/internal/pki"
	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// theirs puts a certificate and its key of somebody else's on a node.
func theirs(ctx context.Context, t *testing.T, h *lab.Host, crt, key []byte) {
	t.Helper()
	b64 := base64.StdEncoding.EncodeToString
	must[string](t)(h.Exec(ctx, "sh", "-c", fmt.Sprintf(`mkdir -p /etc/ssl/theirs && cd /etc/ssl/theirs && umask 077 &&
echo %s | base64 -d > c && echo %s | base64 -d > k && chmod 0644 c && chgrp postgres k && chmod 0640 k && mv k server.key && mv c server.crt`, b64(crt), b64(key))))
}

// shownBy is the name in the certificate that a node's program shows.
func shownBy(ctx context.Context, h *lab.Host, port int) (string, error) {
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", net.JoinHostPort(h.IP, fmt.Sprint(port)))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
	var answer [1]byte
	if _, err = conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err == nil {
		_, err = conn.Read(answer[:])
	}
	if err != nil || answer[0] != 'S' {
		return "", errors.Join(err, fmt.Errorf("it answers %q", answer))
	}
	c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // who it is is what is asked
	if err := c.HandshakeContext(ctx); err != nil {
		return "", err
	}
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

func showEverywhere(ctx context.Context, t *testing.T, name string, limit time.Duration) {
	t.Helper()
	ok(t, fleet.Until(ctx, limit, "every program to show "+name, func(ctx context.Context) error {
		for _, h := range hosts.Nodes {
			for _, port := range []int{5432, 6432} {
				if got, err := shownBy(ctx, h, port); err != nil || got != name {
					return fmt.Errorf("%s:%d shows %q: %w", h.Name, port, got, err)
				}
			}
		}
		return nil
	}))
}

// TestTLSByPath: files that can't be used change nothing and the status says which and
// why; put right they are taken, renewed ones too, and one that ends soon is spoken of.
func TestTLSByPath(t *testing.T) {
	ctx := begin(t)
	leadsFirst(ctx, t)
	doc := hosts.Layout.ClusterDoc(cluster, "postgres")
	was := must[string](t)(hosts.Get(ctx, doc))
	t.Cleanup(func() {
		restore(context.Background(), t, doc, was)
		statusReady(context.Background(), t)
		onHosts(context.Background(), t, "rm -rf /etc/ssl/theirs")
	})
	pair := func(name string, at time.Time) (crt, key []byte) {
		text := must[[]byte](t)(pki.Issue(must[[]byte](t)(pki.NewAuthority("theirs", at)), name, []string{"localhost"}, at))
		cut := strings.Index(string(text), "-----BEGIN PRIVATE")
		return text[:cut], text[cut:]
	}
	operated(ctx, t, "set", cluster, "postgres", "tls=allow")
	showEverywhere(ctx, t, cluster, 10*time.Second)
	before := untouched(ctx, t, true)
	crt, key := pair("first", time.Now())
	_, other := pair("other", time.Now())
	for _, h := range hosts.Nodes {
		theirs(ctx, t, h, crt, other)
	}
	standing := service(ctx, t, 0, 5436)
	conn := must[*pgx.Conn](t)(standing.Connect(ctx))
	defer conn.Close(ctx)

	ok(t, hosts.Put(ctx, doc, "tls: allow\ntls_certificate: /etc/ssl/theirs/server.crt\ntls_key: /etc/ssl/theirs/server.key\n"))
	statusSays(ctx, t, "Rejected", doc, "tls_key: /etc/ssl/theirs/server.key: the key and the certificate don't belong together")
	showEverywhere(ctx, t, cluster, 5*time.Second)
	if got := untouched(ctx, t, true); got != before {
		t.Errorf("files that can't be used changed the hosts:\n%s\nwere\n%s", got, before)
	}
	for _, h := range hosts.Nodes {
		theirs(ctx, t, h, crt, key)
		must[string](t)(h.Exec(ctx, "chmod", "0600", "/etc/ssl/theirs/server.key"))
	}
	statusSays(ctx, t, "Rejected", doc, "/etc/ssl/theirs/server.key: the user postgres can't read it", "namei -l /etc/ssl/theirs/server.key")
	for _, h := range hosts.Nodes {
		theirs(ctx, t, h, crt, key)
	}
	start := time.Now()
	showEverywhere(ctx, t, "first", 2*time.Minute)
	t.Logf("files that were put right are taken up after %s", time.Since(start).Round(time.Second))
	statusReady(ctx, t)

	crt, key = pair("second", time.Now().Add(-350*24*time.Hour))
	for _, h := range hosts.Nodes {
		theirs(ctx, t, h, crt, key)
	}
	start = time.Now()
	showEverywhere(ctx, t, "second", 2*time.Minute)
	t.Logf("renewed files are taken up after %s", time.Since(start).Round(time.Second))
	statusSays(ctx, t, "CertificateExpires", "expires on", "openssl x509 -noout -subject -dates -in /etc/ssl/theirs/server.crt")
	statusReady(ctx, t)
	var one int
	if err := conn.QueryRow(ctx, "select 1").Scan(&one); err != nil {
		t.Errorf("a session was cut: %v", err)
	}
	restore(ctx, t, doc, was)
	statusReady(ctx, t)
	for _, h := range hosts.Nodes {
		if name, err := shownBy(ctx, h, 5432); err == nil {
			t.Errorf("%s goes on to show %s", h.Name, name)
		}
	}
}
