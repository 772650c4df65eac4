package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

func TestKeptFiles(t *testing.T) {
	k := keeper{t.TempDir()}
	file := plan.Watched{File: "/etc/pgctrl/hosts.d/c", Mode: "0644"}
	p := plan.Plan{Schema: plan.SchemaFiles, Resources: plan.Resources{file}}
	unit := plan.Plan{Schema: plan.SchemaFirst, Resources: plan.Resources{plan.Unit{Unit: "haproxy@c.service"}}}
	if err := errors.Join(k.save("c", "dns", kept{Revision: 1, Plan: p}), k.save("c", "haproxy", kept{Revision: 1, Plan: unit})); err != nil {
		t.Fatal(err)
	}
	want := map[string][]plan.Watched{"c": {file}}
	if got, err := KeptFiles(k.dir); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("kept %v, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(k.dir, "plans", "c", "haproxy.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := KeptFiles(k.dir); err == nil || cmp.Diff(want, got) != "" {
		t.Errorf("with a damaged plan: kept %v, %v", got, err)
	}
}
