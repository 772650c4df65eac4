// Command scale measures `pgctrl server` on a large fleet: real processes, a real
// etcd that waits for the disk, and the documents, presences, Patroni's keys and
// agents' reports of thousands of clusters of three members. It needs no hosts.
//
//	make build && go run ./tests/bench/scale -clusters 5000
//
// Three things are measured. From nothing: how long until every node has its plans.
// Restarted: how long until the server is ready and until it has compared everything
// with what is stored, what memory that takes, and that it writes nothing. A change:
// from the put of a document until a watch shows the plan made of it, beside the
// least that could do the same on the same etcd at the same time.
//
// Times and memory are one machine's; what holds elsewhere are the ratios. With
// -profile the server is this program itself, which writes profiles into that folder.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

type options struct {
	clusters, restarts, rounds, changes int
	bin, profile, data                  string
}

func main() {
	if os.Getenv(childEtcd) != "" {
		serve()
		return
	}
	var o options
	flag.IntVar(&o.clusters, "clusters", 5000, "clusters of three members")
	flag.IntVar(&o.restarts, "restarts", 3, "restarts of the server")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of changes; each makes a p50 and a p99 of its own")
	flag.IntVar(&o.changes, "changes", 100, "changes of a round")
	flag.StringVar(&o.bin, "bin", "bin/pgctrl", "the program that is measured")
	flag.StringVar(&o.profile, "profile", "", "folder for CPU and heap profiles of the server")
	flag.StringVar(&o.data, "data", "", "folder that keeps etcd's data of the planned fleet; a further run with the same program begins there")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

func run(ctx context.Context, o options) error {
	if need := o.rounds * o.changes * len(documents); need > o.clusters {
		return fmt.Errorf("every change needs a cluster that nothing was changed of: %d are too few for %d", o.clusters, need)
	}
	r := rig{o: o}
	defer r.close()
	t := table{clusters: o.clusters}
	begun, err := r.startEtcd(ctx)
	if err != nil {
		return err
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{r.endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return fmt.Errorf("connect to etcd: %w", err)
	}
	defer c.Close()
	f := fleet{c: c, n: o.clusters}
	if !begun {
		if t.nothing, err = fromNothing(ctx, &r, &f); err != nil {
			return err
		}
		if err := r.keep(ctx); err != nil {
			return err
		}
	}
	if t.size, err = f.sizes(ctx); err != nil {
		return err
	}
	for i := range o.restarts {
		say("restart %d of %d", i+1, o.restarts)
		s, err := restart(ctx, &r, &f)
		if err != nil {
			return err
		}
		t.restarts = append(t.restarts, s)
		if i < o.restarts-1 {
			if err := r.stopServer(); err != nil {
				return err
			}
		}
	}
	if o.restarts > 0 {
		say("%d rounds of %d changes", o.rounds, o.changes)
		if t.changes, err = changes(ctx, c, o); err != nil {
			return err
		}
		if t.after, err = r.memory(); err != nil {
			return err
		}
	}
	t.print(os.Stdout)
	return r.stopServer()
}
