package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Hold is a person's wish to hold something on this node, or to end that.
type Hold struct {
	Override
	// Off ends it. Without a cluster the node must have one alone to mean it.
	Off bool `json:"off,omitempty"`
}

// Held is what became of it.
type Held struct {
	Override
	// Warning is what should be known: that the member does not lead, or that an
	// agent started anew would not know of it.
	Warning string `json:"warning,omitempty"`
}

// Hold takes a wish. The error wraps ErrOverride when it makes no sense here, and
// ErrUnknown when it only does to somebody who says that he knows.
func (a *Agent) Hold(ctx context.Context, h Hold) (Held, error) {
	c, err := a.clusterToHold(h.Override)
	if err != nil {
		return Held{}, err
	}
	h.Cluster = c.name
	if h.Off {
		if !a.overrides.off(h.Kind, c.name, h.By, "") {
			return Held{}, fmt.Errorf("%w: nothing is held for %s", ErrOverride, c.name)
		}
		c.wakeAll()
		return Held{Override: h.Override}, nil
	}
	if h.For <= 0 || h.For > MaxOverride {
		return Held{}, fmt.Errorf("%w: for %s; expected more than 0 and at most %s", ErrOverride, h.For, MaxOverride)
	}
	warning := ""
	switch h.Kind {
	case OverrideRoute:
		if warning, err = c.checkRoute(h.Member); err != nil {
			return Held{}, err
		}
	case OverrideVIP:
		if h.Knowing, warning, err = c.vip.checkHand(ctx, h.Act, h.Knowing); err != nil {
			return Held{}, err
		}
	default:
		return Held{}, fmt.Errorf("%w: a %q", ErrOverride, h.Kind)
	}
	o, err := a.overrides.set(h.Override, time.Now())
	if err != nil {
		warning = strings.TrimPrefix(warning+"; ", "; ") + "an agent started anew would not know of it: " + err.Error()
	}
	c.wakeAll()
	return Held{Override: o, Warning: warning}, nil
}

// clusterToHold finds the cluster that is meant: the named one, the one with the
// member, or the only one there is.
func (a *Agent) clusterToHold(o Override) (*cluster, error) {
	var names []string
	var found []*cluster
	for _, c := range a.all() {
		names = append(names, c.name)
		c.mu.Lock()
		_, member := c.info.Find(o.Member)
		c.mu.Unlock()
		if o.Cluster == c.name || o.Cluster == "" && (o.Member == "" || member) {
			found = append(found, c)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, fmt.Errorf("%w: name the cluster, one of %s", ErrOverride, strings.Join(names, ", "))
	case o.Cluster != "":
		return nil, fmt.Errorf("%w: this node has no cluster %s (it has %s)", ErrOverride, o.Cluster, orNone(names))
	}
	return nil, fmt.Errorf("%w: no cluster of this node has a member %s (it has %s)", ErrOverride, o.Member, orNone(names))
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// checkRoute says whether a HAProxy of this node can send clients to the member, and
// what is strange about it.
func (c *cluster) checkRoute(member string) (warning string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	served := map[string]bool{}
	for _, con := range c.concerns {
		for _, r := range con.inForce().Resources {
			if u, ok := r.(plan.Unit); ok {
				for _, route := range u.Routes {
					for _, s := range route.Servers {
						served[s.Name] = served[s.Name] || route.Role == plan.RoutePrimary
					}
				}
			}
		}
	}
	if !served[member] {
		var names []string
		for name := range served {
			names = append(names, name)
		}
		slices.Sort(names)
		return "", fmt.Errorf("%w: no read-write route of %s has a server %q; expected one of %s", ErrOverride, c.name, member, orNone(names))
	}
	v := c.lookLocked().view
	if v.Leader.Member != "" && v.Leader.Member != member {
		return fmt.Sprintf("%s leads as far as is known; writes that reach %s fail if it is in recovery", v.Leader.Member, member), nil
	}
	return "", nil
}

// resolve is plan.Resolve with what a person holds.
func (c *cluster) resolve(p plan.Plan, v plan.View, now time.Time) (apply, drop []plan.Resource, why []observed.Condition) {
	apply, drop, why = plan.Resolve(p, v, now)
	if o, held := c.a.overrides.get(OverrideRoute, c.name, now); held {
		apply = o.holdAll(apply)
	}
	return apply, drop, why
}

// routesOf is what of a plan's routes is asserted now. Of a store that is not
// trusted nothing resolves; a person outranks that.
func (c *cluster) routesOf(p plan.Plan, v plan.View, now time.Time) ([]plan.Unit, []observed.Condition) {
	apply, _, why := c.resolve(p, v, now)
	if o, held := c.a.overrides.get(OverrideRoute, c.name, now); held && len(apply) == 0 {
		apply = o.holdAll(p.Resources)
	}
	var out []plan.Unit
	for _, r := range apply {
		if u, ok := r.(plan.Unit); ok && len(u.Routes) > 0 {
			out = append(out, u)
		}
	}
	return out, why
}

// holdAll is hold for every unit with routes.
func (o Override) holdAll(rs []plan.Resource) []plan.Resource {
	rs = slices.Clone(rs)
	for i, r := range rs {
		if u, ok := r.(plan.Unit); ok && len(u.Routes) > 0 {
			u.Targets = o.hold(u)
			rs[i] = u
		}
	}
	return rs
}

func (a *Agent) serveHold(w http.ResponseWriter, r *http.Request) {
	var h Hold
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&h); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	held, err := a.Hold(r.Context(), h)
	switch {
	case errors.Is(err, ErrUnknown):
		http.Error(w, err.Error(), http.StatusConflict)
	case errors.Is(err, ErrOverride):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(held) // the reader went away
	}
}
