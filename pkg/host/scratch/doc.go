// Package scratch restores a backup beside a cluster and has a PostgreSQL recover it that
// nobody can connect to: to prove that it can be restored, or to have the data ready that an
// in-place restore puts in place of the cluster's own.
//
// It goes in two stages, each a transient systemd unit that outlives the agent and is ended
// when nobody has said Keep for plan.BackupLost, as a backup is:
//
//   - Fetch copies the backup with pgBackRest into <dir>/data and, for an offline restore,
//     every segment of WAL since then into <dir>/wal. It looks for room before.
//   - Recover runs PostgreSQL on <dir>/data until the target is reached and it is promoted,
//     asks what it has, shuts it down cleanly, and reads every page against its checksum.
//
// The programs in the units are this one again (pgagent scratch fetch, pgagent scratch
// recover), as PostgreSQL's user.
//
// # What it can't do
//
// PostgreSQL in it listens on a socket in a folder that is its user's alone, sends no WAL
// anywhere, loads no library by itself, and starts no subscription. With Offline its unit has
// no network, no sight of the repository, of pgBackRest's settings, of the cluster's own data
// or of the sockets of the host's other servers, and may write nowhere but in its folder.
//
// # What is in the folder
//
//	order.json     whose it is; written first, so that nothing else is ever removed
//	data/, wal/    the data directory, and the WAL of an offline restore
//	s/             the socket
//	fetched.json   what the first stage found
//	at.json        how far it is
//	failed.json    why a stage ended, as plan.Refusal
//	result.json    observed.Recovered; written last
package scratch
