// Package status writes each cluster's status for watchers, metrics and hooks: the
// answer of package pkg/status, without what moves while nothing happens.
package status

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/status"
)

// Controller implements controllers.Controller.
type Controller struct {
	concerns []controllers.Controller
}

// New returns the controller over the concerns whose plans make up a cluster.
func New(concerns ...controllers.Controller) Controller { return Controller{concerns: concerns} }

// Name implements controllers.Controller.
func (Controller) Name() string { return "status" }

// Inputs implements controllers.Controller: what the concerns read, but for the
// secrets, and what agents and Patroni say.
func (c Controller) Inputs() []controllers.Access {
	in := []controllers.Access{
		{Family: keys.Plan}, {Family: keys.Observed}, {Family: keys.Primary}, {Family: keys.PatroniKey}, {Family: keys.Election},
		// What goes on; how far it is, the results say, and a status with that would be
		// written with every step of it.
		{Family: keys.Operations},
		// All documents, not only those that somebody plans from: a key in the wrong
		// place is to be shown.
		{Family: keys.Desired}, {Family: keys.Defaults},
	}
	for _, concern := range c.concerns {
		for _, a := range concern.Inputs() {
			covered := slices.ContainsFunc(in, func(b controllers.Access) bool {
				return b.Family == a.Family && (b.Part == "" || b.Part == a.Part) && (b.Fleet || !a.Fleet)
			})
			if a.Family != keys.Secrets && a.Family != keys.Authorities && !covered {
				in = append(in, a)
			}
		}
	}
	return in
}

// Outputs implements controllers.Controller.
func (Controller) Outputs() []controllers.Access {
	return []controllers.Access{{Family: keys.Status}}
}

// Plan implements controllers.Controller.
func (c Controller) Plan(in controllers.Input) (controllers.Result, error) {
	s := status.Compute(status.Input{
		Snapshot: in.Snapshot, Layout: in.Layout, Now: in.Now, Cluster: in.Cluster, Concerns: c.concerns,
	})
	key := in.Layout.StatusKey(in.Cluster)
	if nothingLeft(in) {
		return controllers.Result{Outputs: []controllers.Output{{Key: key, Mode: controllers.Delete}}}, nil
	}
	value, err := json.Marshal(Still(s))
	if err != nil {
		return controllers.Result{}, fmt.Errorf("encode status of %s: %w", in.Cluster, err)
	}
	return controllers.Result{Outputs: []controllers.Output{{Key: key, Value: value}}}, nil
}

// Still is the status without what changes by itself: lag moves with every write,
// progress while a node works, the next backup with the clock, and which server plans is nothing about the cluster. Idle
// clusters write nothing (R8).
func Still(s status.ClusterStatus) status.ClusterStatus {
	s.Controller, s.Standbys = "", nil
	s.Conditions = slices.DeleteFunc(slices.Clone(s.Conditions), func(c status.Condition) bool {
		return c.Reason == observed.NoServer
	})
	s.Members = slices.Clone(s.Members)
	for i := range s.Members {
		s.Members[i].Lag = nil
	}
	if s.Backups != nil {
		b := *s.Backups
		b.Due = nil
		s.Backups = &b
	}
	s.Operations = slices.Clone(s.Operations)
	for i := range s.Operations {
		s.Operations[i].Progress = nil
	}
	return s
}

// nothingLeft reports a name that no document, no record and no plan has any more:
// there is no cluster to have a status.
func nothingLeft(in controllers.Input) bool {
	if _, formed := in.Snapshot.Get(in.Layout.FormedKey(in.Cluster)); formed || len(in.Snapshot.Range(in.Layout.ClusterDocs(in.Cluster))) > 0 {
		return false
	}
	for _, e := range kv.RangeShort(in.Snapshot, in.Layout.Prefix(keys.Plan)) {
		if ref, err := in.Layout.Parse(e.Key); err == nil && ref.Cluster == in.Cluster {
			return false
		}
	}
	return true
}
