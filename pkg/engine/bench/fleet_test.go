package bench

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgctrl/pgctrl/internal/etcdtest"
	"github.com/pgctrl/pgctrl/pkg/controllers/all"
	"github.com/pgctrl/pgctrl/pkg/engine"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/store"
)

var clusters = flag.Int("clusters", 5000, "clusters of the fleet benchmarks")

// child is the environment variable that makes the test binary a server: its own
// process, so that its memory is the server's and not etcd's.
const child = "PGCTRL_BENCH_ETCD"

func TestMain(m *testing.M) {
	if endpoint := os.Getenv(child); endpoint != "" {
		serve(endpoint)
		return
	}
	os.Exit(m.Run())
}

// serve runs the engine with all controllers until standard input ends, and says
// what it does on standard output.
func serve(endpoint string) {
	if path := os.Getenv("PGCTRL_BENCH_PROFILE"); path != "" {
		f, err := os.Create(path)
		if err != nil {
			panic(err)
		}
		_ = pprof.StartCPUProfile(f)
		defer pprof.StopCPUProfile()
	}
	started := time.Now()
	say := func(what string) { fmt.Printf("%s %d\n", what, time.Since(started).Microseconds()) }
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c, err := store.Connect(ctx, store.Options{Endpoints: []string{endpoint}})
	if err != nil {
		panic(err)
	}
	r := prometheus.NewRegistry()
	e, err := engine.New(engine.Options{Client: c, Controllers: all.All(), Concerned: all.Concerned, ID: "bench", Registry: r})
	if err != nil {
		panic(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = e.Run(ctx) }()
	defer func() { cancel(); <-done }() // gives leadership back
	for e.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	say("ready")
	want := float64(3 * len(e.Clusters()))
	for steps(r) < want {
		time.Sleep(time.Millisecond)
	}
	say("compared")
	fmt.Printf("written %d\n", int(total(r, "pgctrl_engine_writes_total")))
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	fmt.Printf("heap %d\n", m.HeapAlloc>>10)
	fmt.Printf("rss %d\n", rss())
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

// rss is the process's resident memory at its highest, in KiB.
func rss() (kib int64) {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			_, _ = fmt.Sscan(rest, &kib)
		}
	}
	return kib
}

func steps(r *prometheus.Registry) float64 { return total(r, "pgctrl_engine_reconcile_total") }

func total(r *prometheus.Registry, name string) (sum float64) {
	families, _ := r.Gather()
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// server starts a server of its own process and returns what it says.
func server(b testing.TB, etcd *etcdtest.Server, waitFor string) (said map[string]int64, stop func()) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), child+"="+etcd.Endpoints()[0])
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(b, err)
	out, err := cmd.StdoutPipe()
	must(b, err)
	must(b, cmd.Start())
	said = map[string]int64{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var what string
		var n int64
		_, _ = fmt.Sscan(lines.Text(), &what, &n)
		said[what] = n
		if what == waitFor {
			break
		}
	}
	return said, func() { _ = in.Close(); _ = cmd.Wait() }
}

// fleet writes n clusters of three members, with their nodes, agents, and what
// Patroni would have written. Each cluster has three nodes to itself.
func fleet(b testing.TB, c *clientv3.Client, n int) {
	l := keys.Default
	put := func(ops []clientv3.Op) {
		for batch := range slices.Chunk(ops, 120) {
			_, err := c.Txn(b.Context()).Then(batch...).Commit()
			must(b, err)
		}
	}
	ops := []clientv3.Op{clientv3.OpPut(l.StoreKey(), string(observed.Encode(observed.Store{
		Incarnation: "bench", Endpoints: []string{"http://10.0.0.1:2379"},
	})))}
	for i := range n {
		name := fmt.Sprintf("pg-%05d", i)
		for j := range 3 {
			node, member := fmt.Sprintf("n%05d", 3*i+j), fmt.Sprintf("%s-%d", name, j+1)
			address := fmt.Sprintf("10.%d.%d.%d", 10+j, i/250, 1+i%250)
			ops = append(ops,
				clientv3.OpPut(l.Node(node), "address: "+address+"\n"),
				clientv3.OpPut(l.AliveKey(node), string(observed.Encode(observed.Alive{
					Schema: 1, Node: node, Address: address, MachineID: node, PostgreSQL: []int{15},
					Programs: map[string]string{"patroni": "3.0.2", "haproxy": "2.6.12"},
				}))),
				clientv3.OpPut(l.ClusterDoc(name, "members/"+member), "node: "+node+"\n"),
				clientv3.OpPut(l.Members(name)+member, fmt.Sprintf(
					`{"conn_url":"postgres://%[1]s:5432/postgres","api_url":"http://%[1]s:8008/patroni","state":"running","role":"replica","version":"3.0.2","xlog_location":1,"timeline":1}`, address)),
			)
		}
		ops = append(ops,
			clientv3.OpPut(l.ClusterDoc(name, "postgres"), "parameters:\n  work_mem: 16MB\n"),
			clientv3.OpPut(l.Scope(name)+"initialize", "7"),
			clientv3.OpPut(l.Leader(name), name+"-1"))
	}
	put(ops)
}

// planned waits until every member's node has both its plans.
func planned(b testing.TB, c *clientv3.Client, n int) {
	for {
		r, err := c.Get(b.Context(), keys.Default.Prefix(keys.Plan), clientv3.WithPrefix(), clientv3.WithCountOnly())
		must(b, err)
		if r.Count >= int64(6*n) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// BenchmarkFleet is a fleet of clusters of three members: planned from nothing,
// then found in order by a server that starts anew.
func BenchmarkFleet(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		etcd := etcdtest.Start(b)
		c := etcd.Client(b)
		fleet(b, c, *clusters)
		b.StartTimer()
		began := time.Now()
		_, stop := server(b, etcd, "ready")
		planned(b, c, *clusters)
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "plan-all-ms")
		time.Sleep(2 * time.Second) // the statuses
		stop()
		before := revision(b, c)
		said, stop := server(b, etcd, "rss")
		stop()
		b.ReportMetric(float64(said["ready"])/1000, "ready-ms")
		b.ReportMetric(float64(said["compared"])/1000, "compared-ms")
		b.ReportMetric(float64(said["rss"])/1024, "MiB")
		b.ReportMetric(float64(said["heap"])/1024, "heap-MiB")
		b.ReportMetric(float64(said["written"]), "written")
		b.ReportMetric(float64(revision(b, c)-before), "revisions")
	}
}

func revision(b testing.TB, c *clientv3.Client) int64 {
	r, err := c.Get(b.Context(), keys.Default.StoreKey())
	must(b, err)
	return r.Header.Revision
}
