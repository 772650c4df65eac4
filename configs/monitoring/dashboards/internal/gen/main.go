// Command gen writes the dashboards' JSON; it runs in the folder of package dashboards.
package main

import (
	"fmt"
	"os"

	"github.com/pgctrl/pgctrl/configs/monitoring/dashboards"
)

func main() {
	for _, d := range dashboards.All() {
		b, err := d.JSON()
		if err == nil {
			err = os.WriteFile(d.Name+".json", b, 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "gen:", err)
			os.Exit(1)
		}
	}
}
