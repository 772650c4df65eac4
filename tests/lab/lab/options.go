package lab

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// Options say which lab to bring up. The zero value is a lab named "lab" with infra1, pg1, pg2 and pg3 on bookworm.
type Options struct {
	// Name tells labs apart; [a-z][a-z0-9]{0,10}. Default PGCTRL_LAB_NAME, so that one test runs in several labs at once, or "lab".
	Name string
	// Hosts to boot: [a-z][a-z0-9-]{0,12}. infra1 gets address .10, pgN gets .10+N, others from .101 on. Default infra1, pg1, pg2, pg3.
	Hosts []string
	// Image is a name of [Images]. Default PGCTRL_LAB_IMAGE, so that one test runs on every release, or "bookworm".
	Image string
	// Subnet is the /24 of the lab; the machine's own address in it is .1. Default PGCTRL_LAB_SUBNET, or 10.10.10.0/24; a second lab needs
	// another one.
	Subnet string
	// Fresh removes what an earlier run of the same name left, running or not, so that hosts start as just installed.
	// Without it Up attaches to hosts that run and boots the others from the disks they have.
	Fresh bool
	// Log receives progress, a line each. Nil discards it.
	Log io.Writer
}

// CacheDir is where images and the disks of running labs live: PGCTRL_LAB_CACHE, or /var/cache/pgctrl-lab. It must be on a file system
// that can hold an overlay's upper layer (ext4, xfs, btrfs; not another overlay).
func CacheDir() string {
	if dir := os.Getenv("PGCTRL_LAB_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/pgctrl-lab"
}

const machineName = "machine" // the port of the machine itself on the switch, so no host may have this name

// The lengths come from the kernel's limit of 15 characters for interface names: "pgc-" + lab, "p-" + host. A lab name has no dash, so
// that the switch of no lab can be named like a host of another.
var (
	labNames  = regexp.MustCompile(`^[a-z][a-z0-9]{0,10}$`)
	hostNames = regexp.MustCompile(`^[a-z][a-z0-9-]{0,12}$`)
	pgNames   = regexp.MustCompile(`^pg([1-9][0-9]?)$`)
)

// withDefaults fills what was left out and refuses what can't work, before anything is touched.
func (o Options) withDefaults() (Options, error) {
	o.Name = cmp.Or(o.Name, os.Getenv("PGCTRL_LAB_NAME"), "lab")
	if len(o.Hosts) == 0 {
		o.Hosts = []string{"infra1", "pg1", "pg2", "pg3"}
	}
	o.Image = cmp.Or(o.Image, os.Getenv("PGCTRL_LAB_IMAGE"), "bookworm")
	o.Subnet = cmp.Or(o.Subnet, os.Getenv("PGCTRL_LAB_SUBNET"), "10.10.10.0/24")
	if o.Log == nil {
		o.Log = io.Discard
	}
	if !labNames.MatchString(o.Name) {
		return o, fmt.Errorf("lab name %q: want %s", o.Name, labNames)
	}
	if _, ok := Images[o.Image]; !ok {
		return o, fmt.Errorf("image %q: unknown, there is %s", o.Image, strings.Join(imageNames(), ", "))
	}
	subnet, err := netip.ParsePrefix(o.Subnet)
	if err != nil || !subnet.Addr().Is4() || subnet.Bits() != 24 || subnet.Masked() != subnet {
		return o, fmt.Errorf("subnet %q: want an IPv4 /24 such as 10.10.10.0/24", o.Subnet)
	}
	seen := map[string]bool{machineName: true}
	for _, h := range o.Hosts {
		if !hostNames.MatchString(h) || seen[h] {
			return o, fmt.Errorf("host name %q: want %s, each once, and not %q", h, hostNames, machineName)
		}
		seen[h] = true
	}
	return o, nil
}

// address is a host's address, and its last byte by which the MAC and IPv6 addresses follow.
func address(subnet string, last int) string {
	a := netip.MustParsePrefix(subnet).Addr().As4()
	a[3] = byte(last)
	return netip.AddrFrom4(a).String()
}

// assign gives every named host an address: the one it has, the one its name stands for, or the next free from .101.
func assign(subnet string, have []hostState, names []string) []hostState {
	taken := map[string]bool{}
	known := map[string]bool{}
	for _, h := range have {
		taken[h.IP], known[h.Name] = true, true
	}
	free := 101
	for _, name := range names {
		if known[name] {
			continue
		}
		ip := ""
		if m := pgNames.FindStringSubmatch(name); m != nil && len(m[1]) <= 2 {
			n, _ := strconv.Atoi(m[1]) // the expression admits only 1 to 99
			if n <= 90 {
				ip = address(subnet, 10+n)
			}
		} else if name == "infra1" {
			ip = address(subnet, 10)
		}
		for ip == "" || taken[ip] {
			ip = address(subnet, free)
			free++
		}
		taken[ip] = true
		have = append(have, hostState{Name: name, IP: ip})
	}
	return have
}
