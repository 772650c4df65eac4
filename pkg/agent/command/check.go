package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/pkg/agent/config"
	"github.com/pgctrl/pgctrl/pkg/host/inventory"
	"github.com/pgctrl/pgctrl/pkg/store"
)

// aptInstall begins the install commands that may be joined into one.
const aptInstall = "apt-get install -y "

func (a *app) checkCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "check", Short: "What this host has and what it lacks, with the command that installs it",
		Long: `Looks at the machine, at the programs that a cluster needs and at etcd. Exits with
1 when something is missing that no cluster can do without.`,
		Example: "  pgagent check\n  pgagent check -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(cmd)
			if err != nil {
				return err
			}
			rows := append(a.machine.Check(cmd.Context()), a.machine.CheckEtcd(cmd.Context(), cfg))
			if err := a.emit(format, rows, func() { a.printChecks(rows) }); err != nil {
				return err
			}
			missing := slices.ContainsFunc(rows, func(r inventory.CheckResult) bool { return !r.OK && !r.Optional })
			if missing {
				return errSaid
			}
			return nil
		},
	}
	formatFlag(c, &format)
	return c
}

func (a *app) printChecks(rows []inventory.CheckResult) {
	t := newTable("CHECK", "STATE", "DETAIL", "NEXT")
	t.paint = func(column int, cell string, s style) string {
		switch {
		case column == 1 && cell == "ok":
			return s.green(cell)
		case column == 1 && cell == "missing":
			return s.red(cell)
		}
		return cell
	}
	var packages []string
	for _, r := range rows {
		state := "ok"
		switch {
		case !r.OK && r.Optional:
			state = "optional"
		case !r.OK:
			state = "missing"
			if pkg, ok := strings.CutPrefix(r.Next, aptInstall); ok {
				packages = append(packages, pkg)
			}
		}
		t.row(r.Name, state, r.Detail, r.Next)
	}
	t.write(a.Out, a.style())
	if len(packages) > 0 {
		fmt.Fprintln(a.Err, "next:  "+aptInstall+strings.Join(packages, " "))
	}
}

// checkEtcd tries what the agent will need first.
func checkEtcd(ctx context.Context, cfg config.Config) inventory.CheckResult {
	r := inventory.CheckResult{Name: "etcd", Detail: strings.Join(cfg.Endpoints, ", ") + " answers"}
	c, err := store.Connect(ctx, store.Options{Endpoints: cfg.Endpoints, DialTimeout: 3 * time.Second})
	if err != nil {
		r.Detail, r.Next = err.Error(), "pgagent join --endpoints http://<host>:2379"
		return r
	}
	_ = c.Close() // only a look
	r.OK = true
	return r
}
