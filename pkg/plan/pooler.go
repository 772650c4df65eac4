package plan

// PoolerDir is the folder of a cluster's PgBouncer socket, which its file names and
// the agent asks the console through.
func PoolerDir(cluster string) string { return PoolersDir + "/" + cluster }

// PoolersDir holds a folder for each cluster's PgBouncer.
const PoolersDir = "/run/pgbouncer-pgctrl"

// Pooler is the program of a unit that is a member's PgBouncer.
const Pooler = "pgbouncer"
