package server

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// The collector lets garbage gather until what lives and what does not are roomy bytes
// together, and then at least leastGarbage percent of what lives. Nearly all that lives
// is the mirrors, which change little: so a small fleet is collected rarely, a large
// one in the memory that it needs anyway, and none pays for more than that.
const (
	roomy        = 160 << 20
	leastGarbage = 50
	mostGarbage  = 150
)

// garbage is how much of it, in percent of what lives, is let gather.
func garbage(live uint64) int {
	if live >= roomy {
		return leastGarbage
	}
	return int(min(max((roomy-live)*100/max(live, 1), leastGarbage), mostGarbage))
}

// saveMemory sets the collector, after each collection anew, unless the environment did.
func saveMemory() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(mostGarbage)
		tune(mostGarbage)
	}
}

// tune looks again after the next collection: that is when the runtime finds that
// nobody has the object.
func tune(now int) {
	type collected struct{ _ [64]byte }
	runtime.AddCleanup(new(collected), func(was int) {
		s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(s)
		percent := garbage(s[0].Value.Uint64())
		if percent != was {
			debug.SetGCPercent(percent)
		}
		tune(percent)
	}, now)
}
