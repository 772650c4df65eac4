package systemd

import (
	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// Sandbox is a program that reaches nothing but its own folders: no network, no other
// program's folder for what is temporary, no privilege, and no writing anywhere else.
type Sandbox struct {
	// Writable are folders that it may write to.
	Writable []string
	// Hidden are folders that it can't see; one that begins with "-" may be absent.
	Hidden []string
}

// properties are the unit's in systemd's words.
func (s *Sandbox) properties() []dbus.Property {
	if s == nil {
		return nil
	}
	p := func(name string, v any) dbus.Property { return dbus.Property{Name: name, Value: godbus.MakeVariant(v)} }
	return []dbus.Property{
		// A namespace of its own with a loopback that is down: what is not there can't be
		// reached, whatever a program knows of addresses and names.
		p("PrivateNetwork", true),
		// "strict" makes everything read-only but /dev, /proc and /sys.
		p("ProtectSystem", "strict"),
		p("ReadWritePaths", s.Writable),
		p("InaccessiblePaths", s.Hidden),
		p("PrivateTmp", true),
		p("PrivateDevices", true),
		p("ProtectHome", "yes"),
		p("ProtectKernelTunables", true),
		p("ProtectKernelModules", true),
		p("ProtectControlGroups", true),
		p("RestrictSUIDSGID", true),
		p("LockPersonality", true),
		p("CapabilityBoundingSet", uint64(0)),
		p("AmbientCapabilities", uint64(0)),
	}
}
