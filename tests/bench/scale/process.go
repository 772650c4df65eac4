package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// rig is the processes of one run.
type rig struct {
	o                options
	folder           string
	ip               string
	endpoint, listen string
	etcd, server     *exec.Cmd
	started          int
}

// startEtcd runs `pgctrl etcd` on a loopback address of its own: its ports are etcd's
// usual ones, which may be taken on others. begun: an earlier run's fleet is in it.
func (r *rig) startEtcd(ctx context.Context) (begun bool, err error) {
	if r.folder, err = os.MkdirTemp("", "pgctrl-scale-"); err != nil {
		return false, fmt.Errorf("make a folder for etcd: %w", err)
	}
	// Plans name etcd's address, so a kept fleet has to find it at the same one.
	n := crc32.ChecksumIEEE([]byte(cmp.Or(r.o.data, r.folder)))
	r.ip = fmt.Sprintf("127.%d.%d.%d", 64+n>>16%128, n>>8%256, 1+n%254)
	r.endpoint = "http://" + r.ip + ":2379"
	if r.o.data != "" {
		err := os.CopyFS(r.etcdData(), os.DirFS(r.o.data))
		if begun = err == nil; err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, fmt.Errorf("copy etcd's data: %w", err)
		}
	}
	return begun, r.runEtcd(ctx)
}

func (r *rig) etcdData() string { return filepath.Join(r.folder, "etcd") }

func (r *rig) runEtcd(ctx context.Context) error {
	// A member's address is in its data, and here it is another one in every run.
	r.etcd = exec.Command(r.o.bin, "etcd", "run", "--name", "scale", "--data-dir", r.etcdData(), "--advertise", r.ip, "--listen", r.ip)
	if err := r.start(r.etcd, "etcd.log"); err != nil {
		return err
	}
	return poll(ctx, often, time.Minute, "etcd", func() bool {
		code, _ := get(r.endpoint + "/health")
		return code == http.StatusOK
	})
}

// keep copies etcd's data to where a further run finds it.
func (r *rig) keep(ctx context.Context) error {
	if r.o.data == "" {
		return nil
	}
	if err := stop(r.etcd, "etcd"); err != nil {
		return err
	}
	if err := os.CopyFS(r.o.data, os.DirFS(r.etcdData())); err != nil {
		return fmt.Errorf("keep etcd's data: %w", err)
	}
	return r.runEtcd(ctx)
}

func (r *rig) start(cmd *exec.Cmd, log string) error {
	f, err := os.Create(filepath.Join(r.folder, log))
	if err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	defer f.Close()
	cmd.Stderr = f
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return nil
}

// startServer starts a server; it is not ready when it returns.
func (r *rig) startServer() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find a free port: %w", err)
	}
	r.listen = l.Addr().String()
	_ = l.Close()
	r.started++
	r.server = exec.Command(r.o.bin, "server", "run", "--endpoints", r.endpoint, "--listen", r.listen, "--id", "scale")
	if r.o.profile != "" {
		if r.server, err = r.profiled(); err != nil {
			return err
		}
	}
	return r.start(r.server, fmt.Sprintf("server%d.log", r.started))
}

func (r *rig) stopServer() error {
	if r.server == nil {
		return nil
	}
	defer func() { r.server = nil }()
	return stop(r.server, "the server")
}

func stop(cmd *exec.Cmd, what string) error {
	_ = cmd.Process.Signal(syscall.SIGTERM) // Wait says when it is gone already
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("stop %s: %w", what, err)
	}
	return nil
}

// close ends what runs and removes what was written.
func (r *rig) close() {
	for _, cmd := range []*exec.Cmd{r.server, r.etcd} {
		if cmd != nil && cmd.Process != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	if r.folder != "" {
		_ = os.RemoveAll(r.folder)
	}
}

// usage is what the server has taken so far.
type usage struct {
	// resident and peak are its memory now and at its highest.
	resident, peak int64 // bytes
	cpu            time.Duration
}

// memory reads what the kernel says of the server.
func (r *rig) memory() (usage, error) {
	var u usage
	proc := fmt.Sprintf("/proc/%d/", r.server.Process.Pid)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		return u, fmt.Errorf("read the server's memory: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		name, rest, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			u.resident = kib << 10
		case "VmHWM":
			u.peak = kib << 10
		}
	}
	stat, err := os.ReadFile(proc + "stat")
	if err != nil {
		return u, fmt.Errorf("read the server's CPU time: %w", err)
	}
	// The fields after the name in parentheses; user and system time are the 14th and
	// 15th of all, in hundredths of a second.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, f := range fields[11:13] {
		ticks, _ := strconv.ParseInt(f, 10, 64)
		u.cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	return u, nil
}

// metric is the sum of one of the server's metrics over its labels.
func (r *rig) metric(name string) float64 {
	code, body := get("http://" + r.listen + "/metrics")
	if code != http.StatusOK {
		return -1
	}
	sum := 0.0
	for lines := bufio.NewScanner(strings.NewReader(body)); lines.Scan(); {
		series, value, _ := strings.Cut(lines.Text(), " ")
		if series == name || strings.HasPrefix(series, name+"{") {
			x, _ := strconv.ParseFloat(value, 64)
			sum += x
		}
	}
	return sum
}

func get(url string) (int, string) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// How often is asked: for what costs the server nothing, and for its metrics, which
// take it a millisecond.
const (
	often  = 5 * time.Millisecond
	seldom = 100 * time.Millisecond
)

var errTimeout = errors.New("waited in vain")

// poll asks again and again until the answer is yes.
func poll(ctx context.Context, every, most time.Duration, what string, yes func() bool) error {
	deadline := time.Now().Add(most)
	for !yes() {
		if time.Now().After(deadline) {
			return fmt.Errorf("%w for %s", errTimeout, what)
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
