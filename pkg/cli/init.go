package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgctrl/pgctrl/configs"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
)

const (
	etcdUnit   = "pgctrl-etcd.service"
	serverUnit = "pgctrl-server.service"
	// packagedProgram is where the unit files say that the program is.
	packagedProgram = "/usr/bin/pgctrl"
	etcdPort        = 2379
)

func (a *app) initCommand() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use: "init", Short: "Set up etcd and the server on this host",
		Long: `Writes ` + DefaultConfigFile + `, installs and starts the units
pgctrl-etcd and pgctrl-server, and waits until both answer. With --endpoints it
uses an etcd that exists (3.6.14, 3.7.1 or later) and sets up the server alone.
Running it again changes nothing that is so already.`,
		Example: `  pgctrl init
  pgctrl init --advertise 10.10.10.1
  pgctrl init --endpoints http://10.0.0.5:2379,http://10.0.0.6:2379,http://10.0.0.7:2379`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.initHost(cmd.Context(), a.settings.existingEtcd(), wait)
		},
	}
	c.Flags().DurationVar(&wait, "wait", time.Minute, "how long to wait until both answer")
	return withSettings(c, "etcd.data_dir", "etcd.advertise", "etcd.listen")
}

// existingEtcd reports whether the settings mean an etcd that somebody else runs:
// endpoints were given, and not by an earlier init that set up the embedded one.
func (s Settings) existingEtcd() bool {
	if strings.HasPrefix(s.source("endpoints"), "flag") {
		return true
	}
	return s.source("endpoints") != sourceDefault && s.source("etcd.advertise") == sourceDefault
}

func (a *app) initHost(ctx context.Context, existing bool, wait time.Duration) error {
	if existing {
		// Asked before anything is written: an etcd too old is refused here.
		if _, err := a.connect(ctx); err != nil {
			return err
		}
	} else if err := a.planEtcd(ctx); err != nil {
		return err
	}
	file := a.settingsFile(existing)
	changed, err := a.deps.Host.Write(a.settings.File, file)
	if err != nil {
		return fail("write %s: %s", a.settings.File, hostWords(err)).then("run it as root")
	}
	a.note("%s %s", done(changed, "wrote    "), a.settings.File)
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if !existing {
		if err := a.startUnit(ctx, etcdUnit, changed); err != nil {
			return err
		}
		if err := a.awaitAnswer(ctx, etcdUnit, a.etcdAnswers); err != nil {
			return err
		}
		a.note("etcd      %s answers (%s)", strings.Join(a.settings.Endpoints, ", "), a.elapsed())
	}
	if err := a.startUnit(ctx, serverUnit, changed); err != nil {
		return err
	}
	if err := a.awaitAnswer(ctx, serverUnit, a.serverAnswers); err != nil {
		return err
	}
	a.note("server    %s is ready (%s)", a.serverURL("/readyz"), a.elapsed())
	a.sayNext()
	return nil
}

func done(changed bool, verb string) string {
	if changed {
		return verb
	}
	return "unchanged"
}

// planEtcd settles where the embedded etcd is reached, and refuses a host on which
// somebody else's has the port.
func (a *app) planEtcd(ctx context.Context) error {
	address := a.settings.get("etcd.advertise")
	if address == "" {
		var err error
		if address, err = a.deps.Host.Address(); err != nil {
			return fail("find this host's address: %s", lastWords(err)).then("pgctrl init --advertise <address>")
		}
	}
	if net.ParseIP(address) == nil {
		return fail("--advertise: expected an IP address, found %q", address)
	}
	a.settings.values["etcd.advertise"] = origin{address, "init"}
	a.settings.Endpoints = []string{"http://" + net.JoinHostPort(address, itoa(etcdPort))}
	if ours, err := a.deps.Host.Active(ctx, etcdUnit); err != nil {
		return fail("ask systemd: %s", hostWords(err)).then("run it as root, on a host with systemd")
	} else if ours || !a.deps.Host.Taken(etcdPort) {
		return nil
	}
	if debian, err := a.deps.Host.Active(ctx, "etcd.service"); err == nil && debian {
		return fail("the distribution's etcd service holds port %d. Nothing was changed.", etcdPort).
			then("systemctl disable --now etcd (then pgctrl init again)").
			then("pgctrl init --endpoints http://127.0.0.1:%d (to use it; it must be 3.6.14, 3.7.1 or later)", etcdPort)
	}
	return fail("another program listens on port %d. Nothing was changed.", etcdPort).
		then("ss -ltnp 'sport = :%d' (shows which)", etcdPort).
		then("pgctrl init --endpoints http://127.0.0.1:%d (if it is an etcd you want to use)", etcdPort)
}

// settingsFile is what the settings file must say: whatever it said before, and what
// this init decided.
func (a *app) settingsFile(existing bool) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Settings of pgctrl; flags and PGCTRL_* in the environment come first.\n# Every setting, its value and where it came from: pgctrl config dump\n")
	fmt.Fprintf(&b, "endpoints: [%s]\n", strings.Join(a.settings.Endpoints, ", "))
	section := ""
	for _, d := range declared {
		o := a.settings.values[d.name]
		group, name, nested := strings.Cut(d.name, ".")
		if d.name == "endpoints" || o.source == sourceDefault || existing && group == "etcd" {
			continue
		}
		if strings.HasPrefix(o.source, "environment") {
			continue // it would outlive the variable
		}
		if !nested {
			fmt.Fprintf(&b, "%s: %s\n", d.name, quoted(o.value))
			continue
		}
		if group != section {
			fmt.Fprintf(&b, "%s:\n", group)
			section = group
		}
		fmt.Fprintf(&b, "  %s: %s\n", name, quoted(o.value))
	}
	return b.Bytes()
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

func (a *app) startUnit(ctx context.Context, unit string, again bool) error {
	content, err := configs.Unit(unit)
	if err != nil {
		return err
	}
	program, err := a.deps.Host.Program()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	content = bytes.ReplaceAll(content, []byte(packagedProgram+" "), []byte(program+" "))
	if a.settings.File != DefaultConfigFile {
		content = bytes.ReplaceAll(content, []byte(program+" "), []byte(program+" --config "+a.settings.File+" "))
	}
	changed, err := a.deps.Host.Install(ctx, unit, content)
	if err != nil {
		return fail("install %s: %s", unit, hostWords(err)).then("run it as root, on a host with systemd")
	}
	if err := a.deps.Host.Run(ctx, unit, again || changed); err != nil {
		return fail("start %s: %s", unit, hostWords(err)).then("journalctl -u %s -n 50", unit)
	}
	a.note("%s %s", done(changed, "installed"), unit)
	return nil
}

// hostWords is what the host said, without layers; of a failed unit the last line
// of its journal.
func hostWords(err error) string {
	var job *systemd.JobError
	if errors.As(err, &job) {
		lines := strings.Split(strings.TrimSpace(job.Tail), "\n")
		if last := lines[len(lines)-1]; last != "" {
			return job.Result + ": " + last
		}
		return job.Result
	}
	return lastWords(err)
}

// awaitAnswer asks until the answer is good or the time is up.
func (a *app) awaitAnswer(ctx context.Context, unit string, ask func(context.Context) error) error {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fail("%s does not answer: %s", unit, lastWords(err)).then("journalctl -u %s -n 50", unit)
		case <-t.C:
		}
	}
}

func (a *app) etcdAnswers(ctx context.Context) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	_, _, err = c.Get(ctx, a.settings.Layout.StoreKey())
	return err
}

func (a *app) serverAnswers(ctx context.Context) error {
	status, body, err := a.deps.Host.Asks(ctx, a.serverURL("/readyz"))
	if err != nil {
		return err
	}
	if status != 200 {
		return errors.New(strings.TrimSpace(body))
	}
	return nil
}

func (a *app) serverURL(path string) string {
	host, port, err := net.SplitHostPort(a.settings.get("server.listen"))
	if err != nil || host == "" || net.ParseIP(host).IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + path
}

func (a *app) elapsed() string { return fmt.Sprintf("%.1f s", a.deps.Now().Sub(a.start).Seconds()) }

func (a *app) sayNext() {
	a.say("ready. Next, on every host that shall run PostgreSQL:")
	a.say("  %s", a.out.bold(a.joinCommand()))
	a.say("then here:")
	a.say("  %s", a.out.bold("pgctrl node list"))
	a.say("  %s", a.out.bold("pgctrl create <cluster> --on <node>,<node>,<node>"))
}
