package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/configs"
	"github.com/pgctrl/pgctrl/internal/beat"
	"github.com/pgctrl/pgctrl/pkg/agent"
	"github.com/pgctrl/pgctrl/pkg/agent/config"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/host/inventory"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/host/unit"
	"github.com/pgctrl/pgctrl/pkg/kv"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
	"github.com/pgctrl/pgctrl/pkg/store"
)

func (a *app) leaveCommand() *cobra.Command {
	var dryRun bool
	c := &cobra.Command{
		Use: "leave", Short: "Give this host back: undo what join and the agent did",
		Long: `Refuses while a member is on this host, and names the commands. Otherwise it stops
the agent, removes the units, files and templates that the agent made, gives the
distribution's own services back as they were found, deletes the node's presence and
reports, and removes the agent's unit, settings and state. Data directories are
never touched. Run again, it finishes what was interrupted.`,
		Example: "  pgagent leave --dry-run\n  pgagent leave",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(cmd)
			if err != nil {
				return err
			}
			return a.leave(cmd.Context(), cfg, dryRun)
		},
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be undone and change nothing")
	return c
}

func (a *app) leave(ctx context.Context, cfg config.Config, dryRun bool) error {
	units, err := a.machine.Made(cfg)
	if err != nil {
		return err
	}
	client, err := a.machine.Etcd(ctx, cfg)
	if err != nil {
		return fmt.Errorf("etcd can't be asked whether a member is on this host: %w. Nothing was changed", err)
	}
	defer client.Close()
	if err := a.mayLeave(ctx, cfg, client, units); err != nil {
		return err
	}
	if dryRun {
		for _, u := range units {
			fmt.Fprintln(a.Out, "would stop, disable and remove", u)
		}
		fmt.Fprintf(a.Out, "would give back the distribution's services, delete node %s's presence and reports, and remove %s, %s and %s\n",
			cfg.Node, agentUnit, cfg.File, cfg.StateDir)
		return nil
	}
	said := func(format string, args ...any) { fmt.Fprintf(a.Err, format+"\n", args...) }
	if err := a.machine.Undo(ctx, cfg, units, said); err != nil {
		return fmt.Errorf("%w; run it again when that is put right", err)
	}
	if err := a.forget(ctx, cfg, client); err != nil {
		return err
	}
	if err := a.machine.Clear(ctx, cfg); err != nil {
		return err
	}
	said("left      this host is as it was before pgagent join; next, on the host of pgctrl: pgctrl node remove %s", cfg.Node)
	return nil
}

// mayLeave refuses while a member is here: documents say so, or the disk does, which
// is what counts when documents are gone.
func (a *app) mayLeave(ctx context.Context, cfg config.Config, client *store.Client, units []string) error {
	es, _, err := client.List(ctx, cfg.Layout.DesiredPrefix())
	if err != nil {
		return fmt.Errorf("read documents: %w. Nothing was changed", err)
	}
	here := map[string]string{} // cluster to member
	for _, c := range desired.LoadAll(kv.NewMap(es...), cfg.Layout, "members") {
		for _, m := range c.MemberList() {
			if m.Node == cfg.Node && (!m.Absent() || slices.Contains(units, "patroni@"+c.Name+".service")) {
				here[c.Name] = m.Name
			}
		}
	}
	for _, u := range units {
		if name, is := strings.CutPrefix(u, "patroni@"); is {
			cluster := strings.TrimSuffix(name, ".service")
			if here[cluster] == "" {
				here[cluster] = "<member>"
				if p, found, err := agent.LoadKept(cfg.StateDir, cluster, "postgres"); err == nil && found && p.Cluster.Member != "" {
					here[cluster] = p.Cluster.Member
				}
			}
		}
	}
	if len(here) == 0 {
		return nil
	}
	var names, next []string
	for cluster, member := range here {
		names = append(names, cluster+"/"+member)
		next = append(next, fmt.Sprintf("\n  next: pgctrl remove %s %s", cluster, member))
	}
	slices.Sort(names)
	slices.Sort(next)
	return fmt.Errorf("this host runs %s. Nothing was changed%s", strings.Join(names, ", "), strings.Join(next, ""))
}

// forget deletes what this node's agent writes: presence, reports and moves.
func (a *app) forget(ctx context.Context, cfg config.Config, client *store.Client) error {
	var ops []store.Op
	for _, prefix := range []string{cfg.Layout.NodeObserved(cfg.Node), cfg.Layout.NodeMoves(cfg.Node)} {
		es, _, err := client.List(ctx, prefix)
		if err != nil {
			return fmt.Errorf("read reports: %w", err)
		}
		for _, e := range es {
			ops = append(ops, store.Delete(e.Key))
		}
	}
	key := cfg.Layout.AliveKey(cfg.Node)
	e, found, err := client.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("read presence: %w", err)
	}
	machine, err := a.machine.ID()
	if err != nil {
		return err
	}
	// Another machine may have the name by now; its presence is its own.
	if p, err := observed.Decode[observed.Alive](e); found && err == nil && p.MachineID == machine {
		ops = append(ops, store.Delete(key))
	}
	for len(ops) > 0 {
		n := min(len(ops), store.MaxOps)
		if _, err := client.Commit(ctx, nil, ops[:n]); err != nil {
			return fmt.Errorf("delete presence and reports: %w", err)
		}
		ops = ops[n:]
	}
	return nil
}

// Made implements machine.
func (thisMachine) Made(cfg config.Config) ([]string, error) { return unit.Known(cfg.StateDir) }

// Etcd implements machine.
func (thisMachine) Etcd(ctx context.Context, cfg config.Config) (*store.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return store.Connect(ctx, store.Options{Endpoints: cfg.Endpoints})
}

// ID implements machine.
func (thisMachine) ID() (string, error) {
	return inventory.New(nil).MachineID()
}

// Undo implements machine: the agent stops first, or it would repair what follows.
func (thisMachine) Undo(ctx context.Context, cfg config.Config, units []string, say func(string, ...any)) error {
	sd := systemd.New(systemd.Options{})
	defer sd.Close()
	if err := errors.Join(sd.Stop(ctx, agentUnit), sd.Disable(ctx, agentUnit)); err != nil {
		return err
	}
	unlock, err := lock(cfg.StateDir)
	if err != nil {
		return err
	}
	defer unlock()
	say("stopped   %s", agentUnit)
	w, err := wire(cfg, beat.Beat{}, zap.NewNop())
	if err != nil {
		return err
	}
	defer w.close()
	for _, name := range units {
		cluster, program := ownerOf(name)
		drivers := w.Drivers(cluster, func(string) ([]byte, bool) { return nil, false })
		if err := drivers.Unit.Remove(ctx, plan.Unit{Unit: name, Program: program}, 0); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
		say("removed   %s", name)
	}
	if err := removeFiles(ctx, cfg, w, say); err != nil {
		return err
	}
	templates, err := templatesOf()
	if err != nil {
		return err
	}
	for name, t := range templates {
		gone, err := sd.RemoveTemplate(ctx, name, t.Content)
		if err != nil {
			return err
		}
		if gone {
			say("removed   %s", name)
		}
	}
	did, err := w.inventory.GiveBack(ctx)
	for _, d := range did {
		say("given back %s", d)
	}
	return err
}

// removeFiles takes away the files that belong to no unit: names that stay behind would
// be answered for as long as nobody looks. A plan that can't be read keeps nothing here.
func removeFiles(ctx context.Context, cfg config.Config, w wired, say func(string, ...any)) error {
	kept, unread := agent.KeptFiles(cfg.StateDir)
	if unread != nil {
		say("not read  %s", unread)
	}
	for cluster, files := range kept {
		drivers := w.Drivers(cluster, func(string) ([]byte, bool) { return nil, false })
		for _, f := range files {
			if err := drivers.File.Remove(ctx, f, 0); err != nil {
				return fmt.Errorf("remove %s: %w", f.File, err)
			}
			say("removed   %s", f.File)
		}
	}
	return nil
}

func templatesOf() (map[string]configs.Template, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return configs.AgentTemplates(program)
}

// Clear implements machine: what join wrote, and the agent's own memory, last.
func (m thisMachine) Clear(ctx context.Context, cfg config.Config) error {
	content, err := agentUnitFor(m, cfg)
	if err != nil {
		return err
	}
	sd := systemd.New(systemd.Options{})
	defer sd.Close()
	if _, err := sd.RemoveTemplate(ctx, agentUnit, content); err != nil {
		return err
	}
	for _, f := range []string{cfg.File, overrideFile(cfg), cfg.Socket} {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", f, err)
		}
		_ = os.Remove(filepath.Dir(f)) // only an empty folder goes
	}
	if err := os.RemoveAll(cfg.StateDir); err != nil {
		return fmt.Errorf("remove %s: %w", cfg.StateDir, err)
	}
	return nil
}
