package status_test

import (
	"testing"

	"github.com/pgctrl/pgctrl/pkg/controllers"
	"github.com/pgctrl/pgctrl/pkg/controllers/all"
	"github.com/pgctrl/pgctrl/pkg/controllers/controllertest"
	"github.com/pgctrl/pgctrl/pkg/controllers/status"
	"github.com/pgctrl/pgctrl/pkg/keys"
)

// TestQuietWhenIdle: WAL positions and the server's election move nothing (R8).
func TestR8QuietWhenIdle(t *testing.T) {
	m := controllertest.Load(t, "../postgres/testdata/small.txtar")
	for _, c := range all.All() {
		controllertest.Settle(t, c, m, about(c, "pg-test"))
	}
	c := status.New(all.Concerns()...)
	controllertest.Put(m, "/pg/pg-test/leader", "pg-test-1")
	controllertest.Put(m, "/pg/pg-test/members/pg-test-1", `{"state":"running","xlog_location":5}`)
	controllertest.Put(m, "/pg/pg-test/members/pg-test-2", `{"state":"running","xlog_location":3}`)
	controllertest.Put(m, "/pgctrl/operations/pg-test/backup-x", `{"schema":1,"id":"backup-x","kind":"backup","state":"running","phases":[{"name":"backup","state":"running","node":"pg1","step":"pg-test.backup-x-1"}]}`)
	controllertest.Settle(t, c, m, "pg-test")
	controllertest.Put(m, "/pg/pg-test/members/pg-test-1", `{"state":"running","xlog_location":9}`)
	controllertest.Put(m, "/pg/pg-test/status", `{"optime":9}`)
	controllertest.Put(m, "/pgctrl/election/server", "infra1")
	controllertest.Put(m, "/pgctrl/results/pg1/pg-test.backup-x-1", `{"state":"accepted","progress":{"done":2,"total":4,"unit":"B"}}`)
	if controllertest.Apply(m, controllertest.Run(t, c, m, "pg-test")) {
		t.Error("an idle cluster's status was written")
	}
	controllertest.Deterministic(t, c, m, "pg-test")
}

// TestDeclaredInputsSuffice: reading anything else fails the test in Run.
func TestDeclaredInputsSuffice(t *testing.T) {
	m := controllertest.Load(t, "../postgres/testdata/rich.txtar")
	for range 3 {
		for _, c := range all.All() {
			controllertest.Settle(t, c, m, about(c, "shop"))
		}
		controllertest.Put(m, "/pg/shop/leader", "b")
	}
	if _, ok := m.Get("/pgctrl/status/shop"); !ok {
		t.Error("no status")
	}
}

// about is what the engine asks a controller about, for a cluster.
func about(c controllers.Controller, cluster string) string {
	if controllers.IsShared(c) {
		return keys.NodeCluster
	}
	return cluster
}
