package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Image is a recipe of a base image. Everything in it, and the hooks below, is part of the cache key.
type Image struct {
	Suite    string   // Debian code name
	Packages []string // beyond basePackages
}

// Images that can be built, by name. What a test was not run on is not claimed.
var Images = map[string]Image{
	"bookworm": {Suite: "bookworm", Packages: []string{"postgresql-15"}},
	"trixie":   {Suite: "trixie", Packages: []string{"postgresql-17"}},
}

// basePackages are what a pgctrl node or infra host has, as the distribution ships them. python3-etcd is what Patroni speaks etcd with,
// v3 too. No udev: nspawn machines have no devices.
var basePackages = strings.Fields(`
	systemd systemd-sysv dbus libpam-systemd
	iproute2 iputils-ping iputils-arping nftables procps curl socat less ca-certificates
	patroni python3-etcd etcd-client haproxy pgbouncer pgbackrest dnsmasq
	prometheus prometheus-postgres-exporter prometheus-pgbouncer-exporter`)

// beforePackages runs when the essential packages are in: Debian's installer sets a locale, and without one `main` would be SQL_ASCII.
const beforePackages = `set -e
echo LANG=C.UTF-8 >"$1/etc/default/locale"`

// afterPackages masks what is meaningless in a container. The services of the packages stay enabled and Debian's `main` database cluster
// stays: taking over a host as the distribution left it is a thing that pgctrl is tested on.
const afterPackages = `set -e
for unit in getty@.service serial-getty@.service console-getty.service container-getty@.service getty-static.service \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
	systemd-pstore.service systemd-networkd.service systemd-networkd.socket systemd-firstboot.service; do
	ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
rm -f "$1/etc/hostname" "$1/etc/hosts" "$1/etc/resolv.conf" "$1/etc/machine-id"
rm -rf "$1/var/lib/apt/lists/"* "$1/var/cache/apt/"*.bin`

// imageOptions leave out manuals and translations, half of what is not program.
var imageOptions = []string{
	"--mode=root", "--variant=minbase",
	"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
}

func imageNames() []string { return slices.Sorted(maps.Keys(Images)) }

// key changes with anything that changes what is built, except the mirror and the versions it has: those are taken when it is built.
func (i Image) key() string {
	parts := slices.Concat([]string{i.Suite, beforePackages, afterPackages}, imageOptions, basePackages, i.Packages)
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:])[:12]
}

// arguments of mmdebstrap to build the image into dir; it reads its sources from standard input.
func (i Image) arguments(dir string) []string {
	return slices.Concat(imageOptions, []string{
		"--essential-hook=" + beforePackages,
		"--customize-hook=" + afterPackages,
		"--include=" + strings.Join(slices.Concat(basePackages, i.Packages), ","),
		i.Suite, dir, "-",
	})
}

// BuildImage returns the folder of the named image and builds it first if the cache lacks it (about a minute, 0.9 GB). With rebuild it
// builds a new one for newer packages; labs that run keep the old files open until they are brought down, so it refuses while any exists.
func BuildImage(ctx context.Context, name string, rebuild bool, log *Log) (string, error) {
	image, ok := Images[name]
	if !ok {
		return "", fmt.Errorf("image %q: unknown, there is %s", name, strings.Join(imageNames(), ", "))
	}
	if err := installTools(ctx, log); err != nil {
		return "", err
	}
	folder := filepath.Join(CacheDir(), "images")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("create image cache: %w", err)
	}
	// One builder at a time; another process then finds the image ready.
	lock, err := acquire(ctx, filepath.Join(folder, "lock"), log)
	if err != nil {
		return "", fmt.Errorf("lock image cache: %w", err)
	}
	defer lock.Close()

	dir := filepath.Join(folder, name+"-"+image.key())
	if _, err := os.Stat(dir); err == nil && !rebuild {
		return dir, nil
	}
	if inUse, err := filepath.Glob(filepath.Join(CacheDir(), "labs", "*", "state.json")); err == nil && rebuild && len(inUse) > 0 {
		return "", fmt.Errorf("rebuild image %s: labs use the cache (%s); bring them down first", name, strings.Join(inUse, ", "))
	}
	if err := image.build(ctx, folder, dir, log); err != nil {
		return "", fmt.Errorf("build image %s: %w", name, err)
	}
	return dir, prune(folder, name, dir)
}

// build makes the image beside its place and renames it, so that a half-built one is never taken for the whole.
func (i Image) build(ctx context.Context, folder, dir string, log *Log) error {
	started := time.Now()
	// We hold the lock, so no builder owns what is there. Whatever a killed one had mounted (/dev!) must be gone before files are removed.
	if err := unmountBelow(folder); err != nil {
		return err
	}
	for _, stale := range must(filepath.Glob(filepath.Join(folder, ".build-*"))) {
		os.RemoveAll(stale)
	}
	temporary, err := os.MkdirTemp(folder, ".build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	sources, err := aptSources(i.Suite)
	if err != nil {
		return err
	}
	log.Say("building image %s from %s (about a minute, once)", filepath.Base(dir), strings.Join(sourceHosts(sources), ", "))
	root := filepath.Join(temporary, "root")
	output := filepath.Join(folder, filepath.Base(dir)+".log")
	file, err := os.Create(output)
	if err != nil {
		return err
	}
	defer file.Close()
	cmd := exec.CommandContext(ctx, tool("mmdebstrap"), i.arguments(root)...)
	// Its mount and chroot work is undone on SIGTERM, not on SIGKILL.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(sources), file, file
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("mmdebstrap: %w; the end of %s:\n%s", err, output, tail(output, 15))
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Rename(root, dir); err != nil {
		return err
	}
	log.Say("image %s built in %.0f s", filepath.Base(dir), time.Since(started).Seconds())
	return nil
}

// prune removes images of the same name and older recipes, unless a lab that exists stands on one.
func prune(folder, name, keep string) error {
	used := map[string]bool{keep: true}
	for _, path := range must(filepath.Glob(filepath.Join(CacheDir(), "labs", "*", "state.json"))) {
		if s, err := readState(path); err == nil {
			used[s.Image] = true
		}
	}
	for _, dir := range must(filepath.Glob(filepath.Join(folder, name+"-????????????"))) {
		if used[dir] {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove old image %s: %w", dir, err)
		}
		os.Remove(dir + ".log")
	}
	return nil
}

// must is for filepath.Glob, whose only error is a bad pattern, and ours are constants.
func must(paths []string, err error) []string {
	if err != nil {
		panic(err)
	}
	return paths
}
