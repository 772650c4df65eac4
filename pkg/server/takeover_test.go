package server

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// A server of a test is the test's own binary, so that it is a process of its own that
// can be killed and stopped.
const (
	childID   = "PGCTRL_TEST_SERVER_ID"
	childEtcd = "PGCTRL_TEST_SERVER_ETCD"
)

func TestMain(m *testing.M) {
	id := os.Getenv(childID)
	if id == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := Run(ctx, Options{
		Endpoints: []string{os.Getenv(childEtcd)}, Listen: "127.0.0.1:0", ID: id,
		Controllers: []controllers.Controller{signer{id}},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, id, err)
		os.Exit(1)
	}
}

// signer plans what a cluster's member says, signed.
type signer struct{ id string }

func (signer) Name() string { return "haproxy" }

func (signer) Inputs() []controllers.Access {
	return []controllers.Access{{Family: keys.Desired, Part: "members"}}
}

func (signer) Outputs() []controllers.Access {
	return []controllers.Access{{Family: keys.Plan, Part: "haproxy"}}
}

func (s signer) Plan(in controllers.Input) (controllers.Result, error) {
	for _, e := range in.Snapshot.Range(in.Layout.ClusterDocs(in.Cluster) + "members/") {
		return controllers.Result{Outputs: []controllers.Output{
			{Key: in.Layout.PlanKey("n1", in.Cluster, "haproxy"), Value: []byte(string(e.Value) + " by " + s.id)},
		}}, nil
	}
	return controllers.Result{}, nil
}

// child starts a server process.
func child(t *testing.T, etcd *etcdtest.Server, id string) *os.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childID+"="+id, childEtcd+"="+etcd.Endpoints()[0])
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process
}

// takeoverBound is the stage between a leader's death and the next one's first write:
// the lease of 5 s, the half second in which etcd looks for expired ones, and the write.
const takeoverBound = 6 * time.Second

// TestTakeover: the leader is killed, or stopped, while documents change 100 times a
// second. The other process writes within takeoverBound, and nothing is written by the
// old one after the new one's first write, not even when it is let go on (R7).
func TestTakeover(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
	}{{"kill -9", syscall.SIGKILL}, {"SIGSTOP", syscall.SIGSTOP}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			etcd := etcdtest.Start(t)
			client := etcd.Client(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			l := keys.Default
			plans := client.Watch(ctx, l.Prefix(keys.Plan), clientv3.WithPrefix())
			go func() {
				for i := 0; ctx.Err() == nil; i++ {
					name := fmt.Sprintf("pg-%d", i%20)
					_, _ = client.Put(ctx, l.ClusterDoc(name, "members/"+name+"-1"), fmt.Sprint("change ", i))
					time.Sleep(10 * time.Millisecond)
				}
			}()
			// by says who wrote the next plan, in the order of revisions.
			var heard []string
			by := func() string {
				for len(heard) == 0 {
					r, ok := <-plans
					if !ok {
						t.Fatal("nothing was written for a minute")
					}
					for _, ev := range r.Events {
						if _, id, ok := strings.Cut(string(ev.Kv.Value), " by "); ok {
							heard = append(heard, id)
						}
					}
				}
				id := heard[0]
				heard = heard[1:]
				return id
			}
			first := child(t, etcd, "first")
			if id := by(); id != "first" {
				t.Fatalf("%s planned", id)
			}
			child(t, etcd, "second")
			standsBy(t, client, "second")
			if err := first.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			hit := time.Now()
			for by() != "second" {
			}
			took := time.Since(hit)
			t.Logf("%s: the other server's first plan after %s", c.name, took.Round(time.Millisecond))
			if took > takeoverBound {
				t.Errorf("takeover took %s, at most %s is promised", took, takeoverBound)
			}
			_ = first.Signal(syscall.SIGCONT)
			for until := time.Now().Add(3 * time.Second); time.Now().Before(until); {
				if id := by(); id != "second" {
					t.Fatalf("%s wrote after the other server's first write", id)
				}
			}
		})
	}
}

// standsBy waits until a server's view of etcd is warm.
func standsBy(t *testing.T, c *clientv3.Client, id string) {
	t.Helper()
	for range 1000 {
		r, err := c.Get(t.Context(), keys.Default.ServerKey(id))
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Kvs) == 1 && strings.Contains(string(r.Kvs[0].Value), `"warm":true`) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s does not stand by", id)
}
