package patroni

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgctrl/pgctrl/pkg/host/certificate"
	"github.com/pgctrl/pgctrl/pkg/host/postgres"
	"github.com/pgctrl/pgctrl/pkg/host/unit"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Server is what Prove asks of PostgreSQL; postgres.Config is one.
type Server interface {
	LoadedAt(ctx context.Context) (time.Time, error)
	FileErrors(ctx context.Context) ([]string, error)
}

// Options of a Program. The zero value of a field is its default.
type Options struct {
	// Binary is looked up in PATH: "patroni".
	Binary string
	// Postgres reaches a PostgreSQL; over its unix socket by default.
	Postgres func(postgres.Config) Server
	// Hup makes systemd reload the unit (SIGHUP). It is used when the REST API does
	// not take the file's own password or address, which are then what changed.
	Hup func(ctx context.Context, unit string) error
	// Journal returns the last lines of a unit, for messages.
	Journal func(ctx context.Context, unit string, lines int) string
	// ProveWithin bounds Prove: a main loop (10 s by default) and what it does.
	ProveWithin time.Duration
	// Settle is how long PostgreSQL may have reloaded without Patroni showing the
	// new file, before that counts as a refusal. The loop sets both within
	// milliseconds; somebody else may have had PostgreSQL reload meanwhile.
	Settle time.Duration
	Log    *zap.Logger
}

// Program says how Patroni's file is validated, reloaded and proved; one for all
// units. Patroni is never restarted by it.
type Program struct {
	o Options

	mu    sync.Mutex
	asked map[string]before // by unit, until the reload is proved
}

// before is what was so right before a reload.
type before struct {
	loadedAt time.Time // zero: PostgreSQL could not be asked
	errors   []string
}

var (
	_ unit.Program  = (*Program)(nil)
	_ unit.Outsider = (*Program)(nil)
)

// NewProgram makes a program.
func NewProgram(o Options) *Program {
	if o.Binary == "" {
		o.Binary = "patroni"
	}
	if o.Postgres == nil {
		o.Postgres = func(c postgres.Config) Server { return c }
	}
	if o.ProveWithin == 0 {
		o.ProveWithin = 20 * time.Second
	}
	if o.Settle == 0 {
		o.Settle = 3 * time.Second
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Program{o: o, asked: map[string]before{}}
}

// Restart reports that the agent may not start a Patroni that it finds stopped:
// people and operations do that.
func (p *Program) Restart() bool { return false }

// BeforeStart has nothing to prepare.
func (p *Program) BeforeStart(context.Context, plan.Unit) error { return nil }

// Validate judges the staged file by our own rules, and its PostgreSQL parameters by
// PostgreSQL. `patroni --validate-config` can't be used on a host: it fails when the
// ports are in use, which they are by the Patroni that runs.
func (p *Program) Validate(ctx context.Context, s unit.Staged) error {
	if _, err := exec.LookPath(p.o.Binary); err != nil {
		return &plan.Refusal{Reason: observed.MissingProgram, Message: "patroni is not installed on this node",
			Next: "apt-get install -y --no-install-recommends patroni"}
	}
	path, err := configPath(s.Unit)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(s.Paths[path])
	if err != nil {
		return fmt.Errorf("validate %s: %w", path, err)
	}
	doc, problems := checkLocal(content)
	if len(problems) == 0 {
		if problems, err = checkParameters(ctx, binDir(doc), fileParameters(doc)); err != nil {
			return err
		}
	}
	if len(problems) == 0 {
		if err := asPostgres.Check(shows(doc), s.Paths, time.Now()); err != nil {
			return err
		}
	}
	if len(problems) > 0 {
		return &plan.Refusal{Reason: observed.Rejected, Message: path + ": " + strings.Join(problems, "; "), Document: "postgres"}
	}
	return nil
}

func binDir(doc map[string]any) string {
	pg, _ := doc["postgresql"].(map[string]any)
	dir, _ := pg["bin_dir"].(string)
	return dir
}

// fileParameters are all parameters in a file: those it starts a cluster with, and
// the local ones, which win.
func fileParameters(doc map[string]any) map[string]any {
	at := func(m map[string]any, keys ...string) map[string]any {
		for _, k := range keys {
			m, _ = m[k].(map[string]any)
		}
		return m
	}
	return merged(at(doc, "bootstrap", "dcs", "postgresql", "parameters"), at(doc, "postgresql", "parameters"))
}

// Reload has Patroni read its file again, and remembers what Prove compares with.
func (p *Program) Reload(ctx context.Context, u plan.Unit) error {
	l, err := readLocal(u)
	if err != nil {
		return err
	}
	var b before
	pg := p.o.Postgres(l.Postgres)
	if b.loadedAt, err = pg.LoadedAt(ctx); err == nil {
		b.errors, err = pg.FileErrors(ctx)
	}
	if err != nil { // it is down, or not there yet; Patroni reloads all the same
		p.o.Log.Debug("PostgreSQL not asked before Patroni's reload", zap.String("unit", u.Unit), zap.Error(err))
	}
	p.mu.Lock()
	p.asked[u.Unit] = b
	p.mu.Unlock()

	err = l.Client.Reload(ctx)
	if err != nil && p.o.Hup != nil {
		err = p.o.Hup(ctx, u.Unit)
	}
	if err != nil {
		return refuse(err)
	}
	p.wake(ctx, l)
	return nil
}

// wake is only for speed: without it the loop comes round by itself.
func (p *Program) wake(ctx context.Context, l Local) {
	if err := l.Client.Wake(ctx); err != nil && !Answered(err, http.StatusUnauthorized) {
		p.o.Log.Debug("Patroni's loop not woken", zap.Error(err))
	}
}

// Prove waits until Patroni shows what the file in place says (see the package's
// documentation). After a start there is no PostgreSQL to prove anything by: a new
// member copies data first, possibly for hours.
func (p *Program) Prove(ctx context.Context, u plan.Unit) error {
	l, err := readLocal(u)
	if err != nil {
		return err
	}
	p.mu.Lock()
	b, reloaded := p.asked[u.Unit]
	delete(p.asked, u.Unit)
	p.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, p.o.ProveWithin)
	defer cancel()
	pg := p.o.Postgres(l.Postgres)
	var movedAt time.Time // when PostgreSQL was first seen to have reloaded
	for {
		missing, err := p.shown(ctx, l)
		moved := !reloaded || b.loadedAt.IsZero()
		if !moved {
			now, err := pg.LoadedAt(ctx)
			moved = err != nil || now.After(b.loadedAt) // gone meanwhile: nothing to wait for
		}
		if moved && movedAt.IsZero() {
			movedAt = time.Now()
		}
		switch {
		case err == nil && len(missing) == 0 && moved:
			if err := p.newErrors(ctx, u, pg, b, reloaded); err != nil || b.loadedAt.IsZero() || !l.Shows.Any() {
				return err
			}
			return certificate.Prove(ctx, strconv.Itoa(l.Postgres.Port), l.Shows)
		case err == nil && len(missing) > 0 && moved && reloaded && !b.loadedAt.IsZero() && time.Since(movedAt) > p.o.Settle:
			return p.rejected(u, "Patroni kept its old configuration: it does not show "+strings.Join(missing, ", ")+" of the new file")
		}
		select {
		case <-ctx.Done():
			if err == nil && len(missing) == 0 && len(l.Headers) > 0 {
				// It read the file and stopped halfway: its loop takes milliseconds
				// from the one to the other.
				return p.rejected(u, "Patroni took only a part of the new file: it has not had PostgreSQL reload")
			}
			return p.unproven(u, missing, moved, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// shown lists what the file says and Patroni does not show.
func (p *Program) shown(ctx context.Context, l Local) (missing []string, err error) {
	a, err := l.Client.Status(ctx)
	if err != nil {
		return nil, err
	}
	if a.Patroni.Scope != "" && a.Patroni.Scope != l.Scope {
		return nil, fmt.Errorf("at %s answers Patroni of %s, not %s", l.Client.URL, a.Patroni.Scope, l.Scope)
	}
	for k, v := range l.Headers {
		if a.Header.Get(k) != v {
			missing = append(missing, "header "+k)
		}
	}
	shownTags, _ := normal(a.Tags).(map[string]any)
	wantedTags, _ := normal(l.Tags).(map[string]any)
	for k, v := range wantedTags {
		if v == false { // Patroni leaves out the flags that are off
			v = nil
		}
		if shownTags[k] == false {
			delete(shownTags, k)
		}
		if python(shownTags[k]) != python(v) {
			missing = append(missing, "tag "+k)
		}
	}
	slices.Sort(missing)
	return missing, nil
}

var lineNumber = regexp.MustCompile(` line \d+`)

// newErrors refuses a file whose settings or access rules PostgreSQL can't read.
// Mistakes that were there before are not this file's.
func (p *Program) newErrors(ctx context.Context, u plan.Unit, pg Server, b before, reloaded bool) error {
	if !reloaded || b.loadedAt.IsZero() {
		return nil
	}
	now, err := pg.FileErrors(ctx)
	if err != nil {
		p.o.Log.Debug("PostgreSQL not asked after Patroni's reload", zap.String("unit", u.Unit), zap.Error(err))
		return nil
	}
	old := map[string]bool{}
	for _, e := range b.errors {
		old[lineNumber.ReplaceAllString(e, "")] = true
	}
	var found []string
	for _, e := range now {
		if !old[lineNumber.ReplaceAllString(e, "")] {
			found = append(found, e)
		}
	}
	if len(found) > 0 {
		return &plan.Refusal{Reason: observed.Rejected, Document: blamed(found),
			Message: "PostgreSQL does not take what Patroni wrote: " + strings.Join(found, "; ")}
	}
	return nil
}

var ruleOf = regexp.MustCompile(`^pg_hba\.conf line \d+: (hba/[^ :]+): `)

// blamed is the document that a complaint is about: a line of pg_hba.conf says its own.
func blamed(found []string) string {
	if m := ruleOf.FindStringSubmatch(found[0]); m != nil {
		return m[1]
	}
	return ""
}

func (p *Program) rejected(u plan.Unit, msg string) error {
	if p.o.Journal != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // Prove's own time may be over
		defer cancel()
		if words := lastError(p.o.Journal(ctx, u.Unit, 60)); words != "" {
			msg += ": " + words
		}
	}
	return &plan.Refusal{Reason: observed.Rejected, Message: msg, Next: "journalctl -n 60 -u " + u.Unit}
}

// lastError is the last line of the last Python traceback in a log.
func lastError(log string) string {
	last, in := "", false
	for line := range strings.Lines(log) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "Traceback "):
			in = true
		case in && line != "" && !strings.HasPrefix(line, " "):
			last, in = line, false
		}
	}
	return last
}

func (p *Program) unproven(u plan.Unit, missing []string, moved bool, err error) error {
	why := "Patroni has not reloaded"
	switch {
	case err != nil && !errors.Is(err, context.DeadlineExceeded):
		why = err.Error()
	case len(missing) > 0:
		why = "Patroni does not show " + strings.Join(missing, ", ") + " of the new file"
	case !moved:
		why = "PostgreSQL has not been told to reload"
	}
	return &plan.Refusal{Reason: observed.NotAnswering,
		Message: fmt.Sprintf("%s: not proved within %s: %s", u.Unit, p.o.ProveWithin, why), Next: "systemctl status " + u.Unit}
}

// Pending reports whether PostgreSQL of a unit waits for a restart.
func (p *Program) Pending(ctx context.Context, u plan.Unit) (bool, error) {
	l, err := readLocal(u)
	if err != nil {
		return false, err
	}
	a, err := l.Client.Status(ctx)
	if err != nil {
		return false, refuse(err)
	}
	return a.PendingRestart, nil
}
