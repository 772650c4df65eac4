// Package second tests what needs programs that Debian has not: Loki and promtail, built
// from source once and cached (lab.Second). It runs in the second stage of the tests.
package second
