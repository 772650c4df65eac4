package plan

import "strings"

// Address is a virtual IP address of a cluster. Hold says when it is on this host.
type Address struct {
	// Address is the host prefix that is added: "10.10.10.9/32" or "fd10::9/128".
	Address string `json:"address"`
	// Interface is where it goes; empty: the interface that has the node's address on Network.
	Interface string `json:"interface,omitempty"`
	// Network is the prefix as people wrote it, "10.10.10.9/24": it finds the interface when none is named.
	Network string `json:"network"`
}

// Host is the address alone, "10.10.10.9".
func (a Address) Host() string {
	host, _, _ := strings.Cut(a.Address, "/")
	return host
}

// ID implements Resource.
func (a Address) ID() string { return "address " + a.Address }

// AddressOf returns the virtual address that a plan follows the leader with; false
// when it has none.
func AddressOf(p Plan) (Address, bool) {
	if p.Removal != nil {
		return Address{}, false
	}
	for _, r := range p.Resources {
		if a, ok := r.(Address); ok {
			return a, true
		}
	}
	return Address{}, false
}
