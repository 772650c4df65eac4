package inventory

import (
	"crypto/md5"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgctrl/pgctrl/pkg/observed"
	"github.com/pgctrl/pgctrl/pkg/plan"
)

const mainUnit = "postgresql@15-main.service"

// debian makes Debian's own cluster, running.
func (m *machine) debian(start string) {
	m.write("/etc/postgresql/15/main/postgresql.conf", "# PostgreSQL\ndata_directory = '/var/lib/postgresql/15/main'\t# use data in another directory\n"+
		"port = 5432\t\t\t# (change requires restart)\nunix_socket_directories = '/var/run/postgresql'\n#port = 1\n")
	m.write("/etc/postgresql/15/main/start.conf", "# Automatic startup configuration\n#   auto: ...\n\n"+start+"\n")
	m.write("/var/lib/postgresql/15/main/PG_VERSION", "15\n")
	m.start("postgresql@.service", mainUnit)
}

var wants = Wants{PostgresPorts: []int{5432}}

func TestEmptyClusterIsTakenOver(t *testing.T) {
	m := newMachine(t)
	m.debian("auto")
	did, err := m.Takeover(t.Context(), wants)
	if err != nil || len(did) != 1 || !strings.Contains(did[0], "15/main") {
		t.Fatalf("%v, %v", did, err)
	}
	if st, _ := m.systemd.Status(t.Context(), mainUnit); st.Active() {
		t.Error("it still runs")
	}
	if startWord(m.read("/etc/postgresql/15/main/start.conf")) != "disabled" {
		t.Error("it starts again at the next boot")
	}
	if len(m.ran) != 2 || !strings.Contains(m.ran[0], "-d postgres") || !strings.Contains(m.ran[1], "-d template1") {
		t.Errorf("looked into: %v", m.ran)
	}
	m.ran = nil
	m.systemd.Acts()
	did, err = m.Takeover(t.Context(), wants)
	if err != nil || len(did) != 0 || len(m.ran) != 0 || len(m.systemd.Acts()) != 0 {
		t.Errorf("a second time: %v, %v, ran %v", did, err, m.ran)
	}
}

// Killed between start.conf and the stop: the next run looks again and finishes.
func TestTakeoverIsFinished(t *testing.T) {
	m := newMachine(t)
	m.debian("disabled")
	if did, err := m.Takeover(t.Context(), wants); err != nil || len(did) != 1 {
		t.Fatalf("%v, %v", did, err)
	}
	if st, _ := m.systemd.Status(t.Context(), mainUnit); st.Active() {
		t.Error("it still runs")
	}
}

func TestClusterThatIsNotTaken(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(m *machine)
		refused string // empty: left alone without a word
	}{
		"with data":                    {func(m *machine) { m.answers["-d postgres"] = "database shop\nrole clerk\n" }, "database shop, role clerk"},
		"with data in template1":       {func(m *machine) { m.answers["-d template1"] = "relation t\n" }, "relation t"},
		"not to be looked into":        {func(m *machine) { m.answers["psql"] = "FAIL peer authentication failed" }, "peer authentication failed"},
		"on another port":              {func(m *machine) { m.write("/etc/postgresql/15/main/conf.d/x.conf", "PORT=5439\n") }, ""},
		"on another port, by ALTER":    {func(m *machine) { m.write("/var/lib/postgresql/15/main/postgresql.auto.conf", "port = '5440'\n") }, ""},
		"down, but for a boot":         {func(m *machine) { m.stop(mainUnit) }, "starts at the next boot"},
		"down, and it had been put so": {func(m *machine) { m.stop(mainUnit); m.write("/etc/postgresql/15/main/start.conf", "manual\n") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.debian("auto")
			c.prepare(m)
			m.systemd.Acts()
			before := m.read("/etc/postgresql/15/main/start.conf")
			did, err := m.Takeover(t.Context(), wants)
			var r *plan.Refusal
			switch {
			case len(did) > 0 || len(m.systemd.Acts()) > 0 || m.read("/etc/postgresql/15/main/start.conf") != before:
				t.Errorf("it was touched: %v", did)
			case c.refused == "" && err != nil:
				t.Error(err)
			case c.refused != "" && (!errors.As(err, &r) || r.Reason != observed.PortInUse || !strings.Contains(r.Message, c.refused) || r.Next == ""):
				t.Errorf("refusal: %+v", err)
			}
		})
	}
}

func (m *machine) stop(unit string) {
	m.t.Helper()
	if err := m.systemd.Stop(m.t.Context(), unit); err != nil {
		m.t.Fatal(err)
	}
}

// shipped writes dpkg's database with the checksums of the files as they are.
func (m *machine) shipped(pkg string, paths ...string) {
	var b strings.Builder
	fmt.Fprintf(&b, "Package: other\nConffiles:\n /etc/x 00\n\nPackage: %s\nStatus: install ok installed\nConffiles:\n", pkg)
	for _, p := range paths {
		fmt.Fprintf(&b, " %s %x\n", p, md5.Sum([]byte(m.read(p))))
	}
	b.WriteString("Description: words\n more words\n\nPackage: last\n")
	m.write("/var/lib/dpkg/status", b.String())
}

func TestDefaultHAProxyIsStopped(t *testing.T) {
	setup := func() *machine {
		m := newMachine(t)
		m.write("/etc/haproxy/haproxy.cfg", "global\n")
		m.write("/etc/default/haproxy", "# nothing\n")
		m.shipped("haproxy", "/etc/default/haproxy", "/etc/haproxy/haproxy.cfg")
		m.start("haproxy.service", "haproxy.service")
		return m
	}
	m := setup()
	did, err := m.Takeover(t.Context(), Wants{HAProxy: true})
	if err != nil || len(did) != 1 {
		t.Fatalf("%v, %v", did, err)
	}
	if acts := m.systemd.Acts(); !cmp.Equal(acts, []string{"stop haproxy.service", "disable haproxy.service"}) {
		t.Errorf("acts: %v", acts)
	}
	if did, err := m.Takeover(t.Context(), Wants{HAProxy: true}); err != nil || len(did) != 0 || len(m.systemd.Acts()) != 0 {
		t.Errorf("a second time: %v, %v", did, err)
	}

	// Somebody's own configuration is left alone, and in the way only if it is.
	m = setup()
	m.write("/etc/haproxy/haproxy.cfg", "global\nlisten shop\n")
	if did, err := m.Takeover(t.Context(), Wants{HAProxy: true, Ports: []int{5433}}); err != nil || len(did) != 0 || len(m.systemd.Acts()) != 0 {
		t.Errorf("its own configuration: %v, %v", did, err)
	}
	m.listen(5433, 9, "haproxy", "haproxy.service")
	var r *plan.Refusal
	_, err = m.Takeover(t.Context(), Wants{HAProxy: true, Ports: []int{5433}})
	if !errors.As(err, &r) || r.Reason != observed.PortInUse || r.Next != "systemctl disable --now haproxy" {
		t.Errorf("in the way: %+v", err)
	}
}

func TestPortsThatAreOurs(t *testing.T) {
	m := newMachine(t)
	m.listen(5432, 1, "postgres", "patroni@c.service")
	m.listen(5433, 2, "haproxy", "haproxy@c.service")
	if did, err := m.Takeover(t.Context(), Wants{PostgresPorts: []int{5432}, Ports: []int{5433, 5434}}); err != nil || len(did) != 0 {
		t.Errorf("%v, %v", did, err)
	}
	m.listen(5434, 3, "postgres", "")
	var r *plan.Refusal
	if _, err := m.Takeover(t.Context(), Wants{Ports: []int{5434}}); !errors.As(err, &r) || r.Next != "" || !strings.Contains(r.Message, "pid 3") {
		t.Errorf("%+v", err)
	}
}

func TestNoHAProxyInstalled(t *testing.T) {
	m := newMachine(t)
	if did, err := m.Takeover(t.Context(), Wants{HAProxy: true}); err != nil || len(did) != 0 {
		t.Errorf("%v, %v", did, err)
	}
}

// TestDefaultMonitoringIsStopped: what the packages of Prometheus and its exporter start,
// as long as nobody changed what it does.
func TestDefaultMonitoringIsStopped(t *testing.T) {
	for unit, w := range map[string]Wants{"prometheus-postgres-exporter": {PostgresExporter: true}, "prometheus": {Prometheus: true}} {
		setup := func() *machine {
			m := newMachine(t)
			files := []string{"/etc/default/" + unit}
			if unit == "prometheus" {
				files = append(files, "/etc/prometheus/prometheus.yml")
			}
			for _, f := range files {
				m.write(f, "# nothing\n")
			}
			m.shipped(unit, files...)
			m.start(unit+".service", unit+".service")
			return m
		}
		m := setup()
		if did, err := m.Takeover(t.Context(), w); err != nil || len(did) != 1 || !cmp.Equal(m.systemd.Acts(), []string{"stop " + unit + ".service", "disable " + unit + ".service"}) {
			t.Errorf("%s: %v, %v", unit, did, err)
		}
		m = setup()
		m.write("/etc/default/"+unit, "ARGS=--somebodys-own\n")
		if did, err := m.Takeover(t.Context(), w); err != nil || len(did) != 0 || len(m.systemd.Acts()) != 0 {
			t.Errorf("%s with settings of its own: %v, %v", unit, did, err)
		}
	}
}

// TestTakeoverLeavesWhatWasEdited: `systemctl edit` leaves the package's files as they are.
func TestTakeoverLeavesWhatWasEdited(t *testing.T) {
	for _, file := range []string{"", "/etc/systemd/system/prometheus.service.d/override.conf", "/etc/systemd/system/prometheus.service"} {
		m := newMachine(t)
		m.write("/etc/prometheus/prometheus.yml", "global:\n")
		m.write("/etc/default/prometheus", "ARGS=\n")
		m.shipped("prometheus", "/etc/default/prometheus", "/etc/prometheus/prometheus.yml")
		m.start("prometheus.service", "prometheus.service")
		if file != "" {
			m.write(file, "[Service]\nEnvironment=X=1\n")
		}
		did, err := m.Takeover(t.Context(), Wants{Prometheus: true})
		if err != nil {
			t.Fatal(err)
		}
		if st, _ := m.systemd.Status(t.Context(), "prometheus.service"); st.Active() != (file != "") {
			t.Errorf("with %q: active %v, did %v", file, st.Active(), did)
		}
	}
}
