package scratch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/pgctrl/pgctrl/pkg/host/postgres"
	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const (
	// askEvery is how often PostgreSQL is asked whether it is through.
	askEvery = 200 * time.Millisecond
	// autoConf is what ALTER SYSTEM set in the cluster. It is none of a scratch PostgreSQL's
	// business, and would win over its settings.
	autoConf = "postgresql.auto.conf"
)

// recover runs PostgreSQL until it is promoted, asks it, shuts it down, and reads every page.
func (s *stage) recover(ctx context.Context) error {
	var f fetched
	if !s.read(fetchedFile, &f) {
		return fmt.Errorf("%s has nothing that was fetched", s.Dir)
	}
	s.say(nil, recovering)
	c, err := s.controldata(ctx)
	if err != nil {
		return err
	}
	if err := s.prepare(c); err != nil {
		return err
	}
	began := time.Now()
	r, err := s.postgres(ctx, f)
	if err != nil {
		return err
	}
	result := Result{
		Label: s.Backup, Size: f.Size, System: r.System, Timeline: r.Timeline, LSN: r.LSN, At: r.At.UTC(), Heartbeat: r.Heartbeat.UTC(),
		Fetch: f.Seconds, Replay: r.promoted.Sub(began).Seconds(),
	}
	if r.At.IsZero() {
		result.At = time.Time{}
	}
	if r.Heartbeat.IsZero() {
		result.Heartbeat = time.Time{}
	}
	if c, err = s.controldata(ctx); err != nil {
		return err
	}
	if !c.cleanly() {
		return &plan.Refusal{Reason: observed.RecoveryFailed, Message: fmt.Sprintf("PostgreSQL did not shut down cleanly; the control file says %q", c["Database cluster state"])}
	}
	if c.checksums() {
		s.say(nil, reading)
		began = time.Now()
		if out, err := s.output(ctx, s.program("pg_checksums"), "--check", "-D", s.data()); err != nil {
			return &plan.Refusal{Reason: observed.RecoveryFailed, Message: fmt.Sprintf("pages are not as their checksums say: %v %s", err, out),
				Next: fmt.Sprintf("journalctl -n 60 -u %s (on %s)", plan.ScratchUnit(s.Cluster), s.Node)}
		}
		result.Checksums, result.Check = true, time.Since(began).Seconds()
	}
	result.Ended = time.Now().UTC()
	if err := s.tidy(); err != nil {
		return err
	}
	return writeWhole(s.file(resultFile), stated{s.Step, &result})
}

// prepare writes what PostgreSQL reads, and takes away what it must not.
func (s *stage) prepare(c control) error {
	for name, content := range map[string]string{"postgresql.conf": settings(s.job, c), "hba.conf": hba, "ident.conf": "", "data/recovery.signal": ""} {
		if err := os.WriteFile(s.file(name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("prepare the recovery: %w", err)
		}
	}
	if err := os.Mkdir(s.socket(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("prepare the recovery: %w", err)
	}
	if err := os.Remove(s.data() + "/standby.signal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("prepare the recovery: %w", err)
	}
	err := os.Rename(s.data()+"/"+autoConf, s.file(autoConf))
	if err == nil {
		err = os.WriteFile(s.data()+"/"+autoConf, nil, 0o600)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("prepare the recovery: %w", err)
	}
	return nil
}

// tidy puts back what is the data's own, and leaves nothing else.
func (s *stage) tidy() error {
	if err := os.Rename(s.file(autoConf), s.data()+"/"+autoConf); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("tidy up: %w", err)
	}
	left := []string{s.wal(), s.socket()}
	if !s.Keep {
		left = append(left, s.data())
	}
	for _, path := range left {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("tidy up: %w", err)
		}
	}
	return nil
}

// promoted is what a database says once it is, and when that was.
type promoted struct {
	postgres.Recovered
	promoted time.Time
}

// postgres runs PostgreSQL on the data until it is promoted, asks it, and shuts it down.
func (s *stage) postgres(ctx context.Context, f fetched) (promoted, error) {
	cmd := exec.Command(s.program("postgres"), "-D", s.data(), "-c", "config_file="+s.file("postgresql.conf"))
	cmd.Env, cmd.Dir = cleanEnvironment, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	lines, err := cmd.StderrPipe()
	if err != nil {
		return promoted{}, fmt.Errorf("start PostgreSQL: %w", err)
	}
	cmd.Stdout = s.log
	if err := cmd.Start(); err != nil {
		return promoted{}, fmt.Errorf("start PostgreSQL: %w", err)
	}
	var said said
	ended := make(chan error, 1)
	go func() {
		s.hear(lines, &said)
		ended <- cmd.Wait()
	}()
	r, err := s.ask(ctx, ended, f)
	if errors.Is(err, errEnded) {
		return promoted{}, said.failure(s.job, f)
	}
	// A fast shutdown ends with a checkpoint; one that a stop is in the way of may not get to it.
	_ = cmd.Process.Signal(syscall.SIGINT)
	select {
	case over := <-ended:
		if over != nil && err == nil {
			err = fmt.Errorf("shut PostgreSQL down: %w", over)
		}
	case <-ctx.Done():
		select {
		case <-ended:
		case <-time.After(killAfter):
			_ = cmd.Process.Signal(syscall.SIGQUIT)
			<-ended
		}
	}
	if ctx.Err() != nil {
		return promoted{}, context.Cause(ctx)
	}
	return r, err
}

// hear reads what PostgreSQL says to its end, and hands it on to the journal.
func (s *stage) hear(lines io.Reader, said *said) {
	in := bufio.NewScanner(lines)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		fmt.Fprintln(s.log, in.Text())
		said.hear(in.Text())
	}
	_, _ = io.Copy(io.Discard, lines) // after a line that is longer than anything
}

// errEnded: PostgreSQL ended by itself.
var errEnded = errors.New("PostgreSQL has ended")

// ask waits until PostgreSQL is promoted and asks what it has.
func (s *stage) ask(ctx context.Context, ended chan error, f fetched) (promoted, error) {
	db := postgres.Config{Dir: s.socket(), Timeout: time.Minute}
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return promoted{}, context.Cause(ctx)
		case over := <-ended:
			ended <- over
			return promoted{}, errEnded
		case <-tick.C:
		}
		r, err := db.Recovered(ctx, s.Heartbeat)
		switch {
		case errors.Is(err, postgres.ErrRecovering):
			continue
		case err != nil:
			return promoted{}, err
		case s.Heartbeat != "" && r.Heartbeat.IsZero():
			no := &plan.Refusal{Reason: observed.RecoveryFailed, Next: "pgctrl backup check " + s.Cluster, Message: fmt.Sprintf(
				"the heartbeat %s, which was committed and archived, is not in what was recovered up to %s", s.Heartbeat, r.LSN)}
			if f.Gap != "" {
				no.Message += ": " + f.lacks()
			}
			return promoted{}, no
		}
		return promoted{r, time.Now()}, nil
	}
}
