package inventory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pgctrl/pgctrl/pkg/host/files"
	"github.com/pgctrl/pgctrl/pkg/host/systemd"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// debianCluster is a PostgreSQL cluster as Debian's postgresql-common keeps it:
// one is created and started by installing the package.
type debianCluster struct {
	version, name string
	port          int
	socket        string // the folder of its Unix socket
	data          string
	start         string // auto, manual or disabled
}

func (c debianCluster) unit() string { return "postgresql@" + c.version + "-" + c.name + ".service" }

func (c debianCluster) folder() string { return "/etc/postgresql/" + c.version + "/" + c.name }

// debianClusters lists them from their files; pg_lsclusters would start Perl for
// the same, each time.
func (h *Host) debianClusters() ([]debianCluster, error) {
	confs, err := filepath.Glob(h.path("/etc/postgresql/*/*/postgresql.conf"))
	if err != nil {
		return nil, fmt.Errorf("list PostgreSQL clusters: %w", err)
	}
	var out []debianCluster
	for _, conf := range confs {
		dir := filepath.Dir(conf)
		c := debianCluster{
			version: filepath.Base(filepath.Dir(dir)), name: filepath.Base(dir),
			port: 5432, socket: "/var/run/postgresql", start: "auto",
		}
		settings := map[string]string{}
		sources := append([]string{conf}, sorted(filepath.Join(dir, "conf.d", "*.conf"))...)
		for _, s := range sources {
			if err := readSettings(s, settings); err != nil {
				return nil, fmt.Errorf("read settings of cluster %s/%s: %w", c.version, c.name, err)
			}
		}
		c.data = settings["data_directory"]
		// ALTER SYSTEM's file wins over all others.
		if err := readSettings(h.path(filepath.Join(c.data, "postgresql.auto.conf")), settings); err != nil {
			return nil, fmt.Errorf("read settings of cluster %s/%s: %w", c.version, c.name, err)
		}
		if p, err := strconv.Atoi(settings["port"]); err == nil {
			c.port = p
		}
		if dirs := settings["unix_socket_directories"]; dirs != "" {
			c.socket = strings.TrimSpace(strings.Split(dirs, ",")[0])
		}
		if b, err := os.ReadFile(filepath.Join(dir, "start.conf")); err == nil {
			c.start = startWord(string(b))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read start.conf of cluster %s/%s: %w", c.version, c.name, err)
		}
		out = append(out, c)
	}
	return out, nil
}

func sorted(glob string) []string {
	found, err := filepath.Glob(glob)
	if err != nil {
		return nil // only a malformed pattern
	}
	slices.Sort(found)
	return found
}

// readSettings reads PostgreSQL's "key = 'value'  # comment", the last one wins.
func readSettings(path string, into map[string]string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		end := strings.IndexFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || r == '=' })
		if end <= 0 || line[0] == '#' {
			continue
		}
		key, value := strings.ToLower(line[:end]), strings.TrimLeft(line[end:], " \t=")
		if quoted, ok := strings.CutPrefix(value, "'"); ok {
			value, _, _ = strings.Cut(quoted, "'")
		} else {
			value, _, _ = strings.Cut(value, "#")
		}
		into[key] = strings.TrimSpace(value)
	}
	return nil
}

// startWord is the one word in a start.conf that is no comment.
func startWord(content string) string {
	for line := range strings.Lines(content) {
		line, _, _ = strings.Cut(line, "#")
		if w := strings.TrimSpace(line); w != "" {
			return w
		}
	}
	return "auto"
}

// takeCluster stops one of Debian's clusters for good if it wants one of the
// ports and holds nothing. Its data stay on disk either way.
func (h *Host) takeCluster(ctx context.Context, c debianCluster, ports []int) ([]string, error) {
	if !slices.Contains(ports, c.port) {
		return nil, nil
	}
	st, err := h.Systemd.Status(ctx, c.unit())
	if err != nil {
		return nil, err
	}
	up, err := h.clusterRuns(c, st)
	if err != nil {
		return nil, err
	}
	switch {
	case !up && c.start != "auto":
		return nil, nil
	case !up && !exists(h.path(filepath.Join(c.data, "PG_VERSION"))):
		return nil, nil // there are no data that it could be started with
	case !up:
		return nil, &plan.Refusal{
			Reason: observed.PortInUse,
			Message: fmt.Sprintf("PostgreSQL cluster %s/%s is down now, starts at the next boot on port %d and could not be looked into; "+
				"started once, it is stopped for good if it is empty", c.version, c.name, c.port),
			Next: fmt.Sprintf("pg_ctlcluster %s %s start", c.version, c.name),
		}
	}
	if err := h.mustBeEmpty(ctx, c); err != nil {
		return nil, err
	}
	if err := h.noteCluster(c); err != nil {
		return nil, err
	}
	// First not to start again, then to stop: killed in between, the next run finds
	// it up and goes on; the other way round it could not look into it any more.
	if err := h.disableCluster(c); err != nil {
		return nil, err
	}
	if err := h.Systemd.Stop(ctx, c.unit()); err != nil {
		return nil, err
	}
	if err := h.Systemd.DaemonReload(ctx); err != nil { // Debian's generator reads start.conf
		return nil, err
	}
	return []string{fmt.Sprintf("stopped PostgreSQL cluster %s/%s (port %d), which was empty, and set its start.conf to disabled; its data stay in %s",
		c.version, c.name, c.port, c.data)}, nil
}

// clusterRuns looks at the server's own process file too: pg_ctlcluster can run
// one without systemd knowing.
func (h *Host) clusterRuns(c debianCluster, st systemd.State) (bool, error) {
	if running(st) {
		return true, nil
	}
	held, err := h.Listening(c.port)
	if err != nil {
		return false, err
	}
	for _, l := range held {
		if l.Command == "postgres" && !isOurs(l.Unit) {
			return true, nil
		}
	}
	return false, nil
}

// disabledCluster is the start.conf of a cluster that was taken over.
const disabledCluster = "# Set by pgagent: this cluster was empty, and its port belongs to a cluster\n" +
	"# that pgctrl manages. Its data were not touched. See pg_createcluster(1).\ndisabled\n"

func (h *Host) disableCluster(c debianCluster) error {
	if err := files.AtomicWrite(h.path(c.folder()+"/start.conf"), []byte(disabledCluster), 0o644, ""); err != nil {
		return fmt.Errorf("disable PostgreSQL cluster %s/%s: %w", c.version, c.name, err)
	}
	return nil
}

// inventoryQuery lists whatever somebody put into a cluster. What initdb makes is
// left out by name or by its low object id.
const inventoryQuery = `
SELECT 'database ' || datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')
UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname <> 'postgres' AND rolname !~ '^pg_'
UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname NOT IN ('public', 'information_schema') AND nspname !~ '^pg_'
UNION ALL SELECT 'relation ' || c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
UNION ALL SELECT 'function ' || p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
UNION ALL SELECT 'extension ' || extname FROM pg_extension WHERE extname <> 'plpgsql'
UNION ALL SELECT 'large object ' || oid FROM pg_largeobject_metadata
UNION ALL SELECT 'replication slot ' || slot_name FROM pg_replication_slots
UNION ALL SELECT 'standby: it follows another server' WHERE pg_is_in_recovery()
LIMIT 20`

// mustBeEmpty refuses a cluster with anything in it, naming what it found.
func (h *Host) mustBeEmpty(ctx context.Context, c debianCluster) error {
	for _, database := range []string{"postgres", "template1"} {
		out, err := h.Run(ctx, "runuser", "-u", "postgres", "--", "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1",
			"-h", c.socket, "-p", strconv.Itoa(c.port), "-d", database, "-c", inventoryQuery)
		if ctx.Err() != nil {
			return fmt.Errorf("look into PostgreSQL cluster %s/%s: %w", c.version, c.name, ctx.Err())
		}
		words := strings.TrimSpace(string(out))
		if err != nil {
			return &plan.Refusal{
				Reason: observed.PortInUse,
				Message: fmt.Sprintf("PostgreSQL cluster %s/%s holds port %d and could not be looked into, so it is left alone: %v: %s",
					c.version, c.name, c.port, err, words),
				Next: fmt.Sprintf("runuser -u postgres -- psql -p %d -l", c.port),
			}
		}
		if words != "" {
			return &plan.Refusal{
				Reason: observed.PortInUse,
				Message: fmt.Sprintf("PostgreSQL cluster %s/%s holds port %d and is not empty: %s",
					c.version, c.name, c.port, strings.Join(strings.Split(words, "\n"), ", ")),
				Next: fmt.Sprintf("runuser -u postgres -- psql -p %d -l   (when it is not needed: systemctl stop %s && echo disabled > %s/start.conf)",
					c.port, strings.TrimSuffix(c.unit(), ".service"), c.folder()),
			}
		}
	}
	return nil
}
