// Package version knows which version of pgctrl this program is, and which of two
// is older.
package version

import (
	"fmt"
	"slices"
)

// Version is set when the program is linked:
//
//	go build -ldflags "-X github.com/pgctrl/pgctrl/pkg/version.Version=v0.1.0"
var Version = "dev"

// String is the version, as it appears in plans, reports and --version.
func String() string { return Version }

// Older reports whether a is an older version than b. Only the three numbers of
// v0.1.0 count, not what follows them. A version without numbers, as of a build
// from a working tree, is neither older nor newer than any.
func Older(a, b string) bool {
	x, okX := numbers(a)
	y, okY := numbers(b)
	return okX && okY && slices.Compare(x[:], y[:]) < 0
}

func numbers(v string) (n [3]int, ok bool) {
	_, err := fmt.Sscanf(v, "v%d.%d.%d", &n[0], &n[1], &n[2])
	return n, err == nil
}
