package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// recipe is how a program that Debian lacks is made: built from source by a Go module that is not ours, so that its dependencies are none of
// ours either. Everything in it, the module's files and the compiler are part of the cache key.
type recipe struct {
	module   string   // folder in the repository; empty: the packages name their version, and their own go.mod says the rest
	packages []string // to build; a program is named like its folder
	tags     string
	ldflags  string
	cgo      bool
	debian   []string // packages that building needs beside Go
	takes    string   // for people who wait
}

// The names of what is built.
const (
	Loki  = "loki"  // loki and promtail
	MinIO = "minio" // an S3 server
)

// SecondNames are all that the second stage needs.
func SecondNames() []string { return []string{Loki, MinIO} }

// recipes of the second stage, by the name of the folder they are cached in. promtail reads the journal through libsystemd, so it is linked
// against the machine's C library, as the packages of its makers are: hosts of the same Debian release or of a later one run it.
var recipes = map[string]recipe{
	Loki: {
		module:   "tests/second/loki",
		packages: []string{"github.com/grafana/loki/v3/cmd/loki", "github.com/grafana/loki/v3/clients/cmd/promtail"},
		tags:     "netgo,osusergo,promtail_journal_enabled",
		ldflags:  "-s -w -X github.com/grafana/loki/v3/pkg/util/build.Version=3.6.3",
		cgo:      true,
		debian:   []string{"gcc", "libc6-dev", "libsystemd-dev"},
		takes:    "about 10 minutes",
	},
	MinIO: { // its makers publish no binaries any more
		packages: []string{"github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"},
		ldflags:  "-s -w",
		takes:    "about 4 minutes",
	},
}

// Second is the folder with the programs of a recipe, built first if the cache lacks them. Calls side by side build once: the others wait and
// say so.
func Second(ctx context.Context, name string, log *Log) (string, error) {
	r, known := recipes[name]
	if !known {
		return "", fmt.Errorf("build %s: unknown, there is %s", name, strings.Join(SecondNames(), ", "))
	}
	folder := filepath.Join(CacheDir(), "second")
	lock, err := acquire(ctx, filepath.Join(folder, name+".lock"), log)
	if err != nil {
		return "", fmt.Errorf("lock %s: %w", folder, err)
	}
	defer lock.Close()
	root, version, err := checkout(ctx)
	if err != nil {
		return "", err
	}
	key, err := r.key(root, version)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	dir := filepath.Join(folder, name+"-"+key)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	started := time.Now()
	log.Say("building %s from source (%s, once)", strings.Join(r.programs(), " and "), r.takes)
	if err := r.build(ctx, root, dir, log); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	log.Say("built in %.0f s", time.Since(started).Seconds())
	for _, old := range must(filepath.Glob(filepath.Join(folder, name+"-????????????"))) {
		if old != dir {
			os.RemoveAll(old) // a program that runs keeps its file
		}
	}
	return dir, nil
}

// checkout is the repository's folder and the Go version that builds it.
func checkout(ctx context.Context) (root, version string, err error) {
	out, err := run(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return "", "", fmt.Errorf("find the repository (run this in it): %w", err)
	}
	version, err = run(ctx, "", "go", "env", "GOVERSION")
	return strings.TrimSpace(out), strings.TrimSpace(version), err
}

func (r recipe) key(root, version string) (string, error) {
	parts := append([]string{version, r.tags, r.ldflags}, r.packages...)
	for _, file := range []string{"go.mod", "go.sum"} {
		if r.module == "" {
			break
		}
		content, err := os.ReadFile(filepath.Join(root, r.module, file))
		if err != nil {
			return "", err
		}
		parts = append(parts, string(content))
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:])[:12], nil
}

func (r recipe) programs() (names []string) {
	for _, p := range r.packages {
		path, _, _ := strings.Cut(p, "@")
		names = append(names, filepath.Base(path))
	}
	return names
}

// build makes the programs beside their place and renames the folder, so that a half of them is never taken for all.
func (r recipe) build(ctx context.Context, root, dir string, log *Log) error {
	if err := Install(ctx, log, r.debian...); err != nil {
		return err
	}
	for _, stale := range must(filepath.Glob(filepath.Join(filepath.Dir(dir), ".build-*"))) {
		os.RemoveAll(stale) // we hold the lock, so whoever made it was killed
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), ".build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	cmd := exec.CommandContext(ctx, "nice", append([]string{"-n", "15", "go"}, r.goArgs(temporary)...)...)
	cmd.Dir = filepath.Join(root, r.module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false", "GOWORK=off", "GOBIN="+temporary)
	if r.cgo {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	log.Say("  %s", strings.Join(cmd.Args, " "))
	stop := every(ctx, time.Minute, func(minutes int) { log.Say("  still building after %d min", minutes) })
	defer stop()
	if _, err := output(cmd); err != nil {
		return err
	}
	if err := os.Chmod(temporary, 0o755); err != nil {
		return err
	}
	return os.Rename(temporary, dir)
}

// goArgs tell Go to put the programs into a folder, which is also GOBIN.
func (r recipe) goArgs(into string) (args []string) {
	if r.module == "" {
		args = []string{"install"}
	} else {
		args = []string{"build", "-o", into + "/"}
	}
	args = append(args, "-trimpath", "-tags", r.tags, "-ldflags", r.ldflags)
	return append(args, r.packages...)
}

// every calls f now and then until the stop it returns is called.
func every(ctx context.Context, d time.Duration, f func(times int)) (stop func()) {
	ctx, stop = context.WithCancel(ctx)
	go func() {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				f(n)
			}
		}
	}()
	return stop
}
