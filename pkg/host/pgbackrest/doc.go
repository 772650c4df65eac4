// Package pgbackrest runs pgBackRest for one host's clusters: what a repository holds, the
// stanza, a backup in a unit of its own, and the archive.
//
// pgBackRest decides what a backup is, whether it is whole, and what retention no longer
// keeps. Nothing here reads a repository by itself. It is run as PostgreSQL's user, with the
// cluster's own file and nothing beside it, so no variable of the agent's reaches it.
//
// # A backup outlives the agent
//
// It may take hours, so it is a transient systemd unit and an agent that was started anew
// finds it by its name. Which step it is for stands in the unit's description while it is
// there, and for ever in the backup itself as an annotation: also after the host was booted
// it can be told whether a step's backup was made.
//
// It does not outlive the agent's attention: systemd ends it when nobody has said Keep for
// plan.BackupLost. An agent that is cut off, hangs or is gone must not leave one running,
// since whoever else shares the repository can't see it.
//
// # How far it is
//
// pgBackRest writes that into its lock file once a second, in hundredths of a percent (2.45);
// asking "info" for it would ask the repository each time.
package pgbackrest
