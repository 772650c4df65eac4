package command

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/pgctrl/pgctrl/pkg/agent/agenttest"
	"github.com/pgctrl/pgctrl/pkg/host/scratch"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// transients is a systemd whose programs end when a test says so.
type transients map[string]systemd.State

func (u transients) StartTransient(_ context.Context, t systemd.Transient) error {
	u[t.Unit] = systemd.State{LoadState: "loaded", ActiveState: "active", SubState: "running", Description: t.Description}
	return nil
}

func (u transients) Status(_ context.Context, unit string) (systemd.State, error) {
	return u[unit], nil
}

func (u transients) Stop(_ context.Context, unit string) error   { delete(u, unit); return nil }
func (u transients) Forget(_ context.Context, unit string)       { delete(u, unit) }
func (u transients) Feed(context.Context, string) error          { return nil }
func (u transients) Journal(context.Context, string, int) string { return "" }
func (u transients) end(unit, active, sub, result string) {
	s := u[unit]
	s.ActiveState, s.SubState, s.Result = active, sub, result
	u[unit] = s
}

// TestScratchDriverConforms has the real driver pass the table that the fake passes; what its
// programs leave in the folder, the test does.
func TestScratchDriverConforms(t *testing.T) {
	units, dir := transients{}, t.TempDir()
	d := scratch.New(scratch.Options{
		Node: "pg1", Systemd: units, State: dir + "/state", User: "nobody",
		Hidden: func(string) ([]string, error) { return []string{"/var/lib/pgbackrest/c"}, nil },
	})
	write := func(name string, v any) {
		t.Helper()
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/scratch/"+name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	agenttest.ScratchConformance(t, agenttest.ScratchHost{
		Scratch: scratchRuns{d}, Dir: dir,
		Finish: func(r observed.Recovered, err error) {
			if no, is := errors.AsType[*plan.Refusal](err); is {
				write("failed.json", no)
				units.end(plan.ScratchFetchUnit("c"), "failed", "failed", "exit-code")
				return
			}
			units.end(plan.ScratchFetchUnit("c"), "active", "exited", "success")
			run, err := d.Run(t.Context(), "c") // the second stage begins
			if err != nil || !run.Running || units[plan.ScratchUnit("c")].SubState != "running" {
				t.Fatal(run, err, units)
			}
			write("result.json", struct {
				Step string `json:"step"`
				observed.Recovered
			}{run.Step, r})
			units.end(plan.ScratchUnit("c"), "active", "exited", "success")
		},
		Boot: func() { clear(units) },
		Put: func(dir string) {
			if err := os.MkdirAll(dir+"/base", 0o700); err != nil {
				t.Fatal(err)
			}
		},
		There: func(dir string) bool { _, err := os.Lstat(dir); return err == nil },
	})
}
