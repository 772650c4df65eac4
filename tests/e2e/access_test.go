package e2e

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgctrl/pgctrl/tests/fleet"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
	"github.com/pgctrl/pgctrl/tests/probe"
)

// accessPorts are all the ways to a cluster, and whether a pooler is on it.
var accessPorts = []struct {
	port   int
	pooled bool
}{{5432, false}, {6432, true}, {5433, true}, {5434, true}, {5436, false}, {5438, false}}

// The three who try: one with its password, the same with another one, and one who
// could log in, did so everywhere, and was dropped.
const (
	accessUser    = "access"
	accessDropped = "access_gone"
	accessSecret  = "the right one"
)

// place is what answers on the other side: the start of its postmaster tells members
// apart also where a pooler on the same host hides their address.
const place = `select format('%s|%s|%s', case when pg_is_in_recovery() then 'replica' else 'primary' end,
  case when inet_client_addr() is null then 'pooled' else 'direct' end, pg_postmaster_start_time())`

// refusals are what who is not let in is told, by whether a pooler says it: PgBouncer
// 1.18 tells a user who does not exist apart, PostgreSQL does not.
var refusals = map[bool]*regexp.Regexp{
	false: regexp.MustCompile("password authentication failed for user"),
	true:  regexp.MustCompile("authentication failed|no such user"),
}

// matrix is one look at every cell.
type matrix struct {
	starts map[string]string // a member's pg_postmaster_start_time
	leader string
	down   *lab.Host // a host that is switched off
	// infra are the nodes whose dnsmasq is asked what a name leads to.
	infra []*lab.Host
}

// named is a name of the cluster, and the host or hosts that it must lead to.
type named struct {
	name string
	to   []*lab.Host
}

// names are all that clients may know the cluster by.
func (m matrix) names() []named {
	out := []named{{cluster, []*lab.Host{{Name: "the virtual address", IP: vip}}}}
	var replicas []*lab.Host
	for i, n := range hosts.Nodes {
		member := fmt.Sprintf("%s-%d", cluster, i+1)
		out = append(out, named{member, []*lab.Host{n}})
		if n != m.down && member != m.leader {
			replicas = append(replicas, n)
		}
	}
	return append(out, named{cluster + "-replica", replicas})
}

// lookNames logs in by every name at every port, as each infra node's dnsmasq has it.
// That nobody answers at a host that is off the cells by address say.
func (m matrix) lookNames(ctx context.Context) (cells int, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var wrong []error
	fault := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		wrong = append(wrong, err)
	}
	for _, dns := range m.infra {
		if dns == m.down {
			continue
		}
		for _, n := range m.names() {
			var want []string
			for _, h := range n.to {
				want = append(want, h.IP)
			}
			slices.Sort(want)
			got := ask(ctx, dns, n.name+suffix)
			for tries := 1; tries < 3 && got == "" && len(want) > 0; tries++ {
				got = ask(ctx, dns, n.name+suffix) // no answer in time is none that is wrong
			}
			if got != strings.Join(want, " ") {
				fault(fmt.Errorf("on %s %s leads to %q, not %q", dns.Name, n.name, got, want))
				continue
			}
			for _, p := range accessPorts {
				var could []string
				for _, h := range n.to {
					could = append(could, m.wanted(h, p.port)...)
				}
				if len(could) == 0 {
					continue
				}
				cells++
				wg.Go(func() {
					answer, err := loginByName(ctx, dns, n.name+suffix, p.port, accessUser, accessSecret, "select pg_postmaster_start_time()::text")
					if err != nil || !slices.ContainsFunc(could, func(member string) bool { return answer == m.starts[member] }) {
						fault(fmt.Errorf("%s:%d by %s: %q answered, expected %v: %w", n.name, p.port, dns.Name, answer, could, err))
					}
				})
			}
			wg.Wait()
		}
	}
	return cells, errors.Join(wrong...)
}

// addresses are the virtual address and each node's.
func addresses() []*lab.Host {
	return append([]*lab.Host{{Name: "the virtual address", IP: vip}}, hosts.Nodes...)
}

// wanted says who may answer at an address and port: members, or nobody.
func (m matrix) wanted(h *lab.Host, port int) []string {
	var replicas []string
	for i, n := range hosts.Nodes {
		if member := fmt.Sprintf("%s-%d", cluster, i+1); n != m.down && member != m.leader {
			replicas = append(replicas, member)
		}
	}
	switch {
	case h == m.down:
		return nil
	case port == 5433, port == 5436:
		return []string{m.leader}
	case port == 5434, port == 5438:
		return replicas
	case h.IP == vip:
		return []string{m.leader}
	}
	return []string{cluster + "-" + strings.TrimPrefix(h.Name, "pg")}
}

// cell is one login; the error says what is not as it must be.
func (m matrix) cell(ctx context.Context, h *lab.Host, port int, pooled bool, user, password string) error {
	answer, err := login(ctx, h, port, user, password, "postgres", place)
	want := m.wanted(h, port)
	if user != accessUser || password != accessSecret {
		var said *pgconn.PgError
		switch {
		case err == nil:
			return fmt.Errorf("let in by %s", answer)
		case len(want) == 0:
			return nil
		case !errors.As(err, &said) || !refusals[pooled].MatchString(said.Message):
			return fmt.Errorf("expected to be told %s: %w", refusals[pooled], err)
		}
		return nil
	}
	if len(want) == 0 {
		if err == nil {
			return fmt.Errorf("%s answered; the host is off", answer)
		}
		return nil
	}
	if err != nil {
		return err
	}
	var could []string
	for _, member := range want {
		role, way := "replica", "direct"
		if member == m.leader {
			role = "primary"
		}
		if pooled {
			way = "pooled"
		}
		could = append(could, role+"|"+way+"|"+m.starts[member])
	}
	if !slices.Contains(could, answer) {
		return fmt.Errorf("%s answered, expected %s", answer, strings.Join(could, " or "))
	}
	return nil
}

// look tries every cell once.
func (m matrix) look(ctx context.Context) (cells int, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var wrong []error
	slots := make(chan struct{}, 8)
	for _, h := range addresses() {
		for _, p := range accessPorts {
			for _, who := range []struct{ what, user, password string }{
				{"with its password", accessUser, accessSecret},
				{"with a wrong password", accessUser, accessSecret + "x"},
				{"who was dropped", accessDropped, accessSecret},
			} {
				cells++
				wg.Go(func() {
					slots <- struct{}{}
					defer func() { <-slots }()
					if err := m.cell(ctx, h, p.port, p.pooled, who.user, who.password); err != nil {
						mu.Lock()
						wrong = append(wrong, fmt.Errorf("%s:%d, a user %s: %w", h.Name, p.port, who.what, err))
						mu.Unlock()
					}
				})
			}
		}
	}
	wg.Wait()
	return cells, errors.Join(wrong...)
}

// accessIs waits until every cell says what it must, and keeps it for a second look.
func accessIs(ctx context.Context, t *testing.T, when string, down *lab.Host, infra []*lab.Host) {
	t.Helper()
	began := time.Now()
	cells, looks := 0, 0
	ok(t, fleet.Until(ctx, time.Minute, "every way in to be as it must "+when, func(ctx context.Context) error {
		m := matrix{starts: map[string]string{}, down: down, infra: infra}
		var err error
		if m.leader, err = hosts.Leader(ctx, cluster); err != nil {
			return err
		}
		for i, h := range hosts.Nodes {
			if h == down {
				continue
			}
			start, err := login(ctx, h, 5432, accessUser, accessSecret, "postgres", "select pg_postmaster_start_time()::text")
			if err != nil {
				return err
			}
			m.starts[fmt.Sprintf("%s-%d", cluster, i+1)] = start
		}
		for range 2 {
			looks++
			byAddress, err := m.look(ctx)
			byName, err2 := m.lookNames(ctx)
			if cells = byAddress + byName; err != nil || err2 != nil {
				return errors.Join(err, err2)
			}
		}
		return nil
	}))
	t.Logf("%s: %d cells as they must be, %s and %d looks later", when, cells, time.Since(began).Round(10*time.Millisecond), looks)
}

// writers are samplers through the read-write services of every node: those that go
// past poolers say which server took the row, the others that none was in recovery. Each has
// written when startWriters returns: a move that came before would be none to them.
type writers struct{ direct, pooled []*probe.Sampler }

func startWriters(ctx context.Context, t *testing.T) writers {
	t.Helper()
	var w writers
	for i := range hosts.Nodes {
		for _, port := range []int{5436, 5433} {
			target := service(ctx, t, i, port)
			target.Patience, target.Dial = 10*time.Second, time.Second
			s := probe.Start(ctx, target, 100*time.Millisecond, 25, nil)
			if port == 5436 {
				w.direct = append(w.direct, s)
			} else {
				w.pooled = append(w.pooled, s)
			}
		}
	}
	ok(t, fleet.Until(ctx, 20*time.Second, "a write through each service of each node", func(context.Context) error {
		for _, s := range slices.Concat(w.direct, w.pooled) {
			if c := probe.Count(s.Samples()); c[probe.Written] == 0 {
				return fmt.Errorf("one of them has %v", c)
			}
		}
		return nil
	}))
	return w
}

// judge: R3 for each sampler, R2 for all together.
func (w writers) judge(t *testing.T, confirmed time.Time) {
	t.Helper()
	direct, pooled := stopAll(w.direct), stopAll(w.pooled)
	checkLeaks(t, direct, confirmed)
	checkLeaks(t, pooled, confirmed)
	for i := range hosts.Nodes {
		t.Logf("writes through %s: 5436 %v, 5433 %v", hosts.Nodes[i].Name, probe.Count(direct[i]), probe.Count(pooled[i]))
		said := map[string]int{}
		for _, s := range pooled[i] {
			if s.Err != nil {
				said[s.Err.Error()]++
			}
		}
		t.Log(said)
	}
	if turns := probe.Turns(slices.Concat(direct...)); len(turns) != 2 {
		t.Errorf("one move, and writes were taken in %d turns: %v", len(turns), turns)
	}
}

// TestAccessMatrix: every address, port and kind of login says what it must, before and
// after a switchover and a crash, and the same with every controller stopped. One
// virtual address and one server for writes throughout (R2), and no write in recovery (R3).
func TestAccessMatrix(t *testing.T) {
	ctx := begin(t)
	statusReady(ctx, t)
	infra := withInfra(ctx, t)
	namesUnder(ctx, t)
	for _, user := range []string{accessUser, accessDropped} {
		addUser(ctx, t, user, accessSecret)
	}
	t.Cleanup(func() {
		_, _ = hosts.Pgctrl(context.Background(), "user", "remove", cluster, accessUser, "--confirm", accessUser)
	})
	for _, h := range addresses() {
		for _, p := range accessPorts {
			ok(t, fleet.Until(ctx, 5*time.Second, accessDropped+" to log in", func(ctx context.Context) error {
				_, err := login(ctx, h, p.port, accessDropped, accessSecret, "postgres", place)
				return err
			}))
		}
	}
	must[string](t)(hosts.Pgctrl(ctx, "user", "remove", cluster, accessDropped, "--confirm", accessDropped))
	accessIs(ctx, t, "before", nil, infra)

	round := func(after string) {
		from, to := leaderAndNext(ctx, t)
		address, asked := observeVIP(t), anyMove()
		at, w := confirmation(ctx, t, to), startWriters(ctx, t)
		ok(t, hosts.Switchover(ctx, cluster, from, to))
		confirmed := wait(ctx, t, at, 20*time.Second)
		ok(t, hosts.Whole(ctx, cluster, time.Minute))
		accessIs(ctx, t, "after a switchover"+after, nil, infra)
		w.judge(t, confirmed)
		address.judged(t, asked)

		from, asked = to, anyMove()
		address, w = observeVIP(t), startWriters(ctx, t)
		crashed := hosts.Node(from)
		hold(ctx, 2*time.Second) // writes land on it
		ok(t, crashed.PowerOff(ctx))
		ok(t, fleet.Until(ctx, time.Minute, "another member to lead", func(ctx context.Context) (err error) {
			if to, err = hosts.Leader(ctx, cluster); err == nil && (to == "" || to == from) {
				err = fmt.Errorf("leader %q", to)
			}
			return err
		}))
		accessIs(ctx, t, "after the crash of a host"+after, crashed, infra)
		ok(t, crashed.Boot(ctx))
		ok(t, hosts.Whole(ctx, cluster, 3*time.Minute))
		accessIs(ctx, t, "with that host back"+after, nil, infra)
		w.judge(t, time.Time{})
		address.judged(t, asked)
	}
	round("")
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "stop", "pgctrl-server"))
	t.Cleanup(func() { _, _ = hosts.Infra.Exec(context.Background(), "systemctl", "start", "pgctrl-server") })
	round(", every controller stopped")
	must[string](t)(hosts.Infra.Exec(ctx, "systemctl", "start", "pgctrl-server"))
	statusReady(ctx, t)
}

// addUser is what an administrator does who has a password to give.
func addUser(ctx context.Context, t *testing.T, user, password string, fields ...string) {
	t.Helper()
	ok(t, hosts.Infra.WriteFile(ctx, "/root/password", 0o600, []byte(password+"\n")))
	must[string](t)(hosts.Pgctrl(ctx, append([]string{"user", "add", cluster, user, "--password-file", "/root/password"}, fields...)...))
	must[string](t)(hosts.Infra.Exec(ctx, "rm", "/root/password"))
}
