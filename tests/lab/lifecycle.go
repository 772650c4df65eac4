package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/spf13/cobra"
)

func upCommand(name *string) *cobra.Command {
	options := lab.Options{Log: os.Stderr}
	pg := 3
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Boot the hosts (idempotent: those that run are kept)",
		Example: `  lab up                       infra1, pg1, pg2, pg3
  lab up --pg 5 --fresh        forget what ran, start five as just installed
  lab up --name two --subnet 10.10.11.0/24 --hosts infra1,pg1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options.Name = *name
			if len(options.Hosts) == 0 {
				options.Hosts = []string{"infra1"}
				for i := range pg {
					options.Hosts = append(options.Hosts, fmt.Sprintf("pg%d", i+1))
				}
			}
			l, err := lab.Up(cmd.Context(), options)
			if err != nil {
				return err
			}
			defer l.Close()
			return printStatus(cmd, l)
		},
	}
	cmd.Flags().IntVar(&pg, "pg", pg, "how many pgN hosts beside infra1")
	cmd.Flags().StringSliceVar(&options.Hosts, "hosts", nil, "exactly these hosts instead")
	cmd.Flags().StringVar(&options.Image, "image", "", "base image (default PGCTRL_LAB_IMAGE, or bookworm)")
	cmd.Flags().StringVar(&options.Subnet, "subnet", "", "the lab's /24, in which the machine is .1; without it PGCTRL_LAB_SUBNET, or 10.10.10.0/24")
	cmd.Flags().BoolVar(&options.Fresh, "fresh", false, "remove what an earlier run left first")
	return cmd
}

func downCommand(name *string) *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove hosts, networks and disks; the image stays",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return lab.Down(cmd.Context(), *name, force)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also when a running test holds the lab")
	return cmd
}

func statusCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Hosts, addresses, states, boot times, memory, cuts",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := lab.Attach(*name)
			if err != nil {
				return err
			}
			return printStatus(cmd, l)
		},
	}
}

func printStatus(cmd *cobra.Command, l *lab.Lab) error {
	all, err := l.Status(cmd.Context())
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tIP\tSTATE\tBOOT\tMEMORY\tCUT")
	for _, h := range all {
		boot := "-"
		if h.Boot > 0 {
			boot = fmt.Sprintf("%.1f s", h.Boot.Seconds())
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d MB\t%s\n", h.Name, h.IP, h.State, boot, h.Memory>>20, strings.Join(h.Cut, ", "))
	}
	return w.Flush()
}

func imageCommand() *cobra.Command {
	rebuild := false
	cmd := &cobra.Command{
		Use:     "image [NAME]",
		Short:   "Build a base image if the cache lacks it, and print its folder",
		Example: "  lab image bookworm --rebuild      for newer packages",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			image := "bookworm"
			if len(args) > 0 {
				image = args[0]
			}
			dir, err := lab.BuildImage(cmd.Context(), image, rebuild, lab.NewLog(os.Stderr))
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), dir)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&rebuild, "rebuild", false, "build anew even if it is there")
	return cmd
}

func secondCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "second [NAME ...]",
		Short:     "Build what Debian lacks (loki with promtail, minio) if the cache lacks it too, and print the folders",
		ValidArgs: lab.SecondNames(),
		Args:      cobra.OnlyValidArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			if len(names) == 0 {
				names = lab.SecondNames()
			}
			for _, name := range names {
				dir, err := lab.Second(cmd.Context(), name, lab.NewLog(os.Stderr))
				if err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), dir)
			}
			return nil
		},
	}
}
