package pgbackrest

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/pgctrl/pgctrl/pkg/plan"
)

// Set is one backup as who restores it has to know it.
type Set struct {
	Label string
	// Size is what it takes when it is restored, in bytes.
	Size int64
	// FirstWAL and LastWAL are the segments that it needs to be consistent.
	FirstWAL, LastWAL string
	// Archive is the name of the folder that has its database's WAL, such as 15-1.
	Archive string
	// Tablespaces are the names of those that it has.
	Tablespaces []string
}

// ParseSet reads what "info --set=LABEL --output=json" prints.
func ParseSet(out []byte, stanza, label string) (Set, error) {
	var all []struct {
		infoStanza
		Archive []struct {
			Database infoRef `json:"database"`
			ID       string  `json:"id"`
		} `json:"archive"`
		Backup []struct {
			infoBackup
			Tablespace []struct {
				Name string `json:"name"`
			} `json:"tablespace"`
		} `json:"backup"`
	}
	if err := json.Unmarshal(out, &all); err != nil {
		return Set{}, fmt.Errorf("read what pgbackrest info says of %s: %w", label, err)
	}
	for _, s := range all {
		if s.Name != stanza {
			continue
		}
		for _, b := range s.Backup {
			if b.Label != label {
				continue
			}
			set := Set{Label: label, Size: b.Info.Size, FirstWAL: b.infoBackup.Archive.Start, LastWAL: b.infoBackup.Archive.Stop}
			for _, a := range s.Archive {
				if a.Database == b.Database {
					set.Archive = a.ID
				}
			}
			for _, t := range b.Tablespace {
				set.Tablespaces = append(set.Tablespaces, t.Name)
			}
			slices.Sort(set.Tablespaces)
			if set.Archive == "" || set.FirstWAL == "" {
				return Set{}, fmt.Errorf("the archive of backup %s is not there", label)
			}
			return set, nil
		}
	}
	return Set{}, fmt.Errorf("the repository has no backup %s", label)
}

// Failed is what an exit code of pgBackRest means, with its own words, for those who run it
// by themselves.
func Failed(what, cluster, node string, code int, output string) *plan.Refusal {
	return failed(what, cluster, node, code, output)
}

// Folders are what pgBackRest of a cluster has on this host: the repository where that is a
// folder, its spool, its locks; and PostgreSQL's data.
func Folders(cluster string) ([]string, error) {
	c, err := readConfig(cluster)
	if err != nil {
		return nil, err
	}
	out := []string{c.get(cluster, "spool-path", "/var/spool/pgbackrest"), c.locks(cluster)}
	if folder, is := c.local(cluster); is {
		out = append(out, folder)
	}
	if data := c.get(cluster, "pg1-path", ""); data != "" {
		out = append(out, data)
	}
	return out, nil
}
