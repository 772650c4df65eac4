package systemdtest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/systemd"
)

// Systemd is everything that the real one and the fake both do.
type Systemd interface {
	Status(ctx context.Context, unit string) (systemd.State, error)
	Brief(ctx context.Context, unit string) (systemd.State, error)
	Start(ctx context.Context, unit string) error
	Stop(ctx context.Context, unit string) error
	ReloadUnit(ctx context.Context, unit string) error
	Enable(ctx context.Context, unit string) error
	Disable(ctx context.Context, unit string) error
	Mask(ctx context.Context, unit string) error
	Unmask(ctx context.Context, unit string) error
	DaemonReload(ctx context.Context) error
	InstallTemplate(ctx context.Context, name string, content []byte) (bool, error)
	Journal(ctx context.Context, unit string, lines int) string
}

// The template of the units that Conformance works with. Instance "bad" says
// some words and fails.
const (
	TemplateName = "pgctrl-conformance@.service"
	GoodUnit     = "pgctrl-conformance@good.service"
	BadUnit      = "pgctrl-conformance@bad.service"
	// BadWords is what BadUnit says before it fails.
	BadWords = "these are my last words"
	// TemplateContent is the unit file.
	TemplateContent = `[Unit]
Description=pgctrl conformance test %i
[Service]
Type=notify
NotifyAccess=all
ExecStart=/bin/sh -c 'if [ %i = bad ]; then echo "these are my last words"; exit 3; fi; systemd-notify --ready; exec sleep 1000'
ExecReload=/bin/true
[Install]
WantedBy=multi-user.target
`
)

// Conformance runs the table.
func Conformance(t *testing.T, s Systemd) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	do := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	state := func(unit string) systemd.State {
		t.Helper()
		brief, err := s.Brief(ctx, unit)
		do("brief", err)
		st, err := s.Status(ctx, unit)
		do("status", err)
		want := st
		if want.MainPID, want.Restarts, want.Result, want.ExitStatus = 0, 0, "", 0; brief != want {
			t.Errorf("brief state of %s: %+v, want %+v", unit, brief, want)
		}
		return st
	}

	if st := state("no-such@x.service"); st.Exists() || st.Active() || st.Enabled() {
		t.Errorf("a unit that doesn't exist: %+v", st)
	}
	if err := s.Start(ctx, "no-such@x.service"); !errors.Is(err, systemd.ErrNoUnit) {
		t.Errorf("starting a unit that doesn't exist: %v", err)
	}
	do("disabling a unit that doesn't exist", s.Disable(ctx, "no-such@x.service"))
	do("stopping a unit that doesn't exist", s.Stop(ctx, "no-such@x.service"))

	changed, err := s.InstallTemplate(ctx, TemplateName, []byte(TemplateContent))
	do("install", err)
	if !changed {
		t.Error("installing a template changed nothing")
	}
	if changed, err = s.InstallTemplate(ctx, TemplateName, []byte(TemplateContent)); err != nil || changed {
		t.Errorf("installing it again: %v, %v", changed, err)
	}

	if st := state(GoodUnit); !st.Exists() || st.Active() || st.Enabled() || st.Masked() {
		t.Errorf("before the first start: %+v", st)
	}
	do("enable", s.Enable(ctx, GoodUnit))
	do("enable again", s.Enable(ctx, GoodUnit))
	do("start", s.Start(ctx, GoodUnit))
	st := state(GoodUnit)
	if !st.Active() || !st.Enabled() || st.MainPID == 0 || st.Restarts != 0 {
		t.Errorf("started: %+v", st)
	}
	do("start again", s.Start(ctx, GoodUnit))
	do("reload", s.ReloadUnit(ctx, GoodUnit))
	if again := state(GoodUnit); again.MainPID != st.MainPID {
		t.Errorf("starting it again or reloading changed the process: %d, then %d", st.MainPID, again.MainPID)
	}

	do("stop", s.Stop(ctx, GoodUnit))
	do("stop again", s.Stop(ctx, GoodUnit))
	if st := state(GoodUnit); st.Active() || st.MainPID != 0 || !st.Enabled() {
		t.Errorf("stopped: %+v", st)
	}
	if err := s.ReloadUnit(ctx, GoodUnit); err == nil {
		t.Error("a stopped unit was reloaded")
	}
	do("disable", s.Disable(ctx, GoodUnit))
	if st := state(GoodUnit); st.Enabled() {
		t.Errorf("disabled: %+v", st)
	}

	do("mask", s.Mask(ctx, GoodUnit))
	if st := state(GoodUnit); !st.Masked() || st.Enabled() {
		t.Errorf("masked: %+v", st)
	}
	if err := s.Start(ctx, GoodUnit); err == nil {
		t.Error("a masked unit was started")
	}
	do("unmask", s.Unmask(ctx, GoodUnit))
	do("unmask again", s.Unmask(ctx, GoodUnit))
	if st := state(GoodUnit); st.Masked() || !st.Exists() {
		t.Errorf("unmasked: %+v", st)
	}

	var job *systemd.JobError
	if err := s.Start(ctx, BadUnit); !errors.As(err, &job) || !strings.Contains(job.Tail, BadWords) {
		t.Errorf("a program that fails: %v", err)
	}
	if st := state(BadUnit); st.Active() || st.ActiveState != "failed" {
		t.Errorf("failed: %+v", st)
	}
	if !strings.Contains(s.Journal(ctx, BadUnit, 20), BadWords) {
		t.Error("the journal lacks the program's words")
	}
}
