package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// Networks are made by `ip -batch` scripts rather than netlink calls: a script is a pure function that a test can read and a person can
// replay by hand when a kernel refuses it.

func switchNamespace(lab string) string { return "pgctrl-" + lab }

func hostNamespace(lab, host string) string { return "pgctrl-" + lab + "-" + host }

func portOf(host string) string { return "p-" + host }

func machineInterface(lab string) string {
	if lab == "lab" {
		return "pgctrl0"
	}
	return "pgc-" + lab
}

// mac is fixed for a host, so that a reboot is the same network card; locally administered, distinct between labs by subnet.
func mac(ip string) string {
	a := netip.MustParseAddr(ip).As4()
	return fmt.Sprintf("02:70:%02x:%02x:%02x:%02x", a[0], a[1], a[2], a[3])
}

// ipv6 is a unique local address beside each IPv4 one: fd10:10:10::11 beside 10.10.10.11.
func ipv6(ip string) string {
	a := netip.MustParseAddr(ip).As4()
	return fmt.Sprintf("fd%02d:%d:%d::%d", a[0]%100, a[1], a[2], a[3])
}

// switchScript makes the bridge; it runs in the switch's namespace. Snooping is off, so that multicast (neighbour discovery) reaches all.
func switchScript() string {
	return "link set lo up\nlink add br0 type bridge mcast_snooping 0\nlink set br0 up\n"
}

// machineScript plugs the machine in; it runs in the machine's own namespace. nodad: the addresses are ours, and tests can't wait 2 s.
func machineScript(lab, subnet string) string {
	dev, ip := machineInterface(lab), address(subnet, 1)
	return fmt.Sprintf("link add %s type veth peer name %s netns %s\n", dev, portOf(machineName), switchNamespace(lab)) +
		fmt.Sprintf("addr add %s/24 dev %s\naddr add %s/64 dev %s nodad\nlink set %s up\n", ip, dev, ipv6(ip), dev, dev)
}

// portScript plugs a port into the bridge; it runs in the switch's namespace.
func portScript(host string) string {
	return fmt.Sprintf("link set %s master br0\nlink set %s up\n", portOf(host), portOf(host))
}

// cableScript makes the pair of port and host's eth0; it runs in the switch's namespace.
func cableScript(lab, host, ip string) string {
	return fmt.Sprintf("link add %s type veth peer name eth0 address %s netns %s\n", portOf(host), mac(ip), hostNamespace(lab, host))
}

// hostScript configures eth0; it runs in the host's namespace. There is no default route: a host reaches the lab and nothing else.
func hostScript(ip string) string {
	return fmt.Sprintf("link set lo up\naddr add %s/24 dev eth0\naddr add %s/64 dev eth0 nodad\nlink set eth0 up\n", ip, ipv6(ip))
}

// batch runs a script in a named namespace, or in the machine's own when it is empty.
func batch(ctx context.Context, namespace, script string) error {
	args := []string{"-batch", "-"}
	if namespace != "" {
		args = append([]string{"-n", namespace}, args...)
	}
	if _, err := run(ctx, script, "ip", args...); err != nil {
		return fmt.Errorf("configure network %s: %w", namespace, err)
	}
	return nil
}

func namespaceExists(name string) bool {
	_, err := os.Stat(filepath.Join("/run/netns", name))
	return err == nil
}

func addNamespace(ctx context.Context, name string) error {
	if _, err := run(ctx, "", "ip", "netns", "add", name); err != nil {
		return fmt.Errorf("add network namespace %s: %w", name, err)
	}
	return nil
}

// removeNamespace unplugs it with all its interfaces; one that does not exist is no error.
func removeNamespace(ctx context.Context, name string) error {
	_, err := run(ctx, "", "ip", "netns", "del", name)
	if err != nil && namespaceExists(name) {
		return fmt.Errorf("remove network namespace %s: %w", name, err)
	}
	return nil
}

// labNamespaces are all namespaces a lab of this name can have made, the switch last: removing it removes every port at once.
func labNamespaces(lab string) ([]string, error) {
	entries, err := os.ReadDir("/run/netns")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), hostNamespace(lab, "")) {
			names = append(names, e.Name())
		}
	}
	if namespaceExists(switchNamespace(lab)) {
		names = append(names, switchNamespace(lab))
	}
	return names, nil
}

// plugMachine makes the switch and connects the machine, unless both are there. It refuses a subnet the machine uses for something else.
func plugMachine(ctx context.Context, lab, subnet string) error {
	_, err := net.InterfaceByName(machineInterface(lab))
	if err == nil && namespaceExists(switchNamespace(lab)) {
		return nil
	}
	if err := unplugMachine(ctx, lab); err != nil { // half of it, left by a crash
		return err
	}
	used, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list the machine's addresses: %w", err)
	}
	for _, a := range used {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Overlaps(netip.MustParsePrefix(subnet)) {
			return fmt.Errorf("subnet %s: the machine already has %s; is another lab up? choose another subnet", subnet, p)
		}
	}
	if err := addNamespace(ctx, switchNamespace(lab)); err != nil {
		return err
	}
	if err := batch(ctx, switchNamespace(lab), switchScript()); err != nil {
		return err
	}
	if err := batch(ctx, "", machineScript(lab, subnet)); err != nil {
		return err
	}
	return batch(ctx, switchNamespace(lab), portScript(machineName))
}

func unplugMachine(ctx context.Context, lab string) error {
	if _, err := net.InterfaceByName(machineInterface(lab)); err == nil {
		if _, err := run(ctx, "", "ip", "link", "del", machineInterface(lab)); err != nil {
			return fmt.Errorf("remove interface %s: %w", machineInterface(lab), err)
		}
	}
	return removeNamespace(ctx, switchNamespace(lab))
}

// plugHost makes a host's namespace and cable anew: what a previous boot left there (addresses, routes, rules) is gone, as after a reboot.
func plugHost(ctx context.Context, lab string, h hostState) error {
	if err := unplugHost(ctx, lab, h.Name); err != nil {
		return err
	}
	if err := addNamespace(ctx, hostNamespace(lab, h.Name)); err != nil {
		return err
	}
	if err := batch(ctx, switchNamespace(lab), cableScript(lab, h.Name, h.IP)); err != nil {
		return err
	}
	if err := batch(ctx, hostNamespace(lab, h.Name), hostScript(h.IP)); err != nil {
		return err
	}
	return batch(ctx, switchNamespace(lab), portScript(h.Name))
}

// unplugHost removes the port first: it takes the other end along even while some process keeps the host's namespace alive.
func unplugHost(ctx context.Context, lab, host string) error {
	// No such port or no switch is what we want, and a real failure shows when the name is used again.
	_ = batch(ctx, switchNamespace(lab), fmt.Sprintf("link del %s\n", portOf(host)))
	return removeNamespace(ctx, hostNamespace(lab, host))
}
