package address

import (
	"os/exec"
	"testing"
	"time"
)

// BenchmarkHoldAndDrop adds and removes an address, by the Manager and by the program
// ip, in turns on one host, and reports how many times longer the program takes. Go
// starts it like any agent would; both act in the same namespace.
func BenchmarkHoldAndDrop(b *testing.B) {
	w := newWorldFor(b, v4)
	ip := func(args ...string) {
		b.Helper()
		if out, err := exec.Command("ip", append([]string{"-n", w.Name("own")}, args...)...).CombinedOutput(); err != nil {
			b.Fatalf("ip: %v: %s", err, out)
		}
	}
	var hold, drop, refresh, add, del time.Duration
	timed := func(sum *time.Duration, f func()) {
		start := time.Now()
		f()
		*sum += time.Since(start)
	}
	must := func(_ bool, err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		timed(&hold, func() { must(w.m.Hold(b.Context(), w.a, 5*time.Second)) })
		timed(&refresh, func() { must(w.m.Hold(b.Context(), w.a, 5*time.Second)) })
		timed(&drop, func() { must(w.m.Drop(b.Context(), w.a)) })
		timed(&add, func() { ip("addr", "add", w.a.Address, "dev", "eth0", "valid_lft", "5", "preferred_lft", "5") })
		timed(&del, func() { ip("addr", "del", w.a.Address, "dev", "eth0") })
	}
	micro := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(micro(hold), "µs/hold")
	b.ReportMetric(micro(refresh), "µs/refresh")
	b.ReportMetric(micro(drop), "µs/drop")
	b.ReportMetric(micro(add)/micro(hold), "ip-add/hold")
	b.ReportMetric(micro(del)/micro(drop), "ip-del/drop")
}
