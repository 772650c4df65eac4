// Command bench measures on real hosts what the README claims: how long a client
// waits for a write after a planned move, beside HAProxy with checks alone and
// beside Patroni's own floor; when the virtual address is there, beside
// vip-manager's, in the same moves; and how many connections reach a replica across
// reloads and cold starts, beside a hand-written HAProxy.
//
// vip-manager is Debian's package, or the program that VIP_MANAGER names.
//
// It prints every sample's summary and writes all of them to tests/results.
// Times come from one shared machine; the ratios between columns are what holds.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

const cluster = "pg-test"

type options struct {
	moves, reloads, starts int
	interval               time.Duration
	idle                   time.Duration
	profiles               string
	keep                   bool
	results                string
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == earCommand {
		if err := runEar(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench ear:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.IntVar(&o.moves, "moves", 20, "planned switchovers")
	flag.IntVar(&o.reloads, "reloads", 20, "HAProxy reloads under writes")
	flag.IntVar(&o.starts, "starts", 5, "HAProxy cold starts under writes")
	flag.DurationVar(&o.interval, "interval", 10*time.Millisecond, "time between two connection attempts of a sampler")
	flag.DurationVar(&o.idle, "idle", time.Minute, "how long what an idle cluster costs is measured")
	flag.StringVar(&o.profiles, "profiles", "", "folder for CPU and heap profiles of the idle agents; empty: none are taken")
	flag.BoolVar(&o.keep, "keep", false, "leave the hosts running")
	flag.StringVar(&o.results, "results", "tests/results/bench.json", "where the samples go")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

func run(ctx context.Context, o options) error {
	l, err := lab.Up(ctx, lab.Options{Log: os.Stderr})
	if err != nil {
		return err
	}
	defer l.Close()
	if !o.keep {
		defer func() {
			say("removing the hosts")
			if err := l.Down(context.WithoutCancel(ctx)); err != nil {
				say("remove the hosts: %v", err)
			}
		}()
	}
	f, err := fleet.Deploy(ctx, l, "bin", say)
	if err != nil {
		return err
	}
	defer f.Close()
	f.VIP = l.Address(9) + "/24"
	if err := f.Create(ctx, cluster); err != nil {
		return err
	}
	report := report{Started: time.Now()}
	if o.idle > 0 {
		if report.Idle, err = measureIdle(ctx, f, o); err != nil {
			return err
		}
	}
	if o.moves+o.reloads+o.starts > 0 {
		if err := measureBesideRival(ctx, f, o, &report); err != nil {
			return err
		}
	}
	report.print(os.Stdout)
	return save(o.results, report)
}

// measureBesideRival is all that is compared with a HAProxy as people set it up.
func measureBesideRival(ctx context.Context, f *fleet.Fleet, o options, report *report) error {
	rival, err := startRival(ctx, f)
	if err != nil {
		return err
	}
	defer rival.stop(context.WithoutCancel(ctx))
	manager, err := startVIPManager(ctx, f)
	if err != nil {
		return err
	}
	defer manager.stop(context.WithoutCancel(ctx))
	vips, err := watchAddresses(f, f.Lab.Address(9), manager.address)
	if err != nil {
		return err
	}
	defer vips.stop()

	report.VIPManager = manager.version
	if report.Moves, err = measureMoves(ctx, f, rival, vips, o); err != nil {
		return err
	}
	if report.Holders, err = vips.judge(report.Moves); err != nil {
		return err
	}
	manager.stop(ctx)
	report.Reloads, err = measureReloads(ctx, f, rival, o)
	return err
}

func save(path string, r report) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		return fmt.Errorf("save results: %w", err)
	}
	say("samples are in %s", path)
	return nil
}
