// Package configs carries the files that the programs install: systemd units.
package configs

import (
	"embed"
	"fmt"
)

//go:embed systemd/*.service
var files embed.FS

// Unit returns a systemd unit by its file name, such as "pgctrl-server.service".
func Unit(name string) ([]byte, error) {
	b, err := files.ReadFile("systemd/" + name)
	if err != nil {
		return nil, fmt.Errorf("read unit %s: %w", name, err)
	}
	return b, nil
}
