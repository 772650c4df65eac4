package desired

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"
)

// Duration is a span of time as documents write it: "250ms", "10s", "1m30s",
// "24h", "7d". A bare number is refused, because nobody knows its unit.
type Duration time.Duration

// Size is a number of bytes as PostgreSQL writes it: "64kB", "16MB", "1GB"; a
// unit is 1024 of the one before.
type Size int64

// Std is the duration for package time.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Milliseconds is the duration in the unit of most configuration files.
func (d Duration) Milliseconds() int64 { return time.Duration(d).Milliseconds() }

// Seconds is the duration in whole seconds, which is all that Patroni knows.
func (d Duration) Seconds() int64 { return int64(time.Duration(d) / time.Second) }

// String is the one canonical spelling: the largest unit that divides it.
func (d Duration) String() string {
	t := time.Duration(d)
	switch {
	case t == 0:
		return "0s"
	case t%time.Hour == 0:
		return fmt.Sprintf("%dh", t/time.Hour)
	case t%time.Minute == 0:
		return fmt.Sprintf("%dm", t/time.Minute)
	case t%time.Second == 0:
		return fmt.Sprintf("%ds", t/time.Second)
	}
	return fmt.Sprintf("%dms", t/time.Millisecond)
}

// MarshalText implements encoding.TextMarshaler with the canonical spelling.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

const durationPattern = `^([0-9]{1,12}(ms|s|m|h|d))+$`

var (
	durationText = regexp.MustCompile(durationPattern)
	durationPart = regexp.MustCompile(`([0-9]+)(ms|s|m|h|d)`)
	durationUnit = map[string]time.Duration{
		"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
	}
)

// ParseDuration reads a duration.
func ParseDuration(s string) (Duration, error) {
	if !durationText.MatchString(s) {
		return 0, fmt.Errorf("expected a duration such as \"10s\" (units ms, s, m, h, d), found %q", s)
	}
	var sum time.Duration
	for _, part := range durationPart.FindAllStringSubmatch(s, -1) {
		n, err := strconv.ParseInt(part[1], 10, 64)
		unit := durationUnit[part[2]]
		if err != nil || n > int64((math.MaxInt64-sum)/unit) {
			return 0, fmt.Errorf("expected a duration of at most 292 years, found %q", s)
		}
		sum += time.Duration(n) * unit
	}
	return Duration(sum), nil
}

// Bytes is the size as a plain number.
func (z Size) Bytes() int64 { return int64(z) }

var sizeUnits = []struct {
	name  string
	bytes Size
}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}}

// String is the one canonical spelling: the largest unit that divides it.
func (z Size) String() string {
	for _, u := range sizeUnits {
		if z != 0 && z%u.bytes == 0 {
			return fmt.Sprintf("%d%s", z/u.bytes, u.name)
		}
	}
	return "0B"
}

// MarshalText implements encoding.TextMarshaler with the canonical spelling.
func (z Size) MarshalText() ([]byte, error) { return []byte(z.String()), nil }

const sizePattern = `^[0-9]{1,18}(B|kB|MB|GB|TB)$`

var sizeText = regexp.MustCompile(`^([0-9]{1,18})(B|kB|MB|GB|TB)$`)

// ParseSize reads a size.
func ParseSize(s string) (Size, error) {
	m := sizeText.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("expected a size such as \"16MB\" (units B, kB, MB, GB, TB), found %q", s)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	for _, u := range sizeUnits {
		if u.name == m[2] && err == nil && n <= math.MaxInt64/int64(u.bytes) {
			return Size(n) * u.bytes, nil
		}
	}
	return 0, fmt.Errorf("expected a size below 8 million TB, found %q", s)
}
