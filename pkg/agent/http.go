package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Handler serves what anybody may see: metrics, and whether the agent lives and
// is of use.
func (a *Agent) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.o.Registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.Healthy()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.ready()) })
	return mux
}

// ready: everything the agent does can be done now, etcd included.
func (a *Agent) ready() error {
	st := a.Status()
	switch {
	case !st.Speaks && st.Problem != "":
		return errors.New(st.Problem)
	case !st.Speaks:
		return errors.New("etcd has not been reached yet")
	case st.PlansAge < 0 || st.PlansAge > 2*plan.FreshFor.Seconds():
		return errors.New("plans are not followed: etcd does not answer")
	}
	for _, c := range st.Clusters {
		if !c.Fresh {
			return fmt.Errorf("the view of cluster %s is stale", c.Name)
		}
	}
	return nil
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// Control serves the socket that only root can open. It answers from memory.
func (a *Agent) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a.Status()) // the reader went away
	})
	mux.HandleFunc("POST /hold", a.serveHold)
	mux.HandleFunc("POST /haproxy-state", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		err := a.ComposeState(ctx, r.URL.Query().Get("cluster"))
		if errors.Is(err, ErrUnknownCluster) {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		answer(w, err)
	})
	// What the agent spends its time and memory on: for root alone, and on no network.
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// ErrUnknownCluster means that the node has no plan with routes for the cluster.
var ErrUnknownCluster = errors.New("no plan with routes for this cluster on this node")

// ComposeState writes the state files of a cluster's HAProxy from what is known
// at this moment; a start of HAProxy that the agent did not order asks for it.
func (a *Agent) ComposeState(ctx context.Context, name string) error {
	a.mu.Lock()
	c, ok := a.clusters[name]
	a.mu.Unlock()
	if !ok {
		return fmt.Errorf("compose state of %s: %w", name, ErrUnknownCluster)
	}
	c.mu.Lock()
	v := c.lookLocked().view
	var plans []plan.Plan
	for _, con := range c.concerns {
		plans = append(plans, con.inForce())
	}
	c.mu.Unlock()
	now := time.Now()
	if _, held := a.overrides.get(OverrideRoute, name, now); held {
		return c.composeHeld(ctx, plans, v, now)
	}
	return ComposeStates(ctx, a.o.Host.Router, plans, v, now)
}

// composeHeld is ComposeStates while a person holds the routes.
func (c *cluster) composeHeld(ctx context.Context, plans []plan.Plan, v plan.View, now time.Time) error {
	var errs []error
	for _, p := range plans {
		units, _ := c.routesOf(p, v, now)
		for _, u := range units {
			errs = append(errs, c.a.o.Host.Router.ComposeState(ctx, u))
		}
	}
	if len(errs) == 0 {
		return ErrUnknownCluster
	}
	return errors.Join(errs...)
}

// ComposeStates writes the state file of every unit with routes. With a view that
// is stale, as the zero View is, it is the conservative file.
func ComposeStates(ctx context.Context, router Router, plans []plan.Plan, v plan.View, now time.Time) error {
	found := false
	var errs []error
	for _, p := range plans {
		apply, _, _ := plan.Resolve(p, v, now)
		for _, r := range apply {
			if u, ok := r.(plan.Unit); ok && len(u.Routes) > 0 {
				found = true
				if !fresh(v, now) {
					u.Targets = nil
				}
				errs = append(errs, router.ComposeState(ctx, u))
			}
		}
	}
	if !found {
		return ErrUnknownCluster
	}
	return errors.Join(errs...)
}
