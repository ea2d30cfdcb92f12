// Package ha is the HA manager of the lab's nodes: the cluster resource manager (CRM), the local resource managers (LRM)
// and their watchdogs as state machines with the rounds and timings of the real ones, and the programs that show and
// command them (reference §5). Everything that the real daemons keep in /etc/pve is kept there, through each node's own
// mount, so that a lost quorum, a partition or a dead pmxcfs acts by itself. Guests are behind an interface.
package ha
