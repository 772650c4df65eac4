package e2e

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

// verifierMark begins what PostgreSQL keeps of a password.
const verifierMark = "SCRAM-SHA-256$"

// argumentsSeen is the file in which a host collects every process's arguments.
const argumentsSeen = "/run/arguments-seen"

// watchArguments collects the arguments of all processes of a host, every 20 ms, until
// the returned function is called, which returns them.
func watchArguments(ctx context.Context, t *testing.T, h *lab.Host) (stop func() string) {
	t.Helper()
	ok(t, h.WriteFile(ctx, "/run/watch-arguments", 0o644, []byte(`import os, time
seen = set()
while os.path.exists("/run/watch-arguments"):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            seen.add(open("/proc/%s/cmdline" % pid, "rb").read().replace(b"\0", b" "))
        except OSError:
            pass
    time.sleep(0.02)
open("`+argumentsSeen+`.part", "wb").write(b"\n".join(seen))
os.rename("`+argumentsSeen+`.part", "`+argumentsSeen+`")
`)))
	must[string](t)(h.Exec(ctx, "sh", "-c", "rm -f "+argumentsSeen+"; systemd-run -q --collect --unit watch-arguments python3 /run/watch-arguments"))
	end := func() string {
		out, err := h.Exec(context.Background(), "sh", "-c", "rm -f /run/watch-arguments; for i in $(seq 100); do test -e "+argumentsSeen+" && break; sleep 0.1; done; cat "+argumentsSeen)
		if err != nil {
			t.Errorf("arguments seen on %s: %v", h.Name, err)
		}
		return out
	}
	t.Cleanup(func() { _, _ = h.Exec(context.Background(), "rm", "-f", "/run/watch-arguments") })
	return end
}

// secretValues are the secrets of the cluster, by key: what they are is never to be seen.
func secretValues(ctx context.Context, t *testing.T) map[string]string {
	t.Helper()
	r, err := hosts.Etcd.Get(ctx, hosts.Layout.ClusterSecrets(cluster), withPrefix()...)
	ok(t, err)
	out := map[string]string{}
	for _, e := range r.Kvs {
		out[string(e.Key)] = string(e.Value)
	}
	return out
}

// shown is everything that pgctrl, its programs and those it configures let people
// see: keys but for the secrets, journals, logs, metrics, and what commands print.
func shown(ctx context.Context, t *testing.T, secrets map[string]string) map[string]string {
	t.Helper()
	places := map[string]string{}
	r, err := hosts.Etcd.Get(ctx, hosts.Layout.RootPrefix(), withPrefix()...)
	ok(t, err)
	for _, e := range r.Kvs {
		if _, is := secrets[string(e.Key)]; !is {
			places["key "+string(e.Key)] = string(e.Value)
		}
	}
	for _, h := range hosts.Lab.Hosts() {
		places["journal of "+h.Name] = must[string](t)(h.Exec(ctx, "journalctl", "--no-pager", "-o", "cat"))
		places["log of PostgreSQL on "+h.Name] = must[string](t)(h.Exec(ctx, "sh", "-c", "cat /var/log/postgresql/* /var/lib/postgresql/*/*/log/* 2>/dev/null || true"))
		places["journaled state on "+h.Name] = must[string](t)(h.Exec(ctx, "sh", "-c", "find /var/lib/pgagent /run -type f -perm /o=r -size -1024k ! -name 'arguments-seen*' -exec cat {} + 2>/dev/null || true"))
		places["files that everybody can read on "+h.Name] = must[string](t)(h.Exec(ctx, "sh", "-c",
			"find /etc /var/lib /var/log /tmp /root -xdev -type f -perm /o=r -size -1024k ! -path '*/postgresql/*/base/*' ! -path /etc/alternatives -exec cat {} + 2>/dev/null || true"))
		port := "9641"
		if h == hosts.Infra {
			port = "9640"
		}
		places["metrics of "+h.Name] = must[string](t)(h.Exec(ctx, "curl", "-sf", "-m", "5", "http://127.0.0.1:"+port+"/metrics"))
	}
	for _, h := range hosts.Nodes {
		for _, command := range []string{"pgagent status", "pgagent check", "curl -s -m 5 http://127.0.0.1:9101/metrics", "curl -s -m 5 http://127.0.0.1:8008/config"} {
			places[command+" on "+h.Name], _ = h.Exec(ctx, "sh", "-c", command+" 2>&1")
		}
	}
	for _, command := range []string{
		"status", "status " + cluster, "status " + cluster + " -o json", "get", "get " + cluster, "get " + cluster + " --effective", "get " + cluster + " -o yaml",
		"user list " + cluster + " --all", "user list " + cluster + " -o json", "database list " + cluster + " --all", "hba list " + cluster,
		"secret list", "secret list " + cluster + " -o json", "url " + cluster, "node list", "explain postgres", "config",
	} {
		out, err := hosts.Infra.Exec(ctx, "sh", "-c", "pgctrl "+command+" 2>&1")
		places["pgctrl "+command] = out + fmt.Sprint(err)
	}
	return places
}

// TestR11NoSecretInTheClear: no secret that the cluster has, or had in this run, is in
// any key but its own, any journal, log or metric, any process's arguments at any
// moment of what people do with them, any file that everybody can read, or in what
// the commands print.
func TestR11NoSecretInTheClear(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	stop := map[string]func() string{}
	for _, h := range hosts.Lab.Hosts() {
		stop[h.Name] = watchArguments(ctx, t, h)
	}
	hold(ctx, 3*time.Second) // they look by then
	// What shows a secret for a moment only is seen: one is planted.
	const planted = "planted-2b1f7c"
	must[string](t)(hosts.Nodes[0].Exec(ctx, "sh", "-c", "sleep 0.3; : "+planted))

	const given, second = "given by a file 7f3e", "given by a file 91ab"
	addUser(ctx, t, "secretive", given)
	secrets := map[string]string{"given": given, "second": second}
	addUser(ctx, t, "secretive", second)
	must[string](t)(hosts.Pgctrl(ctx, "user", "add", cluster, "generated"))
	maps.Copy(secrets, secretValues(ctx, t))
	first := secrets[hosts.Layout.Secret(cluster, keys.UserSecret("generated"))]
	must[string](t)(hosts.Pgctrl(ctx, "user", "passwd", cluster, "generated"))
	for _, who := range []string{"postgres", "generated"} {
		must[string](t)(hosts.Pgctrl(ctx, "psql", cluster, "-U", who, "-c", "select 1"))
	}
	must[string](t)(hosts.Pgctrl(ctx, "secret", "show", cluster, "users/generated"))
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "pgbouncer", "default_pool_size=21"))
	must[string](t)(hosts.Pgctrl(ctx, "unset", cluster, "pgbouncer", "default_pool_size"))
	for _, user := range []string{"secretive", "generated"} {
		must[string](t)(hosts.Pgctrl(ctx, "user", "remove", cluster, user, "--confirm", user))
	}
	secrets["of the generated user before"] = first
	maps.Copy(secrets, secretValues(ctx, t))
	if first == "" || len(secrets) < 8 {
		t.Fatalf("%d secrets found; this proves nothing", len(secrets))
	}
	places := shown(ctx, t, secrets)
	for host, end := range stop {
		places["arguments of a process on "+host] = end()
	}
	if seen := places["arguments of a process on "+hosts.Nodes[0].Name]; !strings.Contains(seen, planted) {
		t.Error("what was planted in a process's arguments was not seen; this proves nothing")
	}
	for place, text := range places {
		for key, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("the secret %s is in the %s", key, place)
			}
		}
		if strings.Contains(text, verifierMark) {
			t.Errorf("a verifier is in the %s", place)
		}
	}
	t.Logf("%d secrets looked for in %d places", len(secrets), len(places))
}
