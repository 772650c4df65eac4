// Package hookcmd runs the programs of operators that hooks name.
//
// A program is a file in one folder of the host. That the host's administrator put it there is all
// the leave that there is, so the folder, every folder above it and the program have to be root's
// and nobody else's to change (Open). Each folder is opened from the one above it and no symbolic
// link is followed, and what was looked at is what runs: the kernel is given the open file and not
// its name, so nothing can be put in its place in between. A script works like that as well: its
// interpreter is told to read /proc/self/fd/3, which is why $0 says so and PGCTRL_PROGRAM has the
// script's path.
//
// A program runs as root: programs that hooks need (ip, systemctl, a client of a pager with a key in a
// file) do, and whoever may put a file there is root already. No shell has a part in it. It
// gets the event on its standard input, a small environment without secrets, and no more
// time, memory and processes than it was given: a Driver runs it in a systemd unit of its own, whose
// main process is this package once more (Supervise), so that all of its processes end with it, the
// agent may be restarted meanwhile, and what it says is in the journal under its unit.
package hookcmd
