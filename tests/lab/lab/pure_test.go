package lab

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOptionsAreRefusedBeforeAnythingIsTouched(t *testing.T) {
	if o, err := (Options{}).withDefaults(); err != nil || o.Name != "lab" || len(o.Hosts) != 4 || o.Subnet != "10.10.10.0/24" {
		t.Errorf("zero value: %+v, %v", o, err)
	}
	for name, o := range map[string]Options{
		"dash in lab name":     {Name: "a-b"},
		"interface too long":   {Name: "abcdefghijkl"},
		"host name too long":   {Hosts: []string{"abcdefghijklmn"}},
		"host twice":           {Hosts: []string{"pg1", "pg1"}},
		"host named as switch": {Hosts: []string{"machine"}},
		"unknown image":        {Image: "potato"},
		"subnet of hosts":      {Subnet: "10.10.10.1/24"},
		"subnet too wide":      {Subnet: "10.10.0.0/16"},
	} {
		if _, err := o.withDefaults(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAddresses(t *testing.T) {
	got := assign("10.10.10.0/24", nil, []string{"infra1", "pg1", "client", "pg90", "pg91"})
	got = assign("10.10.10.0/24", got, []string{"pg2", "client", "proxy"}) // a second Up with more hosts moves nobody
	want := []hostState{
		{"infra1", "10.10.10.10"}, {"pg1", "10.10.10.11"}, {"client", "10.10.10.101"}, {"pg90", "10.10.10.100"},
		{"pg91", "10.10.10.102"}, {"pg2", "10.10.10.12"}, {"proxy", "10.10.10.103"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got := ipv6("10.10.99.11"); got != "fd10:10:99::11" {
		t.Error(got)
	}
	if got := mac("10.10.10.11"); got != "02:70:0a:0a:0a:0b" {
		t.Error(got)
	}
}

func TestSources(t *testing.T) {
	found := parseStanzas("Types: deb\n# a comment\nURIs: http://mirror/debian\nSuites: bookworm bookworm-updates\nComponents: main contrib\n" +
		"Signed-By:\n -----BEGIN\n .\n -----END\n\nTypes: deb\nEnabled: no\nURIs: http://off/debian\nSuites: bookworm\nComponents: main\n")
	found = append(found, parseLines(`# deb http://commented/debian bookworm main
deb [arch=amd64 signed-by=/x] http://mirror/debian-security bookworm-security main
deb-src http://mirror/debian bookworm main
deb http://others/pub bookworm main
deb http://others/debian bookworm-pgdg main
deb http://others/debian bookworm stable`)...)
	want := `deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror/debian trixie main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror/debian trixie-updates main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror/debian-security trixie-security main
`
	got := renderSources(found, "bookworm", "trixie")
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if hosts := sourceHosts(got); !slices.Equal(hosts, []string{"mirror"}) {
		t.Error(hosts)
	}
	if got := renderSources(nil, "bookworm", "bookworm"); !strings.Contains(got, "/debian bookworm main") {
		t.Errorf("no mirror found and no default: %q", got)
	}
}

func TestImageKeyFollowsTheRecipe(t *testing.T) {
	a := Images["bookworm"]
	b := Image{Suite: a.Suite, Packages: append(slices.Clone(a.Packages), "jq")}
	if a.key() == b.key() || a.key() != Images["bookworm"].key() || len(a.key()) != 12 {
		t.Error(a.key(), b.key())
	}
}

func TestHierarchies(t *testing.T) {
	hybrid := `30 29 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 29 0:27 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
32 29 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
33 29 0:28 /x /elsewhere rw,relatime - cgroup2 cgroup2 rw
`
	want := []hierarchy{{"/sys/fs/cgroup/unified", true}, {"/sys/fs/cgroup/systemd", false}}
	if got := parseHierarchies(hybrid); !reflect.DeepEqual(got, want) {
		t.Error(got)
	}
	if got := parseHierarchies("32 29 0:28 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n"); len(got) != 1 || !got[0].v2 {
		t.Error(got)
	}
}

func TestOnlyTheMachinesSystemdIsItsLeader(t *testing.T) {
	for status, want := range map[string]bool{
		"Name:\tsystemd\nState:\tS (sleeping)\nNSpid:\t4711\t1\n":          true,
		"Name:\tsystemd\nState:\tS (sleeping)\nNSpid:\t1\n":                false, // the machine's own
		"Name:\tsystemd-nspawn\nState:\tR (running)\nNSpid:\t4711\t1\n":    false, // still setting up
		"Name:\tsystemd-journald\nState:\tS (sleeping)\nNSpid:\t4720\t9\n": false,
		"Name:\tsystemd\nState:\tZ (zombie)\nNSpid:\t4711\t1\n":            false,
		"": false, // gone
	} {
		if got := isInit([]byte(status)); got != want {
			t.Errorf("%q: %v", status, got)
		}
	}
}

func TestMountsBelow(t *testing.T) {
	mounts := "1 0 8:1 / / rw - ext4 x rw\n2 1 0:9 / /c/labs/lab/pg1/root rw - overlay o rw\n3 2 0:9 / /c/labs/lab/pg1/root/tmp rw - tmpfs t rw\n" +
		"4 1 0:9 / /c/labs/lab2/pg1/root rw - overlay o rw\n"
	want := []string{"/c/labs/lab/pg1/root/tmp", "/c/labs/lab/pg1/root"}
	if got := mountsBelow(mounts, "/c/labs/lab"); !slices.Equal(got, want) {
		t.Error(got)
	}
}

func TestRulesetOfCuts(t *testing.T) {
	pg1, pg2 := &Host{Name: "pg1"}, &Host{Name: "pg2"}
	cuts := slices.Concat(pairs("pg1", nil, true), pairs("pg2", []*Host{pg1}, false))
	want := `table bridge lab
delete table bridge lab
table bridge lab {
	chain forward {
		type filter hook forward priority 0; policy accept;
		iifname "p-pg1" drop
		oifname "p-pg1" drop
		iifname "p-pg2" oifname "p-pg1" drop
	}
}
`
	if got := ruleset(cuts); got != want {
		t.Errorf("got\n%s", got)
	}
	if got := healed(slices.Clone(cuts), "pg1", []*Host{pg2}); len(got) != 2 {
		t.Errorf("healing the pair must keep the cut from everybody: %v", got)
	}
	if got := healed(slices.Clone(cuts), "pg1", nil); len(got) != 0 {
		t.Errorf("healing the host must end all its cuts: %v", got)
	}
}

func TestParseBoot(t *testing.T) {
	state, boot := parseBoot("UserspaceTimestampMonotonic=1000000\nFinishTimestampMonotonic=3500000\nSystemState=degraded\n")
	if state != "degraded" || boot != 2500*time.Millisecond {
		t.Error(state, boot)
	}
	if _, boot := parseBoot("SystemState=starting\nUserspaceTimestampMonotonic=1000000\nFinishTimestampMonotonic=0\n"); boot != 0 {
		t.Error("a boot that has not finished has no duration", boot)
	}
}

func TestAPackageIsFetchedOnce(t *testing.T) {
	t.Setenv("PGCTRL_LAB_CACHE", t.TempDir())
	want := filepath.Join(CacheDir(), "packages", "trixie", "thing", "usr/bin/thing")
	if err := os.MkdirAll(filepath.Dir(want), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(want, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	got, err := PackagedFile(t.Context(), "trixie", "thing", "usr/bin/thing", NewLog(&said))
	if got != want || err != nil || said.Len() > 0 {
		t.Errorf("%q, %v, said %q", got, err, said.String())
	}
}
