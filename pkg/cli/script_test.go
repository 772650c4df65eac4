package cli

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/server"
	"github.com/pgctrl/pgctrl/pkg/store"
)

var update = flag.Bool("update", false, "write the scripts' golden outputs anew")

// TestScripts runs the behaviour scripts. Each has an etcd of its own, and, where it
// says so, the real server and hosts that pretend (hosts_test.go). The verbs:
//
//	pgctrl ARGS...          a command line; ! expects exit code 1
//	exits CODE ARGS...      a command line that ends with this exit code
//	server                  starts the controllers
//	halt                    stops them
//	replies NAME STATUS BODY      starts a webhook's receiver that answers so; its address is in $NAME
//	agents NODE...          starts pretending agents on pg1 (10.0.0.11), pg2 ...
//	lose NODE               ends a pretending agent
//	refuse NODE CONCERN MESSAGE   the node's program refuses every new plan
//	accept NODE CONCERN     it takes them again
//	pending MEMBER          a value waits there for a restart
//	stall NODE ACT          the node's agent leaves steps of the act unanswered, until accept
//	background ARGS...      begins a command line; finish CODE waits for its end
//	waitfor KEY             waits until a key exists, gone KEY until it does not
//	leased KEY VALUE        writes a key under a lease of 2 s that nobody renews
//	advance CLUSTER FILE    writes fields of JSON over those of the newest operation, as a server does
//	answer CLUSTER FILE     writes fields of JSON over those of the newest verdict, as a server does
//	clock TIME              what time it is for commands from now on, of RFC 3339
//	put KEY VALUE|@FILE     writes a key as etcdctl does, past every check
//	del KEY                 deletes a key, or a range that ends with /
//	receiver STATUS         has the receiver of webhooks at $RECEIVER answer so; deliver starts to deliver
//	big FILE                writes a file of 2 MB
//	eventually CODE ARGS... repeats a command until it ends with this exit code
//	shows REGEXP ARGS...    repeats a command until its standard output matches
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: *update,
		Setup:         setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"pgctrl": func(ts *testscript.TestScript, neg bool, args []string) {
				want := Done
				if neg {
					want = Failed
				}
				w := worldOf(ts)
				w.expect(ts, want, args)
			},
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				worldOf(ts).expect(ts, int(args[0][0]-'0'), args[1:])
			},
			"eventually": eventually,
			"shows":      shows,
			"server":     func(ts *testscript.TestScript, _ bool, _ []string) { worldOf(ts).serve(ts) },
			"halt":       func(ts *testscript.TestScript, _ bool, _ []string) { worldOf(ts).halt() },
			"replies":    replies,
			"answer":     answer,
			"agents":     func(ts *testscript.TestScript, _ bool, nodes []string) { worldOf(ts).agents(ts, nodes) },
			"lose":       func(ts *testscript.TestScript, _ bool, args []string) { worldOf(ts).hosts.lose(args[0]) },
			"refuse": func(ts *testscript.TestScript, _ bool, args []string) {
				worldOf(ts).hosts.refuse(args[0], args[1], args[2])
			},
			"accept":     func(ts *testscript.TestScript, _ bool, args []string) { worldOf(ts).hosts.accept(args[0], args[1]) },
			"pending":    func(ts *testscript.TestScript, _ bool, args []string) { worldOf(ts).hosts.pending(args[0]) },
			"stall":      func(ts *testscript.TestScript, _ bool, args []string) { worldOf(ts).hosts.stall(args[0], args[1]) },
			"background": func(ts *testscript.TestScript, _ bool, args []string) { worldOf(ts).begin(ts, args) },
			"finish":     func(ts *testscript.TestScript, _ bool, args []string) { worldOf(ts).finish(ts, int(args[0][0]-'0')) },
			"waitfor":    func(ts *testscript.TestScript, _ bool, args []string) { worldOf(ts).until(ts, args[0], true) },
			"gone":       func(ts *testscript.TestScript, _ bool, args []string) { worldOf(ts).until(ts, args[0], false) },
			"leased":     leased,
			"receiver":   receive,
			"deliver":    deliver,
			"advance":    advance,
			"room":       func(ts *testscript.TestScript, _ bool, args []string) { worldOf(ts).setRoom(ts, args) },
			"clock":      func(ts *testscript.TestScript, _ bool, args []string) { worldOf(ts).setClock(ts, args[0]) },
			"put":        put,
			"big": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), bytes.Repeat([]byte("# 2 MB\n"), 300_000), 0o600))
			},
			"del": del,
		},
	})
}

// world is one script's.
type world struct {
	t         testing.TB
	ctx       context.Context
	endpoints []string
	client    *store.Client
	hosts     *hosts
	// clock is added to the time by which commands go.
	clock time.Duration
	// room is what the agents at addresses say they have.
	room  map[string]uint64
	going chan ended
	// halt stops the server that was started last.
	halt func()
	// receiver gets webhooks, once there is one.
	receiver *receiver
}

// ended is what came of a command in the background.
type ended struct {
	code      int
	out, errs string
}

const worldKey = "world"

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey).(*world) }

func setup(env *testscript.Env) error {
	t := env.T().(testing.TB)
	etcd := etcdtest.Start(t)
	ctx, cancel := context.WithCancel(context.Background())
	w := &world{t: t, ctx: ctx, endpoints: etcd.Endpoints()}
	client, err := store.Connect(ctx, store.Options{Endpoints: w.endpoints})
	if err != nil {
		cancel()
		return err
	}
	w.client = client
	w.hosts = newHosts(ctx, client, keys.Default)
	env.Defer(func() {
		cancel()
		w.hosts.wait()
		_ = client.Close()
	})
	config := filepath.Join(env.WorkDir, "pgctrl.yaml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		return err
	}
	env.Setenv("PGCTRL_CONFIG", config)
	env.Setenv("PGCTRL_ENDPOINTS", strings.Join(w.endpoints, ","))
	env.Setenv("USER", "tester")
	env.Values[worldKey] = w
	return nil
}

// run is a command line with the script's environment and files.
func (w *world) run(ts *testscript.TestScript, args []string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	expanded := make([]string, len(args))
	for i, a := range args {
		expanded[i] = a
		// Commands run in this process, not in the script's folder.
		if strings.HasSuffix(a, ".yaml") {
			expanded[i] = ts.MkAbs(a)
		}
	}
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	var in bytes.Buffer
	if s, err := os.ReadFile(ts.MkAbs("stdin")); err == nil {
		in.Write(s)
	}
	code = Run(ctx, expanded, Streams{In: &in, Out: &stdout, Err: &stderr}, Deps{Getenv: ts.Getenv, Settings: pretendSettings, Room: w.askRoom, Now: w.now})
	return code, w.settle(ts, stdout.String()), w.settle(ts, stderr.String())
}

// pretendSettings are a few of PostgreSQL 15's parameters.
func pretendSettings(context.Context, string, int, string) ([]desired.Setting, error) {
	return []desired.Setting{
		{Name: "work_mem", Type: "integer", Unit: "kB", Min: "64", Max: "2147483647", Context: "user"},
		{Name: "max_connections", Type: "integer", Min: "1", Max: "262143", Context: "postmaster"},
		{Name: "jit", Type: "bool", Context: "user"},
		{Name: "wal_compression", Type: "enum", Enum: []string{"pglz", "lz4", "on", "off"}, Context: "superuser"},
		{Name: "random_page_cost", Type: "real", Min: "0", Max: "1.79769e+308", Context: "user"},
		{Name: "block_size", Type: "integer", Min: "8192", Max: "8192", Context: "internal"},
		{Name: "statement_timeout", Type: "integer", Unit: "ms", Min: "0", Max: "2147483647", Context: "user"},
		{Name: "log_min_duration_statement", Type: "integer", Unit: "ms", Min: "-1", Max: "2147483647", Context: "superuser"},
		{Name: "checkpoint_timeout", Type: "integer", Unit: "s", Min: "30", Max: "86400", Context: "sighup"},
		{Name: "shared_buffers", Type: "integer", Unit: "8kB", Min: "16", Max: "1073741823", Context: "postmaster"},
		{Name: "application_name", Type: "string", Context: "user"},
	}, nil
}

// settle makes what differs from run to run the same.
func (w *world) settle(ts *testscript.TestScript, s string) string {
	for _, r := range []struct{ re, with string }{
		{`revision \d+`, "revision N"},
		{`desired \d+`, "desired N"},
		{`(in|after) \d+ ms`, "$1 N ms"},
		{`(?m)^ *\d+\.\d s  `, "  N s  "},
		{`(restart|reinit|remove|backup|verify)-m[a-z0-9]{7}\b`, "$1-ID"},
		{`tester@[A-Za-z0-9.-]+`, "tester@HOST"},
		{`since 20\d\d-[0-9T:-]+Z`, "since TIME"},
		{regexp.QuoteMeta(ts.MkAbs(".")), "WORK"},
		{regexp.QuoteMeta(strings.Join(w.endpoints, ",")), "http://etcd:2379"},
		{`http://127.0.0.1:\d{5}`, "http://receiver"},
	} {
		s = regexp.MustCompile(r.re).ReplaceAllString(s, r.with)
	}
	return s
}

func (w *world) expect(ts *testscript.TestScript, want int, args []string) {
	code, out, errs := w.run(ts, args)
	_, _ = ts.Stdout().Write([]byte(out))
	_, _ = ts.Stderr().Write([]byte(errs))
	if code != want {
		ts.Fatalf("pgctrl %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out, errs)
	}
}

func eventually(ts *testscript.TestScript, _ bool, args []string) {
	w, want := worldOf(ts), int(args[0][0]-'0')
	ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		code, out, errs := w.run(ts, args[1:])
		if code == want {
			_, _ = ts.Stdout().Write([]byte(out))
			_, _ = ts.Stderr().Write([]byte(errs))
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("pgctrl %s: exit code %d after 20 s, want %d\n%s%s", strings.Join(args[1:], " "), code, want, out, errs)
		case <-tick.C:
		}
	}
}

func put(ts *testscript.TestScript, _ bool, args []string) {
	value := []byte(args[1])
	if name, ok := strings.CutPrefix(args[1], "@"); ok {
		value = []byte(ts.ReadFile(name))
	}
	w := worldOf(ts)
	_, err := w.client.Commit(w.ctx, nil, []store.Op{store.Put(args[0], value)})
	ts.Check(err)
}

func del(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	es, _, err := w.client.List(w.ctx, args[0])
	ts.Check(err)
	var ops []store.Op
	for _, e := range es {
		ops = append(ops, store.Delete(e.Key))
	}
	_, err = w.client.Commit(w.ctx, nil, ops)
	ts.Check(err)
}

// serve runs the real server over the script's etcd, until the script ends.
func (w *world) serve(ts *testscript.TestScript) {
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	go func() {
		done <- server.Run(ctx, server.Options{
			Endpoints: w.endpoints, Listen: "127.0.0.1:0", ID: "infra1", Log: zap.NewNop(),
		})
	}()
	w.halt = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("server: %v", err)
		}
	})
	ts.Defer(w.halt)
}

func (w *world) agents(ts *testscript.TestScript, nodes []string) {
	for _, n := range nodes {
		if len(n) < 3 {
			ts.Fatalf("agents: expected names such as pg1, found %q", n)
		}
		ts.Check(w.hosts.add(n, "10.0.0.1"+n[2:]))
	}
}
