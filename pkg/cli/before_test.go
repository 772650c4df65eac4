package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store/model"
	"github.com/pgctrl/pgctrl/pkg/verdicts"
)

// asker is a command that asks a hook of the fleet, in a model of etcd and of time.
type asker struct {
	*app
	etcd *model.Server
	errs *bytes.Buffer
}

func asking(t *testing.T, more string) *asker {
	a, etcd, errs := removable(t)
	a.start = time.Now()
	etcd.Put(keys.Default.FleetHook("page"), "before: [restart]\nwebhook: {url: http://localhost:1}\n"+more)
	return &asker{app: a, etcd: etcd, errs: errs}
}

func (a *asker) restart(ctx context.Context) error {
	_, err := a.askHooks(ctx, before{cluster: "c", operation: verdicts.Restart, subject: "c-2", again: "pgctrl restart c c-2"})
	return err
}

// record is the one question that there is.
func (a *asker) record(t *testing.T) (string, verdicts.Verdict) {
	t.Helper()
	es, _, err := a.client.List(t.Context(), keys.Default.Prefix(keys.Verdicts))
	if err != nil || len(es) > 1 {
		t.Fatal(es, err)
	}
	if len(es) == 0 {
		return "", verdicts.Verdict{}
	}
	v, err := observed.Decode[verdicts.Verdict](es[0])
	if err != nil {
		t.Fatal(err)
	}
	return es[0].Key, v
}

// says has the server write what the hook says.
func (a *asker) says(t *testing.T, s verdicts.State, message string) {
	key, v := a.record(t)
	said := []verdicts.Hook{v.Hooks[0]}
	said[0].State, said[0].Message = s, message
	a.etcd.Put(key, string(observed.Encode(verdicts.Judge(v, said, time.Now()))))
}

func TestAskingWaits(t *testing.T) {
	election := keys.Default.ElectionKey()
	for _, tc := range []struct {
		name, more string
		world      func(t *testing.T, a *asker)
		want       string // of the error; empty: it goes on
		told       string
		after      time.Duration
	}{
		{"no server", "", func(*testing.T, *asker) {}, "gave no answer to restart of c-2 (c) (no pgctrl server runs)", "", serverPatience},
		{"no server, and little time", "deadline: 2s\non_timeout: allow", func(*testing.T, *asker) {}, "", "on_timeout says that this allows it", 2 * time.Second},
		{"a server that asks nobody", "", func(_ *testing.T, a *asker) { a.etcd.Put(election, "infra1") }, "(no server asked it)", "", 35 * time.Second},
		{"another server goes on", "", func(t *testing.T, a *asker) {
			a.etcd.Put(election, "infra1")
			time.Sleep(time.Second)
			a.says(t, verdicts.Delayed, "soon")
			a.etcd.Delete(election)
			time.Sleep(7 * time.Second)
			a.etcd.Put(election, "infra2")
			time.Sleep(12 * time.Second)
			a.says(t, verdicts.Allowed, "")
		}, "", "asking hook page (fleet) ... delayed: soon\n", 20 * time.Second},
		{"it refuses", "", func(t *testing.T, a *asker) {
			a.etcd.Put(election, "infra1")
			time.Sleep(3 * time.Second)
			a.says(t, verdicts.Refused, "not now")
		}, "hook page (fleet) refuses restart of c-2 (c): not now. Nothing was done.", "", 3 * time.Second},
		{"a server by another clock", "deadline: 5s", func(t *testing.T, a *asker) {
			a.etcd.Put(election, "infra1")
			time.Sleep(time.Second)
			key, v := a.record(t)
			v.Hooks[0].State, v.Hooks[0].Deadline = verdicts.Delayed, time.Now().Add(-time.Hour)
			a.etcd.Put(key, string(observed.Encode(v)))
		}, "(no server asked it)", "", 10 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := asking(t, tc.more)
				defer a.close()
				ended := make(chan error, 1)
				go func() { ended <- a.restart(t.Context()) }()
				synctest.Wait()
				began := time.Now()
				tc.world(t, a)
				err := <-ended
				if took := time.Since(began); took < tc.after || took > tc.after+2*tickEvery {
					t.Errorf("it took %s, want %s", took, tc.after)
				}
				if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
					t.Errorf("%v, want %q", err, tc.want)
				}
				if !strings.Contains(a.errs.String(), tc.told) {
					t.Errorf("told %q, want %q", a.errs, tc.told)
				}
				if _, v := a.record(t); !v.State.Final() {
					t.Errorf("left in etcd: %+v", v)
				}
			})
		})
	}
}

// A command that is interrupted takes its question back, so that nobody is asked any more.
func TestInterruptedQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := asking(t, "")
		defer a.close()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.restart(ctx) }()
		synctest.Wait()
		if key, _ := a.record(t); key == "" {
			t.Fatal("nothing was asked")
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if key, _ := a.record(t); key != "" {
			t.Errorf("%s is left", key)
		}
	})
}

// What a server says in the moment in which the command gives up is what counts.
func TestServerIsBelieved(t *testing.T) {
	a := asking(t, "on_timeout: allow")
	defer a.close()
	if _, err := a.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	doc, _, _ := a.etcd.Get(keys.Default.FleetHook("page"))
	ask, _ := verdicts.Asked(keys.Default, []kv.KV{{Key: keys.Default.FleetHook("page"), Value: []byte(doc)}}, verdicts.Restart)
	v := verdicts.New(keys.Default, verdicts.Verdict{Cluster: "c", Operation: verdicts.Restart}, ask, time.Now())
	q := &question{app: a.app, client: a.client, key: keys.Default.VerdictKey("c", v.ID), verdict: v}
	if err := q.write(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.says(t, verdicts.Delayed, "soon") // which changes nothing
	if err := q.decide(t.Context(), "x"); err != nil || q.verdict.State != verdicts.Allowed {
		t.Errorf("%v %+v", err, q.verdict)
	}
	q.verdict, q.rev, q.created = v, 0, 0
	a.etcd.Delete(q.key)
	if err := q.write(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.says(t, verdicts.Refused, "no")
	if err := q.decide(t.Context(), "x"); err != nil || q.conclude() == nil {
		t.Errorf("%v %+v", err, q.verdict)
	}
}

// While hooks are asked minutes may go by: what is destroyed is looked at again (R14).
func TestR14IsLookedAtAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		meanwhile func(a *asker)
		want      string
	}{
		"another leads":      {func(a *asker) { a.etcd.Put(keys.Default.Leader("c"), "c-2") }, "the leader of c changed after it was shown. Nothing was written."},
		"it leads":           {func(a *asker) { a.etcd.Put(keys.Default.Leader("c"), "c-3") }, "c-3 leads c"},
		"its agent is away":  {func(a *asker) { a.etcd.Delete(keys.Default.AliveKey("pg3")) }, "the agent of node pg3 is away"},
		"all is as it was":   {func(*asker) {}, ""},
		"and it is refused":  {func(a *asker) {}, "refuses remove of c-3 (c): no"},
		"and nobody answers": {nil, "no pgctrl server runs"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := asking(t, "")
				defer a.close()
				a.etcd.Put(keys.Default.FleetHook("page"), "before: [remove]\nwebhook: {url: http://localhost:1}\n")
				if tc.meanwhile != nil {
					a.etcd.Put(keys.Default.ElectionKey(), "infra1")
				}
				ended := make(chan error, 1)
				go func() { ended <- a.remove(t.Context(), "c", "c-3", "c-3", true, false, writeFlags{}) }()
				synctest.Wait()
				doc := keys.Default.ClusterDoc("c", "members/c-3")
				if v, _, _ := a.etcd.Get(doc); strings.Contains(v, "absent") {
					t.Error("removed before anybody has answered")
				}
				if tc.meanwhile != nil {
					tc.meanwhile(a)
					state := verdicts.Allowed
					if strings.Contains(tc.want, "refuses") {
						state = verdicts.Refused
					}
					a.says(t, state, "no")
				}
				err := <-ended
				if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
					t.Errorf("%v, want %q", err, tc.want)
				}
				if v, _, _ := a.etcd.Get(doc); strings.Contains(v, "absent") != (tc.want == "") {
					t.Errorf("the document is %q", v)
				}
			})
		})
	}
}
