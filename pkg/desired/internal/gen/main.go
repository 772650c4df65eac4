// Command gen writes the JSON schema of every document kind into a folder:
//
//	go run ./internal/gen ../../configs/schema
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/pgctrl/pgctrl/pkg/desired"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gen FOLDER")
		os.Exit(1)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, k := range desired.Kinds() {
		schema, err := desired.Schema(k.Name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, k.Name+".json"), schema, 0o644); err != nil {
			return err
		}
	}
	return nil
}
