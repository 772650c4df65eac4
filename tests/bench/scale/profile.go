package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"syscall"

	"github.com/pgctrl/pgctrl/pkg/server"
)

// What a profiled server is told.
const (
	childEtcd   = "PGCTRL_SCALE_ETCD"
	childListen = "PGCTRL_SCALE_LISTEN"
	childFiles  = "PGCTRL_SCALE_PROFILE"
)

// profiled is this program as the server.
func (r *rig) profiled() (*exec.Cmd, error) {
	if err := os.MkdirAll(r.o.profile, 0o755); err != nil {
		return nil, fmt.Errorf("make the profiles' folder: %w", err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEtcd+"="+r.endpoint, childListen+"="+r.listen,
		childFiles+"="+filepath.Join(r.o.profile, fmt.Sprintf("server%d", r.started)))
	return cmd, nil
}

// serve is `pgctrl server` until SIGTERM. SIGUSR1 ends the CPU profile and writes the
// heap's, so that they are of one stage.
func serve() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	base := os.Getenv(childFiles)
	cpu, err := os.Create(base + ".cpu")
	if err != nil {
		panic(err)
	}
	defer cpu.Close()
	runtime.MemProfileRate = 64 << 10
	_ = pprof.StartCPUProfile(cpu)
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, syscall.SIGUSR1)
	go func() {
		<-taken
		pprof.StopCPUProfile()
		for _, name := range []string{"heap", "allocs"} {
			f, err := os.Create(base + "." + name)
			if err != nil {
				panic(err)
			}
			_ = pprof.Lookup(name).WriteTo(f, 0)
			_ = f.Close()
		}
	}()
	err = server.Run(ctx, server.Options{Endpoints: []string{os.Getenv(childEtcd)}, Listen: os.Getenv(childListen), ID: "scale"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// stage ends the profiles of the server; nothing without -profile.
func (r *rig) stage() {
	if r.o.profile != "" {
		_ = r.server.Process.Signal(syscall.SIGUSR1)
	}
}
