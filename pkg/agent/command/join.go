package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/configs"
	"github.com/pgctrl/pgctrl/pkg/agent/config"
)

// agentUnit is the agent's own unit.
const agentUnit = "pgagent.service"

func (a *app) joinCommand() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use: "join", Short: "Make this host a node: settings, unit, start",
		Long: `Looks whether etcd answers, writes the settings file, installs and starts
pgagent.service, and waits until the agent has announced the node. Running it again
changes nothing that is so already.`,
		Example: "  pgagent join --endpoints http://10.10.10.1:2379\n  pgagent join --endpoints http://10.10.10.1:2379 --node pg1 --address 10.10.10.11",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(cmd)
			if err != nil {
				return err
			}
			return a.join(cmd.Context(), cfg, wait)
		},
	}
	c.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait until the node is announced; 0 returns at once")
	return c
}

func (a *app) join(ctx context.Context, cfg config.Config, wait time.Duration) error {
	started := time.Now()
	if r := a.machine.CheckEtcd(ctx, cfg); !r.OK {
		return fmt.Errorf("%s. Nothing was written", r.Detail)
	}
	wrote, err := a.machine.Write(cfg.File, settingsFile(cfg))
	if err != nil {
		return fmt.Errorf("write %s: %w (run it as root)", cfg.File, err)
	}
	fmt.Fprintf(a.Err, "%s %s\n", done(wrote), cfg.File)
	unit, err := agentUnitFor(a.machine, cfg)
	if err != nil {
		return err
	}
	installed, err := a.machine.Install(ctx, agentUnit, unit)
	if err != nil {
		return fmt.Errorf("install %s: %w", agentUnit, err)
	}
	fmt.Fprintf(a.Err, "%s %s\n", done(installed), agentUnit)
	if err := a.machine.Start(ctx, agentUnit, wrote || installed); err != nil {
		return fmt.Errorf("start %s: %w; see: journalctl -u pgagent -n 50", agentUnit, err)
	}
	if wait == 0 {
		return nil
	}
	if err := a.awaitPresence(ctx, cfg, wait); err != nil {
		return err
	}
	fmt.Fprintf(a.Err, "joined    node %s is announced (%.1f s)\n", cfg.Node, time.Since(started).Seconds())
	return nil
}

func done(changed bool) string {
	if changed {
		return "wrote    "
	}
	return "unchanged"
}

// settingsFile keeps what the file said and adds what the flags say now. What the
// environment says is not written, it would outlive the variable; but for the
// endpoints, without which the agent would look for etcd on its own host.
func settingsFile(cfg config.Config) []byte {
	var b bytes.Buffer
	b.WriteString("# Settings of pgagent; flags and PGAGENT_* in the environment come first.\n# Every setting, its value and where it came from: pgagent config dump\n")
	for _, o := range cfg.Origins {
		said := strings.HasPrefix(o.From, "flag") || strings.HasPrefix(o.From, "file")
		switch {
		case o.Name == "endpoints" && o.From != "default":
			fmt.Fprintf(&b, "endpoints: [%s]\n", strings.Join(cfg.Endpoints, ", "))
		case said:
			fmt.Fprintf(&b, "%s: %q\n", o.Name, o.Value)
		}
	}
	return b.Bytes()
}

// agentUnitFor is the unit file with this program's path and settings file in it.
func agentUnitFor(m machine, cfg config.Config) ([]byte, error) {
	unit, err := configs.Unit(agentUnit)
	if err != nil {
		return nil, err
	}
	program, err := m.Program()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	with := program + " "
	if cfg.File != config.DefaultFile {
		with += "--config " + cfg.File + " "
	}
	return bytes.ReplaceAll(unit, []byte(configs.PackagedAgent+" "), []byte(with)), nil
}

// awaitPresence asks the agent until it speaks for the node.
func (a *app) awaitPresence(ctx context.Context, cfg config.Config, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := errors.New("it does not answer")
	for {
		st, err := dial(cfg.Socket).status(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			last = err
		case err == nil && st.Speaks && st.Announced:
			return nil
		case err == nil && st.Problem != "":
			last = errors.New(st.Problem)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the agent did not announce the node within %s: %w; see: journalctl -u pgagent -n 50", wait, last)
		case <-tick.C:
		}
	}
}
