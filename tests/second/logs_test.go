package second

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgctrl/pgctrl/internal/freeport"
	"github.com/pgctrl/pgctrl/pkg/controllers/log"
	"github.com/pgctrl/pgctrl/pkg/desired"
	"github.com/pgctrl/pgctrl/pkg/keys"
	"github.com/pgctrl/pgctrl/tests/lab/lab"
)

const golden = "../../pkg/controllers/log/testdata"

// programs builds them if need be.
func programs(t *testing.T) string {
	t.Helper()
	dir, err := lab.Second(t.Context(), lab.Loki, lab.NewLog(os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestProgramsAcceptTheGoldenFiles: the pure tests' files are what promtail and Loki take.
func TestProgramsAcceptTheGoldenFiles(t *testing.T) {
	dir := programs(t)
	for _, argv := range [][]string{
		{"promtail", "-check-syntax", "-config.file", golden + "/small.yml"},
		{"promtail", "-check-syntax", "-config.file", golden + "/rich.yml"},
		{"loki", "-verify-config", "-config.file", golden + "/loki.yml"},
	} {
		if out, err := exec.CommandContext(t.Context(), filepath.Join(dir, argv[0]), argv[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(argv, " "), err, out)
		}
	}
}

// TestEntriesOfRealPrograms has promtail read a journal with the lines that real programs
// wrote, and asks Loki for what arrived: labels, times and whole entries are those that
// the pure tests expect.
func TestEntriesOfRealPrograms(t *testing.T) {
	dir := programs(t)
	if err := lab.Install(t.Context(), lab.NewLog(os.Stderr), "systemd-journal-remote"); err != nil {
		t.Fatal(err)
	}
	for _, image := range []string{"bookworm", "trixie"} {
		t.Run(image, func(t *testing.T) {
			base := startLoki(t, dir)
			startPromtail(t, dir, base, image)
			want, err := os.ReadFile(filepath.Join(golden, "lines", image+".entries"))
			if err != nil {
				t.Fatal(err)
			}
			n := bytes.Count(want, []byte("\n"))
			var got []string
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
				if got = arrived(t, base); len(got) >= n || time.Now().After(deadline) {
					break
				}
			}
			if d := cmp.Diff(strings.Split(strings.TrimSpace(string(want)), "\n"), got); d != "" {
				t.Errorf("entries (-want +got):\n%s", d)
			}
		})
	}
}

// run starts a program until the test ends; what it says is shown when the test fails.
func run(t *testing.T, argv ...string) {
	t.Helper()
	var said bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "TZ=UTC") // where the lines were written
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killed
		if t.Failed() {
			t.Logf("%s:\n%s", argv[0], said.String())
		}
	})
}

func waitFor(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		res, err := http.Get(url)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer with 200: %v", url, err)
		}
	}
}

// startLoki runs the golden file on other ports and folders, and lets in lines of whatever
// age.
func startLoki(t *testing.T, dir string) (base string) {
	t.Helper()
	content, err := os.ReadFile(golden + "/loki.yml")
	if err != nil {
		t.Fatal(err)
	}
	port, data := freeport.Take(t), t.TempDir()
	text := strings.NewReplacer(
		"http_listen_port: 3100", fmt.Sprintf("http_listen_port: %d\n  http_listen_address: 127.0.0.1", port),
		"9095", strconv.Itoa(freeport.Take(t)), log.LokiData, data,
		"reject_old_samples_max_age: 168h", "reject_old_samples: false",
		"retention_enabled: true", "retention_enabled: false", "delete_request_store: filesystem", "",
	).Replace(string(content))
	file := filepath.Join(data, "loki.yml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, filepath.Join(dir, "loki"), "-config.file", file)
	base = fmt.Sprintf("http://127.0.0.1:%d", port)
	waitFor(t, base+"/ready")
	return base
}

// startPromtail runs the file of a node over a journal and logs of its own.
func startPromtail(t *testing.T, dir, base, image string) {
	t.Helper()
	home, port := t.TempDir(), freeport.Take(t)
	backups, err := os.ReadFile(filepath.Join(golden, "lines", image+"-backup.log"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "pg-test-backup.log"), backups, 0o644); err != nil {
		t.Fatal(err)
	}
	journal := writeJournal(t, filepath.Join(golden, "lines", image+".jsonl"))
	s := log.Shipper{
		Layout: keys.Default, Node: "pg1", Concern: "promtail", Number: 1, Endpoint: base, Port: port,
		Sources: []log.Source{{Cluster: "pg-test", Member: "pg-test-1", Streams: desired.LogStreams()}},
	}
	text := strings.NewReplacer(
		"  journal:\n", "  journal:\n    path: "+journal+"\n", "max_age: 168h", "max_age: 87600h",
		log.BackupLogs, home, "/var/lib/pgctrl-promtail", home,
	).Replace(s.Promtail())
	file := filepath.Join(home, "promtail.yml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, filepath.Join(dir, "promtail"), "-config.file", file)
	waitFor(t, fmt.Sprintf("http://127.0.0.1:%d/ready", port))
}

// writeJournal makes a journal of lines, as systemd keeps it.
func writeJournal(t *testing.T, lines string) (folder string) {
	t.Helper()
	content, err := os.ReadFile(lines)
	if err != nil {
		t.Fatal(err)
	}
	var export bytes.Buffer
	n := 0
	for line := range bytes.Lines(content) {
		var j struct {
			At                              int64
			Unit, Priority, Stream, Message string
		}
		if err := json.Unmarshal(line, &j); err != nil {
			t.Fatal(err)
		}
		n++
		fmt.Fprintf(&export, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=%032x\n_SYSTEMD_UNIT=%s\nPRIORITY=%s\n", j.At, n, 1, j.Unit, j.Priority)
		if j.Stream != "" {
			fmt.Fprintf(&export, "_STREAM_ID=%s\n", j.Stream)
		}
		export.WriteString("MESSAGE\n")
		_ = binary.Write(&export, binary.LittleEndian, uint64(len(j.Message))) // into memory
		export.WriteString(j.Message + "\n\n")
	}
	folder = t.TempDir()
	cmd := exec.CommandContext(t.Context(), "/lib/systemd/systemd-journal-remote", "-o", filepath.Join(folder, "lines.journal"), "-")
	cmd.Stdin = &export
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("systemd-journal-remote: %v\n%s", err, out)
	}
	return folder
}

// arrived is everything that Loki has, in the form of the golden file. Labels other than
// those expected are shown with the entry.
func arrived(t *testing.T, base string) (out []string) {
	t.Helper()
	day := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	// What is in memory alone is not looked for past some hours, and the lines are older.
	if res, err := http.Post(base+"/flush", "", nil); err == nil {
		res.Body.Close()
	}
	q := url.Values{
		"query": {`{node=~".+"}`}, "limit": {"5000"}, "direction": {"forward"},
		"start": {strconv.FormatInt(day.UnixNano(), 10)}, "end": {strconv.FormatInt(day.Add(24*time.Hour).UnixNano(), 10)},
	}
	res, err := http.Get(base + "/loki/api/v1/query_range?" + q.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		Data struct {
			Result []struct {
				Stream map[string]string
				Values [][2]string
			}
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	type entry struct {
		at    int64
		order string
		shown string
	}
	var all []entry
	for _, s := range answer.Data.Result {
		job, severity := s.Stream["job"], s.Stream["severity"]
		rest := unexpected(s.Stream)
		for _, v := range s.Values {
			at, _ := strconv.ParseInt(v[0], 10, 64) // Loki's own number
			all = append(all, entry{at, job + severity + v[1], fmt.Sprintf("%s %s %s%s %q", time.Unix(0, at).UTC().Format("15:04:05.000000"), job, severity, rest, v[1])})
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int {
		if a.at != b.at {
			return int(min(max(a.at-b.at, -1), 1))
		}
		return strings.Compare(a.order, b.order)
	})
	for _, e := range all {
		out = append(out, e.shown)
	}
	return out
}

// unexpected are the labels, besides job and severity, that are not those of the one
// cluster and node. What the agent says of its own has no cluster.
func unexpected(labels map[string]string) (out string) {
	want := map[string]string{"node": "pg1", "cluster": "pg-test", "member": "pg-test-1"}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if name != "job" && name != "severity" && labels[name] != want[name] {
			out += " " + name + "=" + labels[name]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if _, ok := labels[name]; !ok && labels["job"] != "pgagent" {
			out += " no " + name
		}
	}
	return out
}
