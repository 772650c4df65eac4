// Package etcdserver runs one etcd member inside our own program, for
// `pgctrl etcd run`. It is the only package, tests apart, that links etcd's
// server: every other program stays small and can't start a store by mistake.
//
// The member is a process and unit of its own, apart from `pgctrl server`, so
// that stopping, upgrading or crashing the controllers never touches the store on
// which Patroni elects.
package etcdserver
