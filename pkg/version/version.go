// Package version knows which version of pgctrl this program is.
package version

// Version is set when the program is linked:
//
//	go build -ldflags "-X github.com/pgctrl/pgctrl/pkg/version.Version=v0.1.0"
var Version = "dev"

// String is the version, as it appears in plans, reports and --version.
func String() string { return Version }
