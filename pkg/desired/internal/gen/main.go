// Command gen writes the JSON schema of every document kind into a folder, and the
// page about all of them:
//
//	go run ./internal/gen ../../configs/schema ../../docs/documents.md
package main

import (
	"os"
	"path/filepath"

	"github.com/pgctrl/pgctrl/internal/docgen"
	"github.com/pgctrl/pgctrl/pkg/desired"
)

func main() {
	docgen.Main(func(paths []string) error {
		if err := schemas(paths[0]); err != nil {
			return err
		}
		return docgen.Pages(paths[1:], page())
	}, "FOLDER", "FILE")
}

func schemas(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, k := range desired.Kinds() {
		schema, err := desired.Schema(k.Name)
		if err != nil {
			return err
		}
		if err := docgen.Pages([]string{filepath.Join(folder, k.Name+".json")}, string(schema)); err != nil {
			return err
		}
	}
	return nil
}
