package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/tests/fleet"
)

// fingerprint is everything on the hosts that a document could change: the files
// and the processes that run from them. HAProxy's worker changes with a reload,
// its master with a restart.
func fingerprint(ctx context.Context, t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, h := range hosts.Nodes {
		out, err := h.Exec(ctx, "sh", "-c", `sha256sum /etc/haproxy/`+cluster+`.cfg /etc/patroni/`+cluster+`.yml
for u in haproxy@`+cluster+` patroni@`+cluster+`; do systemctl show -p MainPID --value $u; done
pgrep -P "$(systemctl show -p MainPID --value haproxy@`+cluster+`)" haproxy
pgrep -o -f '/bin/postgres -D'`)
		ok(t, err)
		fmt.Fprintf(&b, "%s:\n%s\n", h.Name, out)
	}
	return b.String()
}

// statusText is what an operator reads; status exits with 2 when something is
// not as it should be, which is what these tests want to see.
func statusText(ctx context.Context) string {
	out, _ := hosts.Infra.Command(ctx, "pgctrl", "status", cluster).CombinedOutput()
	return string(out)
}

// statusSays waits until the status contains every one of the words.
func statusSays(ctx context.Context, t *testing.T, words ...string) {
	t.Helper()
	var text string
	err := fleet.Until(ctx, 20*time.Second, "status to say so", func(ctx context.Context) error {
		if now := statusText(ctx); now != "" {
			text = now // the last one may be cut short by the limit
		}
		for _, w := range words {
			if !strings.Contains(text, w) {
				return fmt.Errorf("status lacks %q", w)
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("%v; it says:\n%s", err, text)
	}
}

// statusReady waits until nothing is left to do.
func statusReady(ctx context.Context, t *testing.T) {
	t.Helper()
	ok(t, fleet.Until(ctx, time.Minute, "status to be Ready", func(ctx context.Context) error {
		if out, err := hosts.Infra.Command(ctx, "pgctrl", "status", cluster).CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}))
}

// TestR4BadDocumentsChangeNothing: written past every check of pgctrl's, an
// invalid document changes nothing on any host, and the status names the key, the
// line, the field and what was expected.
func TestR4BadDocumentsChangeNothing(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	doc := func(d string) string { return hosts.Layout.ClusterDoc(cluster, d) }
	for _, tc := range []struct {
		name, key, value string
		says             []string
	}{
		{"unknown field", doc("services/default"), "port: 5436\nprot: tcp\n", []string{doc("services/default"), "line 2", "prot", "port"}},
		{"wrong type", doc("services/default"), "port: http\n", []string{doc("services/default"), "line 1", "port", "whole number"}},
		{"impossible combination", doc("postgres"), "ttl: 20s\nloop_wait: 10s\nretry_timeout: 10s\n", []string{doc("postgres"), "ttl"}},
		{"1 MB document", doc("postgres"), "# " + strings.Repeat("x", 1<<20) + "\n", []string{doc("postgres"), "256 KiB"}},
		{"two services on one port", doc("services/extra"), "role: primary\nport: 5436\n", []string{"services/extra", "5436"}},
		{"member on an unknown node", doc("members/pg-test-9"), "node: pg9\n", []string{doc("members/pg-test-9"), "pg9"}},
		{"unknown kind of document", doc("servces/default"), "port: 5436\n", []string{"servces", "services"}},
		{"not YAML at all", doc("services/default"), "port: [5436\n", []string{doc("services/default"), "line"}},
	} {
		t.Run(strings.ReplaceAll(tc.name, " ", "-"), func(t *testing.T) {
			before := fingerprint(ctx, t)
			old := must[string](t)(hosts.Get(ctx, tc.key))
			ok(t, hosts.Put(ctx, tc.key, tc.value))
			statusSays(ctx, t, tc.says...)
			if after := fingerprint(ctx, t); after != before {
				t.Errorf("the hosts changed.\nbefore:\n%s\nafter:\n%s", before, after)
			}
			restore(ctx, t, tc.key, old)
			statusReady(ctx, t)
			if after := fingerprint(ctx, t); after != before {
				t.Errorf("taking the document back changed the hosts.\nbefore:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

func restore(ctx context.Context, t *testing.T, key, old string) {
	t.Helper()
	if old != "" {
		ok(t, hosts.Put(ctx, key, old))
		return
	}
	if _, err := hosts.Etcd.Delete(ctx, key); err != nil {
		t.Fatal(err)
	}
}

// TestR4PgctrlRefusesBeforeWriting: the command line refuses the same mistakes
// before anything is written.
func TestR4PgctrlRefusesBeforeWriting(t *testing.T) {
	ctx := begin(t)
	for _, tc := range []struct{ args, says []string }{
		{[]string{"set", cluster, "services/default", "prot=5436"}, []string{`unknown field "prot"`, `did you mean "port"?`, "Nothing was written"}},
		{[]string{"set", cluster, "services/default", "port=http"}, []string{"port", "whole number", "Nothing was written"}},
		{[]string{"set", cluster, "services/extra", "role=primary", "port=5436"}, []string{"5436", "Nothing was written"}},
		{[]string{"set", cluster, "members/pg-test-9", "node=pg9"}, []string{"pg9", "Nothing was written"}},
		{[]string{"set", "pg-tset", "postgres", "ttl=30s"}, []string{"pg-tset", "pg-test"}},
		{[]string{"create", cluster, "--on", "pg1,pg2,pg3"}, []string{"exists"}},
	} {
		before := must[string](t)(hosts.Infra.Exec(ctx, "sh", "-c", "pgctrl get "+cluster))
		out, err := hosts.Infra.Command(ctx, append([]string{"pgctrl"}, tc.args...)...).CombinedOutput()
		if err == nil {
			t.Errorf("pgctrl %v was accepted:\n%s", tc.args, out)
		}
		for _, w := range tc.says {
			if !strings.Contains(string(out), w) {
				t.Errorf("pgctrl %v does not say %q:\n%s", tc.args, w, out)
			}
		}
		if after := must[string](t)(hosts.Infra.Exec(ctx, "sh", "-c", "pgctrl get "+cluster)); after != before {
			t.Errorf("pgctrl %v changed the documents", tc.args)
		}
	}
}
