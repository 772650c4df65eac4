package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/pkg/events"
	"github.com/pgctrl/pgctrl/pkg/hooks"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/trace"
	"github.com/pgctrl/pgctrl/tests/fleet"
)

// hookKey is what bodies are signed with.
const hookKey = "a-key-of-the-tests"

// receiver is an HTTP server that takes its time, checks the signature, and keeps a line of each
// event: its name, when it came, when it was seen, and whether it was genuine.
const receiver = `
import hashlib, hmac, http.server, json, sys, time
port, log, delay, key = int(sys.argv[1]), open(sys.argv[2], "a", buffering=1), float(sys.argv[3]), sys.argv[4].encode()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body, came = self.rfile.read(int(self.headers["Content-Length"])), time.time_ns()
        want = "v1=" + hmac.new(key, self.headers["Pgctrl-Timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
        time.sleep(delay)
        e = json.loads(body)["event"]
        log.write(json.dumps({"id": self.headers["Pgctrl-Event-Id"], "came": came, "seen": e["seen"], "late": e.get("late", False), "genuine": want == self.headers["Pgctrl-Signature"]}) + "\n")
        self.send_response(204)
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
`

// received is a line of the receiver's.
type received struct {
	ID      string    `json:"id"`
	Came    int64     `json:"came"`
	Seen    time.Time `json:"seen"`
	Late    bool      `json:"late"`
	Genuine bool      `json:"genuine"`
}

func receive(ctx context.Context, t *testing.T, name string, port int, delay string) {
	t.Helper()
	unit := "e2e-receiver-" + name
	must[string](t)(hosts.Infra.Exec(ctx, "rm", "-f", "/tmp/"+unit))
	must[string](t)(hosts.Infra.Exec(ctx, "systemd-run", "--quiet", "--collect", "--unit="+unit,
		"python3", "-c", receiver, fmt.Sprint(port), "/tmp/"+unit, delay, hookKey))
	t.Cleanup(func() { _, _ = hosts.Infra.Exec(context.Background(), "systemctl", "stop", unit) })
}

func taken(ctx context.Context, t *testing.T, name string) (out []received) {
	t.Helper()
	text := must[string](t)(hosts.Infra.Exec(ctx, "cat", "/tmp/e2e-receiver-"+name))
	for line := range strings.Lines(text) {
		var r received
		ok(t, json.Unmarshal([]byte(line), &r))
		out = append(out, r)
	}
	return out
}

// hook makes a hook for a test; what it leaves is removed.
func hook(ctx context.Context, t *testing.T, name string, fields ...string) {
	t.Helper()
	t.Cleanup(func() {
		drop(context.WithoutCancel(ctx), t, hosts.Layout.ClusterDoc(cluster, "hooks/"+name))
		drop(context.WithoutCancel(ctx), t, hosts.Layout.Secret(cluster, keys.HookSecret(name)))
		_, _ = hosts.Pgctrl(context.Background(), "hook", "forget", cluster, name)
	})
	// Nothing is sent before there is a key to sign it with.
	must[string](t)(hosts.Pgctrl(ctx, append([]string{"set", cluster, "hooks/" + name, "enabled=false"}, fields...)...))
	must[string](t)(hosts.Infra.Exec(ctx, "sh", "-c", "echo "+hookKey+" | pgctrl secret set "+cluster+" hook-"+name))
	must[string](t)(hosts.Pgctrl(ctx, "set", cluster, "hooks/"+name, "enabled=true"))
}

// eventStream follows the cluster's events in etcd, in the order of their writing.
type eventStream struct {
	mu   sync.Mutex
	list []events.Event
}

func followEvents(ctx context.Context, t *testing.T) *eventStream {
	t.Helper()
	w := &eventStream{}
	ctx, stop := context.WithCancel(ctx)
	ch := hosts.Etcd.Watch(ctx, hosts.Layout.ClusterEvents(cluster), clientv3.WithPrefix())
	var running sync.WaitGroup
	running.Go(func() {
		for resp := range ch {
			for _, ev := range resp.Events {
				var e events.Event
				if ev.Type == clientv3.EventTypePut && json.Unmarshal(ev.Kv.Value, &e) == nil {
					w.mu.Lock()
					w.list = append(w.list, e)
					w.mu.Unlock()
				}
			}
		}
	})
	t.Cleanup(func() { stop(); running.Wait() })
	return w
}

func (w *eventStream) all() []events.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.list)
}

// lastStory is the story of the last move, once every node has told its part of it.
func lastStory(ctx context.Context, t *testing.T, to string) (s trace.Story) {
	t.Helper()
	ok(t, fleet.Until(ctx, 30*time.Second, "the story of "+to+" to be whole", func(ctx context.Context) error {
		var all []trace.Story
		text, err := hosts.Pgctrl(ctx, "trace", cluster, "-o", "json")
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(text), &all); err != nil || len(all) != 1 {
			return fmt.Errorf("%d stories, %v", len(all), err)
		}
		s = all[0]
		if s.To != to || s.Took.Confirmed == nil || s.Took.Routes != len(hosts.Nodes) || s.Took.VIP == nil || s.Took.Writes == nil {
			return fmt.Errorf("it is %+v", s)
		}
		return nil
	}))
	return s
}

// moved moves the leader and returns for how long clients waited for their way after the new
// primary was confirmed, in milliseconds, by the nodes' own time stamps.
func moved(ctx context.Context, t *testing.T) float64 {
	t.Helper()
	from, to := leaderAndNext(ctx, t)
	ok(t, hosts.Switchover(ctx, cluster, from, to))
	ok(t, hosts.Whole(ctx, cluster, time.Minute))
	s := lastStory(ctx, t, to)
	return *s.Took.Writes - *s.Took.Confirmed
}

// filler writes n documents that concern nobody, each another one, as etcdctl does.
func filler(ctx context.Context, t *testing.T, round, n int) {
	t.Helper()
	for i := range n {
		ok(t, hosts.Put(ctx, hosts.Layout.ClusterDoc(cluster, fmt.Sprint("hooks/filler-", i)),
			fmt.Sprintf("enabled: false\nevents: [leader.lost]\ncommand: {program: nobody}\ntimeout: %ds\n", round+1)))
	}
}

// TestHooksThroughTenFailovers: ten moves and a thousand changes pass three hooks, one dead, one
// that takes ten seconds, one well, and a command on the primary; the server is killed in the
// middle. The one that is well gets every event, in order, and clients are led to the new primary
// as soon as without any hook.
func TestHooksThroughTenFailovers(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	var alone, beside []float64
	for range 3 {
		alone = append(alone, moved(ctx, t))
	}
	receive(ctx, t, "well", 9871, "0")
	receive(ctx, t, "slow", 9872, "10")
	for _, h := range hosts.Nodes {
		ok(t, h.WriteFile(ctx, "/etc/pgctrl/hooks/note", 0o755, []byte("#!/bin/sh\necho \"$PGCTRL_EVENT_ID $PGCTRL_NODE $1 $(wc -c)\" >>/var/tmp/noted\n")))
		t.Cleanup(func() { _, _ = h.Exec(context.Background(), "rm", "-rf", "/etc/pgctrl/hooks", "/var/tmp/noted") })
	}
	t.Cleanup(func() { drop(context.WithoutCancel(ctx), t, hosts.Layout.ClusterDoc(cluster, "hooks/")) })
	stream := followEvents(ctx, t)
	hook(ctx, t, "dead", "events=[all]", "webhook.url=http://127.0.0.1:9873/")
	hook(ctx, t, "slow", "events=[all]", "webhook.url=http://127.0.0.1:9872/", "timeout=20s")
	hook(ctx, t, "note", "events=[primary.confirmed]", "command.program=note", "command.arguments=[moved]")
	hook(ctx, t, "well", "events=[all]", "webhook.url=http://127.0.0.1:9871/hook?token=x")

	for round := range 10 {
		var filling sync.WaitGroup
		filling.Go(func() { filler(ctx, t, round, 100) })
		if round == 5 {
			must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "kill", "--signal=KILL", "pgctrl-server"))
		}
		beside = append(beside, moved(ctx, t))
		filling.Wait()
	}
	_, to := leaderAndNext(ctx, t)
	slices.Sort(alone)
	slices.Sort(beside)
	t.Logf("clients were led to the new primary after its confirmation: without hooks %.1f ms (median of %d, %.1f to %.1f), beside four %.1f ms (of %d, %.1f to %.1f)",
		alone[len(alone)/2], len(alone), alone[0], alone[len(alone)-1], beside[len(beside)/2], len(beside), beside[0], beside[len(beside)-1])
	if beside[len(beside)/2] > alone[len(alone)-1]+500 {
		t.Errorf("hooks delay clients: %v without, %v beside them", alone, beside)
	}
	everyEvent(ctx, t, stream)
	noted(ctx, t, stream.all())

	show := func(name string) (s hooks.State) {
		t.Helper()
		text := must[string](t)(hosts.Get(ctx, hosts.Layout.DeliveryState(cluster, name)))
		ok(t, json.Unmarshal([]byte(text), &s))
		return s
	}
	if s := show("dead"); s.FailingSince == nil || !strings.Contains(s.Error, "refused") || s.Delivered > 0 {
		t.Errorf("the dead one: %+v", s)
	}
	if s := show("slow"); s.FailingSince != nil || s.Delivered < 5 || s.Delivered > 200 {
		t.Errorf("the slow one: %+v", s)
	}
	list := must[string](t)(hosts.Pgctrl(ctx, "hook", "list", cluster))
	t.Logf("pgctrl hook list:\n%s", list)
	t.Logf("pgctrl trace, with %s next:\n%s", to, must[string](t)(hosts.Pgctrl(ctx, "trace", cluster)))
}

// everyEvent waits until the well one has what is in etcd, and compares.
func everyEvent(ctx context.Context, t *testing.T, stream *eventStream) {
	t.Helper()
	var got []received
	var order, want []string
	ok(t, fleet.Until(ctx, time.Minute, "the hook that is well to have every event", func(ctx context.Context) error {
		want = wantedByWell(stream.all())
		mine := map[string]bool{}
		for _, id := range want {
			mine[id] = true
		}
		got, order = taken(ctx, t, "well"), nil
		for _, r := range got { // the first time each came
			if mine[r.ID] {
				order, mine[r.ID] = append(order, r.ID), false
			}
		}
		if len(order) < len(want) {
			return fmt.Errorf("it has %d of %d", len(order), len(want))
		}
		return nil
	}))
	if !slices.Equal(order, want) {
		for i := range min(len(order), len(want)) {
			if order[i] != want[i] {
				t.Errorf("event %d of %d is %s, and was written as %s", i, len(want), order[i], want[i])
				break
			}
		}
	}
	if len(want) < 1000 {
		t.Errorf("%d events, want a thousand and more", len(want))
	}
	var took []time.Duration
	for _, r := range got {
		if !r.Genuine {
			t.Errorf("the signature of %s is not genuine", r.ID)
		}
		if !r.Late {
			took = append(took, time.Unix(0, r.Came).Sub(r.Seen))
		}
	}
	slices.Sort(took)
	t.Logf("%d events, %d repeated around the kill; from being seen to the receiver: p50 %s, p99 %s",
		len(order), len(got)-len(order), took[len(took)/2].Round(100*time.Microsecond), took[len(took)*99/100].Round(100*time.Microsecond))
	if n := len(got) - len(order); n > 100 {
		t.Errorf("%d events were repeated; a server that is killed repeats a fifth of a second", n)
	}
}

// wantedByWell are the names of the events that the well one asked for: what was written after its
// document, but for what is about hooks.
func wantedByWell(all []events.Event) (out []string) {
	since := false
	for _, e := range all {
		if since && !strings.HasPrefix(string(e.Kind), "hook.") {
			out = append(out, e.Cluster+"/"+e.ID)
		}
		since = since || e.Kind == events.DocumentChanged && e.Subject == "hooks/well"
	}
	return out
}

// noted: the command ran for every confirmation, on the node of the one who was confirmed.
func noted(ctx context.Context, t *testing.T, all []events.Event) {
	t.Helper()
	want := map[string]bool{}
	since := false
	for _, e := range all {
		if since && e.Kind == events.PrimaryConfirmed {
			want[e.Cluster+"/"+e.ID] = true
		}
		since = since || e.Kind == events.DocumentChanged && e.Subject == "hooks/note"
	}
	ok(t, fleet.Until(ctx, time.Minute, "the command to have run for every confirmation", func(ctx context.Context) error {
		missing := len(want)
		for _, h := range hosts.Nodes {
			text, _ := h.Exec(ctx, "cat", "/var/tmp/noted")
			for line := range strings.Lines(text) {
				f := strings.Fields(line)
				if len(f) != 4 || f[1] != h.Name || f[2] != "moved" || f[3] == "0" {
					t.Errorf("%s noted %q", h.Name, line)
				}
				if want[f[0]] {
					missing--
				}
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d are missing", missing, len(want))
		}
		return nil
	}))
	t.Logf("a program ran on the primary for each of %d confirmations", len(want))
}
