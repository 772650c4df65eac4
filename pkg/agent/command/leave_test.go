package command

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/agent/config"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/store"
	"github.com/pgctrl/pgctrl/pkg/store/model"
)

// joined is a host that the agent has made things on.
type joined struct {
	etcd  *model.Server
	away  error
	units []string
	acts  []string
	fail  error
}

func (j *joined) Made(config.Config) ([]string, error) { return j.units, nil }
func (j *joined) ID() (string, error)                  { return "m1", nil }

func (j *joined) Etcd(context.Context, config.Config) (*store.Client, error) {
	if j.away != nil {
		return nil, j.away
	}
	return j.etcd.Client("pg1"), nil
}

func (j *joined) Undo(_ context.Context, _ config.Config, units []string, say func(string, ...any)) error {
	j.acts = append(j.acts, "undo "+strings.Join(units, " "))
	return j.fail
}

func (j *joined) Clear(context.Context, config.Config) error {
	j.acts = append(j.acts, "clear")
	return nil
}

func leaving(t *testing.T) (*bench, *joined) {
	b, j := newBench(t), &joined{etcd: model.New(), units: []string{"haproxy@shop.service"}}
	b.leaver = j
	l := keys.Default
	j.etcd.Put(l.AliveKey("pg1"), `{"node":"pg1","machine_id":"m1"}`)
	j.etcd.Put(l.ObservedKey("pg1", "shop", "haproxy"), "{}")
	j.etcd.Put(l.ObservedKey("pg10", "shop", "haproxy"), "{}")
	j.etcd.Put(l.PlanKey("pg1", "shop", "haproxy"), "{}")
	return b, j
}

func TestLeave(t *testing.T) {
	b, j := leaving(t)
	if code := b.run("leave", "--dry-run"); code != 0 || len(j.acts) > 0 {
		t.Fatalf("a dry run: %d, %v", code, j.acts)
	}
	b.wantOut("would stop, disable and remove haproxy@shop.service")
	j.fail = errors.New("systemd is busy")
	if code := b.run("leave"); code != 1 {
		t.Errorf("exit code %d", code)
	}
	b.wantOut("systemd is busy; run it again")
	if _, _, there := j.etcd.Get(keys.Default.AliveKey("pg1")); !there || strings.Contains(strings.Join(j.acts, " "), "clear") {
		t.Error("it forgets what is not undone")
	}
	j.fail, j.acts = nil, nil
	if code := b.run("leave"); code != 0 {
		t.Fatalf("exit code %d: %s", code, b.stderr)
	}
	b.wantOut("next, on the host of pgctrl: pgctrl node remove pg1")
	if got := strings.Join(j.acts, ", "); got != "undo haproxy@shop.service, clear" {
		t.Errorf("acts: %s", got)
	}
	for key, want := range map[string]bool{
		keys.Default.AliveKey("pg1"):                        false,
		keys.Default.ObservedKey("pg1", "shop", "haproxy"):  false,
		keys.Default.ObservedKey("pg10", "shop", "haproxy"): true,
		keys.Default.PlanKey("pg1", "shop", "haproxy"):      true, // plans are not the agent's to delete
	} {
		if _, _, there := j.etcd.Get(key); there != want {
			t.Errorf("%s: there %v, want %v", key, there, want)
		}
	}
}

// TestR14LeaveRefusesMembers: by documents, and by the disk when they are gone.
func TestR14LeaveRefusesMembers(t *testing.T) {
	member := keys.Default.ClusterDoc("shop", "members/shop-1")
	for name, c := range map[string]struct {
		prepare func(b *bench, j *joined)
		want    string // empty: it may leave
	}{
		"a document":     {func(b *bench, j *joined) { j.etcd.Put(member, "node: pg1") }, "runs shop/shop-1"},
		"another node's": {func(b *bench, j *joined) { j.etcd.Put(member, "node: pg10") }, ""},
		"removed":        {func(b *bench, j *joined) { j.etcd.Put(member, "node: pg1\nstate: absent") }, ""},
		"not removed yet": {func(b *bench, j *joined) {
			j.etcd.Put(member, "node: pg1\nstate: absent")
			j.units = []string{"patroni@shop.service"}
		}, "pgctrl remove shop shop-1"},
		"its document's gone": {func(b *bench, j *joined) { j.units = []string{"patroni@shop.service"} }, "pgctrl remove shop <member>"},
		"etcd is away":        {func(b *bench, j *joined) { j.away = errors.New("no route") }, "no route. Nothing was changed"},
		"someone else's name": {func(b *bench, j *joined) { j.etcd.Put(keys.Default.AliveKey("pg1"), `{"machine_id":"m2"}`) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b, j := leaving(t)
			c.prepare(b, j)
			code := b.run("leave")
			if c.want == "" {
				if code != 0 {
					t.Fatalf("exit code %d: %s", code, b.stderr)
				}
				_, _, there := j.etcd.Get(keys.Default.AliveKey("pg1"))
				if there != (name == "someone else's name") {
					t.Errorf("presence there: %v", there)
				}
				return
			}
			if code != 1 || len(j.acts) > 0 {
				t.Errorf("exit code %d, acts %v", code, j.acts)
			}
			b.wantOut(c.want)
		})
	}
}
