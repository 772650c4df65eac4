// Command gen writes the page about every command of pgctrl.
package main

import (
	"fmt"
	"os"

	"github.com/pgctrl/pgctrl/pkg/cli"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gen FILE")
		os.Exit(1)
	}
	if err := os.WriteFile(os.Args[1], []byte(cli.Reference()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
