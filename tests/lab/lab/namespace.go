package lab

// Namespace is the path of the host's network namespace. Every boot makes a new one
// there; none is there before the first.
func (h *Host) Namespace() string { return "/run/netns/" + hostNamespace(h.lab.name, h.Name) }
