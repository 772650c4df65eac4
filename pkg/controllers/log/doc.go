// Package log plans how a cluster's logs get to Loki: promtail on every node that runs
// anything of a cluster, Loki on nodes with role infra.
package log
