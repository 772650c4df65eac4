package patroni

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// pgLog is how PostgreSQL begins a line on standard error before it is configured.
var pgLog = regexp.MustCompile(`^.*?\b(LOG|FATAL|ERROR|HINT|DETAIL|WARNING): +`)

// checkParameters asks the PostgreSQL program itself whether it would take the
// parameters: `postgres -C` reads a configuration file, prints one value and ends,
// before it touches a data directory. Neither Patroni nor a running PostgreSQL says
// no to a bad value, they go on with the old one; and at its next start PostgreSQL
// refuses to run.
func checkParameters(ctx context.Context, binDir string, params map[string]any) ([]string, error) {
	if len(params) == 0 {
		return nil, nil
	}
	if wrong := checkNames(params); len(wrong) > 0 {
		return wrong, nil
	}
	program := filepath.Join(binDir, "postgres")
	if _, err := os.Stat(program); binDir == "" || err != nil {
		version := filepath.Base(filepath.Dir(binDir))
		return nil, &plan.Refusal{Reason: observed.MissingProgram, Message: "there is no " + program,
			Next: "apt-get install -y --no-install-recommends postgresql-" + version}
	}
	dir, err := os.MkdirTemp("", "pgctrl-check-")
	if err != nil {
		return nil, fmt.Errorf("check parameters: %w", err)
	}
	defer os.RemoveAll(dir)
	conf := filepath.Join(dir, "postgresql.conf")
	if err := os.WriteFile(conf, []byte(parametersFile(params)), 0o600); err != nil {
		return nil, fmt.Errorf("check parameters: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// -C has to come first: only then may root run it.
	cmd := exec.CommandContext(ctx, program, "-C", "config_file", "-D", dir)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil, nil
	case ctx.Err() != nil || !errors.As(err, &exit):
		return nil, fmt.Errorf("check parameters: run %s: %w", program, err)
	}
	return named(parameterErrors(string(out), conf), describe(ctx, program)), nil
}

var parameterName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*$`)

// checkNames keeps out of the file what is no parameter but syntax: an include
// would have PostgreSQL read any file as root.
func checkNames(params map[string]any) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if !parameterName.MatchString(name) || strings.HasPrefix(strings.ToLower(name), "include") {
			out = append(out, fmt.Sprintf("postgresql.parameters: %q is not the name of a parameter", name))
		}
	}
	return out
}

// parametersFile writes one parameter a line, in order, as Patroni does: every
// value quoted.
func parametersFile(params map[string]any) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if params[name] == nil {
			continue
		}
		fmt.Fprintf(&b, "%s = '%s'\n", name, strings.ReplaceAll(python(params[name]), "'", "''"))
	}
	return b.String()
}

// parameterErrors keeps PostgreSQL's words and leaves out where our throwaway file
// was.
func parameterErrors(out, conf string) []string {
	var found []string
	in := regexp.MustCompile(` in file ` + regexp.QuoteMeta(`"`+conf+`"`) + `( near end of)? line \d+`)
	for line := range strings.Lines(out) {
		line = in.ReplaceAllString(pgLog.ReplaceAllString(strings.TrimSpace(line), ""), "")
		if line == "" || strings.HasPrefix(line, "skipping missing configuration file") || strings.Contains(line, conf) {
			continue
		}
		found = append(found, "PostgreSQL: "+line)
	}
	if len(found) == 0 {
		found = []string{"PostgreSQL: " + strings.TrimSpace(out)}
	}
	return found
}
