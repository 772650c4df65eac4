package pgbouncer

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/pgctrl/pgctrl/pkg/patroni"
)

// resumer ends what people paused at one console.
type resumer struct {
	w *Watcher
	c *console
	// shows: SHOW STATE tells of a pause of everything (1.19 and later).
	shows bool
	// tried is when a pause that can't be seen was last tried to be ended.
	tried time.Time
}

// blindly is how often 1.18 is told to resume on suspicion. A pooler that was not
// paused logs three lines for it.
const blindly = 5 * time.Second

var (
	statesSince = patroni.ParseVersion("1.19.0")
	number      = regexp.MustCompile(`\d+(\.\d+)+`)
)

// begin ends every pause, seen or not: who made it may be gone for long.
func (r *resumer) begin(ctx context.Context) error {
	shown, err := r.c.ask(ctx, "SHOW VERSION")
	if err != nil {
		return err
	}
	for _, s := range shown {
		r.shows = !patroni.ParseVersion(number.FindString(s["version"])).Less(statesSince)
	}
	if !r.shows && !r.off() {
		if _, err := r.resume(ctx, "RESUME"); err != nil {
			return err
		}
	}
	_, err = r.look(ctx)
	return err
}

func (r *resumer) off() bool {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	return r.w.handsOff
}

// look finds what is paused and ends it, and reports whether there was anything.
func (r *resumer) look(ctx context.Context) (found bool, err error) {
	databases, err := r.c.ask(ctx, "SHOW DATABASES")
	if err != nil || r.off() {
		return false, err
	}
	for _, d := range databases {
		for _, by := range []struct{ column, word, command string }{{"paused", "paused", "RESUME"}, {"disabled", "disabled", "ENABLE"}} {
			if d[by.column] != "1" {
				continue
			}
			did, err := r.resume(ctx, fmt.Sprintf("%s %q", by.command, d["name"]))
			if err != nil {
				return found, err
			}
			if did {
				found = true
				r.note(Resumed{What: "database " + d["name"], Was: by.word})
			}
		}
	}
	all, err := r.lookAtAll(ctx)
	return found || all, err
}

// lookAtAll ends a pause of everything, and of databases that are shown nowhere: one
// that was made for a client (by the line for all) vanishes from SHOW DATABASES when it
// has no connection, and stays paused (1.18, measured).
func (r *resumer) lookAtAll(ctx context.Context) (found bool, err error) {
	waiting, servers, err := r.waiting(ctx)
	if err != nil {
		return false, err
	}
	all := false
	if r.shows {
		states, err := r.c.ask(ctx, "SHOW STATE")
		if err != nil {
			return false, err
		}
		for _, s := range states {
			all = all || (s["key"] == "paused" || s["key"] == "suspended") && s["value"] == "yes"
		}
	}
	// Clients wait for many reasons, most of them while PostgreSQL works.
	suspicious := len(waiting) > 0 && (!servers || time.Since(r.tried) >= blindly)
	if suspicious {
		r.tried = time.Now()
	}
	if all || suspicious && !r.shows {
		if found, err = r.resume(ctx, "RESUME"); err != nil {
			return false, err
		}
		if found {
			r.note(Resumed{What: "pooler", Was: "paused"})
		}
	}
	for _, name := range waiting {
		if !suspicious || name == "" {
			continue
		}
		did, err := r.resume(ctx, fmt.Sprintf("RESUME %q", name))
		if err != nil {
			return found, err
		}
		if did {
			found = true
			r.note(Resumed{What: "database " + name, Was: "paused"})
		}
	}
	return found, nil
}

// waiting are the databases that clients wait for, and "" for clients that wait to be
// let in; servers: there is a connection to PostgreSQL, so not everything is paused.
// A pause of everything that is not complete keeps those in use.
func (r *resumer) waiting(ctx context.Context) (databases []string, servers bool, err error) {
	pools, err := r.c.ask(ctx, "SHOW POOLS")
	if err != nil {
		return nil, false, err
	}
	lists, err := r.c.ask(ctx, "SHOW LISTS")
	if err != nil {
		return nil, false, err
	}
	for _, p := range pools {
		if p["cl_waiting"] != "0" && !slices.Contains(databases, p["database"]) {
			databases = append(databases, p["database"])
		}
		for _, column := range []string{"sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login"} {
			servers = servers || p[column] != "0"
		}
	}
	for _, l := range lists {
		if l["list"] == "login_clients" && l["items"] != "0" {
			databases = append(databases, "")
		}
	}
	return databases, servers, nil
}

// resume sends a command. That there was nothing to resume is no error.
func (r *resumer) resume(ctx context.Context, command string) (did bool, err error) {
	_, err = r.c.ask(ctx, command)
	if err != nil && words(err) != "" {
		return false, nil
	}
	return err == nil, err
}

func (r *resumer) note(what Resumed) {
	const enough = 100 // when nobody asks
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if len(r.w.resumed) < enough {
		r.w.resumed = append(r.w.resumed, what)
	}
}

// ResumeAll ends every pause of every pooler of this host, whoever made it, and says
// of which. It needs no agent.
func ResumeAll(ctx context.Context, runDir string) (did []string, err error) {
	dirs, err := filepath.Glob(filepath.Join(runDir, "*"))
	if err != nil {
		return nil, fmt.Errorf("list poolers: %w", err)
	}
	var first error
	for _, dir := range dirs {
		said, err := Resume(ctx, dir)
		did = append(did, said...)
		if err != nil && first == nil {
			first = err
		}
	}
	return did, first
}

// Resume ends every pause of the pooler whose socket is in the folder.
func Resume(ctx context.Context, dir string) (did []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, AnswerWithin)
	defer cancel()
	c, err := open(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer c.close()
	w := NewWatcher(dir, nil)
	r := resumer{w: w, c: c}
	if all, err := r.resume(ctx, "RESUME"); err != nil {
		return nil, err
	} else if all {
		r.note(Resumed{What: "pooler", Was: "paused"})
	}
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	for _, s := range w.Repairs() {
		did = append(did, fmt.Sprintf("%s: %s was %s", filepath.Base(dir), s.What, s.Was))
	}
	return did, nil
}
