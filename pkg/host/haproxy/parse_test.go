package haproxy

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

func itoa(n int) string    { return strconv.Itoa(n) }
func portOf(l *lab) string { return itoa(l.port) }

func TestReplies(t *testing.T) {
	// As 2.6 answers: success, refusal, success, a table.
	got := replies("\nNo such server.\n\n\n1\n# head\nrow\n\n")
	if d := cmp.Diff([]string{"", "No such server.", "", "1\n# head\nrow"}, got); d != "" {
		t.Error(d)
	}
}

func TestParseProc(t *testing.T) {
	const text = `#<PID>          <type>          <reloads>       <uptime>        <version>
1162            master          5 [failed: 2]   0d00h02m07s     2.6.12-1+deb12u4
# workers
1271            worker          1               0d00h00m00s     2.6.12-1+deb12u4
# old workers
1233            worker          3               0d00h00m43s     2.6.12-1+deb12u4
1234            worker          4               0d00h01m43s     2.6.12-1+deb12u4
# programs
`
	got, err := parseProc(text)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(proc{Master: 1162, Reloads: 5, Failed: 2, Worker: 1271, Old: []int{1233, 1234}}, got); d != "" {
		t.Error(d)
	}
	// 2.4 and before write no failures.
	got, err = parseProc("1 master 7 0d00h02m07s 2.4\n# workers\n2 worker 0 0d00h00m00s 2.4\n")
	if err != nil || got.Reloads != 7 || got.Failed != 0 {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := parseProc("Unknown command\n"); err == nil {
		t.Error("no master, no error")
	}
}

func TestParseSessions(t *testing.T) {
	const text = `0x55cd48fecb80: proto=tcpv4 src=127.0.0.1:43842 fe=primary be=primary srv=m1 ts=00 epoch=0 age=2s calls=3 rq[f=808000h,i=0]
0x7feb10035cd0: proto=sockpair src=unix:2 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0x2 age=0s

`
	got := parseSessions(text)
	want := []session{{ID: "0x55cd48fecb80", Backend: "primary", Server: "m1"}, {ID: "0x7feb10035cd0", Backend: "<NONE>"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func twoServers() map[string]plan.Route {
	two := []plan.RouteServer{
		{Name: "m1", Address: "10.0.0.1", Port: 5432, CheckPort: 8008, Weight: 100},
		{Name: "m2", Address: "10.0.0.2", Port: 5432, CheckPort: 8008, Weight: 100},
	}
	return map[string]plan.Route{"primary": {Role: plan.RoutePrimary, Servers: two}, "replica": {Role: plan.RouteReplica, Servers: two}}
}

func TestCompose(t *testing.T) {
	targets := plan.Targets{"primary": {"m1": {Start: plan.Up}, "m2": {Start: plan.Down}}}
	const want = `0 primary 0 m1 - 2 0 100 100 0 1 0 1000 6 0 0 0 - 5432 - 0 8008 - - 0
0 primary 0 m2 - 0 0 100 100 0 1 0 0 6 0 0 0 - 5432 - 0 8008 - - 0
0 replica 0 m1 - 0 0 100 100 6 17 2 0 6 0 0 0 - 5432 - 0 8008 - - 0
0 replica 0 m2 - 2 0 100 100 0 1 0 1000 6 0 0 0 - 5432 - 0 8008 - - 0
`
	running, err := parseStates("1\n" + header + "\n9 replica 4 m1 10.9.9.9 0 0 50 50 6 17 2 0 6 0 0 0 - 7777 - 0 25102 - - 25102\n")
	if err != nil {
		t.Fatal(err)
	}
	got := Compose(twoServers(), targets, running)
	if d := cmp.Diff("1\n"+header+"\n"+want, got); d != "" {
		t.Error(d)
	}
}

// TestSameStates: only the time since the last change may differ.
func TestSameStates(t *testing.T) {
	line := func(columns ...string) string {
		row := strings.Fields("4 primary 1 m1 10.0.0.1 2 0 100 100 77 6 3 4 6 0 0 0 - 5432 - 0 0 - - 0")
		for i := 0; i < len(columns); i += 2 {
			n, _ := strconv.Atoi(columns[i])
			row[n] = columns[i+1]
		}
		return strings.Join(row, " ")
	}
	text := func(lines ...string) string { return "1\n" + header + "\n" + strings.Join(lines, "\n") }
	one := text(line(), line("3", "m2"))
	for i := range len(strings.Fields(line())) {
		other := text(line(), line("3", "m2", strconv.Itoa(i), "other"))
		if same := sameStates(one, other); same != (i == 9) {
			t.Errorf("column %d: same %v", i, same)
		}
	}
	for _, other := range []string{"", text(line()), one + "\n" + line("3", "m3"), text(line(), line("3", "m2")+" more"), text(line("3", "m2"), line())} {
		if sameStates(one, other) || sameStates(other, one) {
			t.Errorf("the same: %q", other)
		}
	}
	if !sameStates(one, one) {
		t.Error("not the same as itself")
	}
}

// TestColdLeave: with nothing to keep, a read-write server starts down and the
// others start up.
func TestColdLeave(t *testing.T) {
	got, err := parseStates(Conservative(twoServers(), nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []string{"m1", "m2"} {
		if got["primary"][m].Up || !got["replica"][m].Up {
			t.Errorf("%s: primary %+v, replica %+v", m, got["primary"][m], got["replica"][m])
		}
	}
}

func TestReadRoutesAndBinds(t *testing.T) {
	const cfg = `frontend primary
    bind :5433
    default_backend primary
backend primary
    option httpchk OPTIONS /primary
    server m1 10.0.0.1:5432 check port 8008 weight 100
    server _hold 127.0.0.1:1 backup
backend replica # comment
    option httpchk OPTIONS /replica?lag=16MB
    server m1 10.0.0.1:6432 check port 8008 weight 7
backend odd
    server m1 10.0.0.1:1
frontend stats
    bind 10.0.0.5:9101,[::1]:9101
    bind /run/x.sock
`
	got := ReadRoutes(cfg)
	want := map[string]plan.Route{
		"primary": {Role: plan.RoutePrimary, Servers: []plan.RouteServer{{Name: "m1", Address: "10.0.0.1", Port: 5432, CheckPort: 8008, Weight: 100}}},
		"replica": {Role: plan.RouteReplica, Servers: []plan.RouteServer{{Name: "m1", Address: "10.0.0.1", Port: 6432, CheckPort: 8008, Weight: 7}}},
		"odd":     {Role: plan.RoutePrimary, Servers: []plan.RouteServer{{Name: "m1", Address: "10.0.0.1", Port: 1}}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	binds, err := parseBinds(cfg)
	if d := cmp.Diff([]Bind{{2, "", 5433}, {14, "10.0.0.5", 9101}, {14, "::1", 9101}}, binds); d != "" || err != nil {
		t.Error(d, err)
	}
	// HAProxy's own way: the port is behind the last colon.
	binds, err = parseBinds("bind :::5433 v4v6\nbind fd00::9:5434\nbind [::]:5435\n")
	if d := cmp.Diff([]Bind{{1, "", 5433}, {2, "fd00::9", 5434}, {3, "", 5435}}, binds); d != "" || err != nil {
		t.Errorf("IPv6: %v\n%s", err, d)
	}
	if _, err := parseBinds("bind :http\n"); err == nil {
		t.Error("a bind without a number is no error")
	}
}

func TestCommandsOrder(t *testing.T) {
	u := plan.Unit{Routes: twoServers(), Targets: plan.Targets{
		"primary": {"m1": {Held: plan.Up}, "m2": {Held: plan.Down}}, "replica": {"m1": {Held: plan.Down}, "m2": {}}}}
	want := []string{"set server primary/m2 health down", "set server replica/m1 health down",
		"set server primary/m1 health up", "shutdown sessions server primary/m2"}
	if d := cmp.Diff(want, commands(u, true)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(want[:2], commands(u, false)); d != "" {
		t.Error(d)
	}
}

func TestParseListener(t *testing.T) {
	l, ok := parseListener("   0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000 100 0 0 10 0")
	if !ok || l != (listener{Host: "127.0.0.1", Port: 5432, Inode: "4711"}) {
		t.Errorf("%+v %v", l, ok)
	}
	l, ok = parseListener("   0: 00000000000000000000000000000000:1538 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 12 1")
	if !ok || l.Host != "" || !l.clashes(Bind{Host: "10.0.0.1", Port: 5432}) || l.clashes(Bind{Port: 5433}) {
		t.Errorf("%+v %v", l, ok)
	}
}

// TestWhatControllersWriteIsRead: a file that this package can't read is rejected on
// every node, however right HAProxy finds it.
func TestWhatControllersWriteIsRead(t *testing.T) {
	files, err := filepath.Glob("../../controllers/haproxy/testdata/*/*.cfg")
	if err != nil || len(files) < 3 {
		t.Fatalf("golden files %v, %v", files, err)
	}
	for _, f := range files {
		cfg, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		binds, err := parseBinds(string(cfg))
		if err != nil || len(binds) < 3 {
			t.Errorf("%s: %v, %v", f, binds, err)
		}
	}
}

func FuzzParsers(f *testing.F) {
	f.Add("1\n" + header + "\n2 primary 1 m1 127.0.0.1 2 0 1 1 4 15 3 4 6 0 0 0 - 25001 - 0 25101 - - 25101\n")
	f.Add("1 master 7 [failed: 1] 0d 2.6\n# old workers\n2 worker")
	f.Add("0x1: be=a srv=<none>\nserver a b:1\nbind x:1,")
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = parseStates(text)
		_, _ = parseProc(text)
		_, _ = parseBinds(text)
		_, _ = parseListener(text)
		for b, r := range ReadRoutes(text) {
			if b == "" || len(r.Servers) == 0 || r.Role == "" {
				t.Errorf("%q: %+v", b, r)
			}
		}
		for _, s := range parseSessions(text) {
			if !strings.HasPrefix(s.ID, "0x") {
				t.Error(s)
			}
		}
		replies(text)
	})
}
