package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

// find attaches to the lab and looks up a host, or names those there are.
func find(name, host string) (*lab.Lab, *lab.Host, error) {
	l, err := lab.Attach(name)
	if err != nil {
		return nil, nil, err
	}
	h := l.Host(host)
	if h == nil && host == l.Machine().Name {
		h = l.Machine()
	}
	if h == nil {
		var names []string
		for _, h := range l.Hosts() {
			names = append(names, h.Name)
		}
		return nil, nil, fmt.Errorf("host %q: not in lab %s, which has %v", host, name, names)
	}
	return l, h, nil
}

func execCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:     "exec HOST [-- COMMAND ARGUMENT...]",
		Short:   "Run a command on a host as root, or a shell; exits as the command does",
		Example: "  lab exec pg1\n  lab exec pg1 -- runuser -u postgres -- psql -c 'select 1'",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, h, err := find(*name, args[0])
			if err != nil {
				return err
			}
			argv := args[1:]
			if len(argv) == 0 {
				argv = []string{"bash", "-l"}
			}
			err = h.Interactive(cmd.Context(), argv...).Run()
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() > 0 {
				return exitCode(exit.ExitCode())
			}
			return err
		},
	}
}

func logsCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:     "logs [HOST UNIT]",
		Short:   "A unit's last 80 journal lines; without arguments what explains a failure, of all hosts",
		Example: "  lab logs pg1 'patroni@*'",
		Args: cobra.MatchAll(cobra.MaximumNArgs(2), func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return fmt.Errorf("want HOST UNIT, or nothing")
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				l, err := lab.Attach(*name)
				if err == nil {
					l.Diagnose(cmd.Context(), cmd.OutOrStdout())
				}
				return err
			}
			_, h, err := find(*name, args[0])
			if err == nil {
				fmt.Fprint(cmd.OutOrStdout(), h.Journal(cmd.Context(), args[1]))
			}
			return err
		},
	}
}

func installCommand(name *string) *cobra.Command {
	to, hosts := "/usr/local/bin", []string{}
	cmd := &cobra.Command{
		Use:     "install FILE...",
		Short:   "Copy programs onto the hosts (mode 0755, replaced atomically)",
		Example: "  lab install bin/pgctrl bin/pgagent\n  lab install --hosts pg1 --to /root script.sh",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Attach(*name)
			if err != nil {
				return err
			}
			targets := l.Hosts()
			if len(hosts) > 0 {
				targets = nil
				for _, host := range hosts {
					_, h, err := find(*name, host)
					if err != nil {
						return err
					}
					targets = append(targets, h)
				}
			}
			group, ctx := errgroup.WithContext(cmd.Context())
			for _, h := range targets {
				group.Go(func() error {
					for _, file := range args {
						if err := h.CopyFile(ctx, file, filepath.Join(to, filepath.Base(file)), 0o755); err != nil {
							return err
						}
					}
					return nil
				})
			}
			return group.Wait()
		},
	}
	cmd.Flags().StringVar(&to, "to", to, "folder on the hosts")
	cmd.Flags().StringSliceVar(&hosts, "hosts", hosts, "only these hosts")
	return cmd
}
