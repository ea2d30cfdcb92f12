// Package cluster models what Proxmox VE adds to Debian machines as far as forming a cluster shows it: corosync's
// membership and votes, pmxcfs (the replicated file system at /etc/pve), the QDevice, and the programs that act on them.
//
// World is the model: all nodes and what they know of each other. It is a state machine behind one lock; every delay
// is waited on the lab's clock. Install puts the programs, units, files and mounts of a node on a machine. The package
// shares nothing with pxrun's own code about Proxmox: a simulator that shared its parsers would share its mistakes.
package cluster
